"""The files that go along with an image: its RAW, its sidecars, the sound or the short film of a camera."""

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from dinoclassify.discovery.filters import IMAGE_SUFFIXES, RAW_SUFFIXES

# .xmp .txt .json: what tag writes; .json is Google Takeout's, too. .aae: edits of Apple Photos. .pp3: RawTherapee.
# .dop: DxO. .on1: ON1. .acr: Camera Raw. .thm .wav: a thumbnail, and the sound, of a camera. .mov: a Live Photo.
_BESIDE = frozenset({".xmp", ".txt", ".json", ".aae", ".pp3", ".dop", ".on1", ".acr", ".thm", ".wav", ".mov"})
_IMAGES = IMAGE_SUFFIXES | RAW_SUFFIXES
_FOLDERS = 8  # whose names are in memory


@dataclass(frozen=True, slots=True)
class Companions:
    """Names of files in the folder of an image.

    ``names``: what goes along with it; ``shared``: what would, but that it is called like ``alike``, too: other images,
    none of its shot.
    """

    names: Sequence[str] = ()
    shared: Sequence[str] = ()
    alike: Sequence[str] = ()


FindCompanions = Callable[[str], Companions]
_ByStem = Callable[[str], Mapping[str, Sequence[str]]]


def companion_finder(moved: Mapping[str, Collection[str]] | None = None) -> FindCompanions:
    """A function that gives the companions of an image.

    Where a RAW is among the images that share a stem, all these images are one shot, and companions of each other;
    otherwise none of them is. Then ``x.xmp`` goes along with each copy or link, but with none of several to be moved.

    A folder is listed once, as long as no more than eight others come between. The function raises OSError where it
    cannot be listed.

    Args:
        moved: where images are moved, the names of those of the run by their stems, with their folders. Symbolic links
            are no companions then.
    """
    by_stem = _lister(links=moved is None)

    def find(image: str) -> Companions:
        folder, name = os.path.split(image)
        names, stem = by_stem(folder), os.path.splitext(name)[0]
        of_stem = names.get(stem, ())
        shot = shot_of(name, of_stem)
        own = [one for one in shot if one != name]
        own += [one for image in shot for one in names.get(image, ()) if _suffix(one) in _BESIDE]
        beside = [one for one in of_stem if _suffix(one) in _BESIDE]
        if moved is None or is_raw(name) or len(shot) > 1:
            return Companions(own + beside)
        images = (one for one in of_stem if is_image(one))
        alike = {*images, *moved.get(os.path.join(folder, stem), ())} - {name}
        return Companions(own, beside, sorted(alike)) if alike else Companions(own + beside)

    return find


def shot_finder() -> Callable[[str], bool]:
    """A function that tells whether an image is one of several of a shot; a folder that cannot be listed has none."""
    by_stem = _lister(links=True)

    def is_of_shot(image: str) -> bool:
        folder, name = os.path.split(image)
        try:
            names = by_stem(folder)
        except (OSError, ValueError):
            return False
        return len(shot_of(name, names.get(os.path.splitext(name)[0], ()))) > 1

    return is_of_shot


def _lister(*, links: bool) -> _ByStem:
    """A function that gives the names of images and what may go along with them in a folder, by their stems."""

    @lru_cache(_FOLDERS)
    def by_stem(folder: str) -> Mapping[str, Sequence[str]]:
        found = defaultdict(list)
        with os.scandir(folder or os.curdir) as entries:
            for entry in entries:
                stem, suffix = os.path.splitext(entry.name)
                if suffix.lower() in _BESIDE | _IMAGES and entry.is_file(follow_symlinks=links):
                    found[stem].append(entry.name)
        return {stem: sorted(names) for stem, names in found.items()}

    return by_stem


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
