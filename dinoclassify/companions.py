"""The files that go along with an image: its RAW, its sidecars, the sound or the short film of a camera."""

import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from dinoclassify.filters import IMAGE_SUFFIXES, RAW_SUFFIXES

# .xmp .txt .json: what tag writes; .json is Google Takeout's, too. .aae: edits of Apple Photos. .pp3: RawTherapee.
# .dop: DxO. .on1: ON1. .acr: Camera Raw. .thm .wav: a thumbnail, and the sound, of a camera. .mov: a Live Photo.
_BESIDE = frozenset({".xmp", ".txt", ".json", ".aae", ".pp3", ".dop", ".on1", ".acr", ".thm", ".wav", ".mov"})
_IMAGES = IMAGE_SUFFIXES | RAW_SUFFIXES
_FOLDERS = 8  # whose names are in memory

FindCompanions = Callable[[str], list[str]]


def companion_finder(*, links: bool) -> FindCompanions:
    """A function that gives the companions of an image: names of files in its folder, in order.

    They are called like it: ``x.xmp`` and ``x.jpg.xmp`` go along with ``x.jpg``. Where a RAW is among the images that
    share a stem, all these images are one shot, and companions of each other; otherwise none of them is.

    A folder is listed once, as long as no more than eight others come between. The function raises OSError where it
    cannot be listed.

    Args:
        links: take symbolic links to files, too.
    """

    @lru_cache(_FOLDERS)
    def by_stem(folder: str) -> Mapping[str, Sequence[str]]:
        found = defaultdict(list)
        with os.scandir(folder) as entries:
            for entry in entries:
                stem, suffix = os.path.splitext(entry.name)
                if suffix.lower() in _BESIDE | _IMAGES and entry.is_file(follow_symlinks=links):
                    found[stem].append(entry.name)
        return {stem: sorted(names) for stem, names in found.items()}

    def find(image: str) -> list[str]:
        folder, name = os.path.split(image)
        names = by_stem(folder)
        shot = shot_of(name, names.get(os.path.splitext(name)[0], ()))
        beside = [one for key in (os.path.splitext(name)[0], *shot) for one in names.get(key, ())]
        return [one for one in shot if one != name] + [one for one in beside if _suffix(one) in _BESIDE]

    return find


def shot_of(name: str, names: Sequence[str]) -> list[str]:
    """The images that are of one shot with an image, which is one of them.

    Args:
        name: of the image.
        names: of all that share its stem.
    """
    images = [one for one in names if _suffix(one) in _IMAGES]
    is_shot = name in images and any(is_raw(one) for one in images)
    return images if is_shot else [name]


def is_raw(name: str) -> bool:
    """Whether a name has the suffix of a camera's RAW."""
    return _suffix(name) in RAW_SUFFIXES


def is_image(name: str) -> bool:
    """Whether a companion may have a row of its own."""
    return _suffix(name) in _IMAGES


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()
