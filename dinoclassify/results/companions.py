"""The files that belong to an image, such as its RAW and its sidecars, and the rows of the images of one shot."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from dinoclassify.discovery.filters import IMAGE_SUFFIXES, RAW_SUFFIXES
from dinoclassify.results.image_file import FindFile
from dinoclassify.results.sidecars.formats import FORMATS
from dinoclassify.storage.atomic import resolve_folder
from dinoclassify.types.prediction import Prediction

# .aae: edits of Apple Photos. .pp3: RawTherapee. .dop: DxO. .on1: ON1. .acr: Camera Raw. .thm .wav: a thumbnail and the
# sound of a camera. .mov: a Live Photo. Google Takeout writes .json, as we do.
_OTHER_PROGRAMS = frozenset({".aae", ".pp3", ".dop", ".on1", ".acr", ".thm", ".wav", ".mov"})
_COMPANION_SUFFIXES = _OTHER_PROGRAMS.union(f".{name}" for name in FORMATS)
_IMAGES = IMAGE_SUFFIXES | RAW_SUFFIXES
_FOLDERS = 8  # listings in memory


@dataclass(frozen=True, slots=True)
class Companions:
    """Names of files in the folder of an image: ``names`` go along with it.

    ``shared`` belong as well to the images in ``alike``, which share the stem but are not of one shot, and so stay.
    """

    names: Sequence[str] = ()
    shared: Sequence[str] = ()
    alike: Sequence[str] = ()


FindCompanions = Callable[[str], Companions]


def companion_finder(moved: Mapping[str, Collection[str]] | None = None) -> FindCompanions:
    """A function that gives the companions of an image, and raises OSError if its folder cannot be listed.

    If one of the images that share a stem is a RAW, they are one shot, and companions of each other. If several images
    share a stem and none is a RAW, copies and links each get ``x.xmp``; in a move it stays where it is.

    Args:
        moved: the names of the images moved in this run, by their paths without suffix; None if images are not moved.
            When images are moved, symbolic links are not companions.
    """
    by_stem = _lister(links=moved is None)

    def find(image: str) -> Companions:
        """Find the companions of one image."""
        folder, name = os.path.split(image)
        names, stem = by_stem(folder), os.path.splitext(name)[0]
        of_stem = names.get(stem, ())
        shot = shot_of(name, of_stem)
        own = [other for other in shot if other != name]
        # a.jpg.xmp has the stem a.jpg
        own += [other for member in shot for other in names.get(member, ()) if _suffix(other) in _COMPANION_SUFFIXES]
        shared = [other for other in of_stem if _suffix(other) in _COMPANION_SUFFIXES]
        if moved is None or is_raw(name) or len(shot) > 1:
            return Companions(own + shared)
        images = (other for other in of_stem if is_image(other))
        alike = {*images, *moved.get(os.path.join(folder, stem), ())} - {name}
        return Companions(own, shared, sorted(alike)) if alike else Companions(own + shared)

    return find


def shot_finder() -> Callable[[str], bool]:
    """A function that tells whether an image shares its shot with others; False if its folder cannot be listed."""
    by_stem = _lister(links=True)

    def is_of_shot(image: str) -> bool:
        folder, name = os.path.split(image)
        try:
            names = by_stem(folder)
        except (OSError, ValueError):
            return False
        return len(shot_of(name, names.get(os.path.splitext(name)[0], ()))) > 1

    return is_of_shot


def _lister(*, links: bool) -> Callable[[str], Mapping[str, Sequence[str]]]:
    """A function that gives the names of images and possible companions in a folder, by their stems."""

    @lru_cache(_FOLDERS)
    def by_stem(folder: str) -> Mapping[str, Sequence[str]]:
        names_by_stem = defaultdict(list)
        with os.scandir(folder or os.curdir) as entries:
            for entry in entries:
                stem, suffix = os.path.splitext(entry.name)
                if suffix.lower() in _COMPANION_SUFFIXES | _IMAGES and entry.is_file(follow_symlinks=links):
                    names_by_stem[stem].append(entry.name)
        return {stem: sorted(names) for stem, names in names_by_stem.items()}

    return by_stem


def shot_of(name: str, names: Sequence[str]) -> list[str]:
    """The images of one shot: ``name`` itself, and all images of ``names``, which share its stem, if one is a RAW."""
    images = list(filter(is_image, names))
    is_shot = name in images and any(map(is_raw, images))
    return images if is_shot else [name]


def count_shots(rows: Iterable[Prediction], find: FindFile) -> dict[str, int]:
    """The number of rows of each stem that has several. The stems of all images are in memory meanwhile."""
    counts = Counter(_stem(row, find) for row in rows)
    return {stem: count for stem, count in counts.items() if count > 1}


def together(
    rows: Iterable[Prediction], counts: Mapping[str, int] | None, find: FindFile
) -> Iterator[list[Prediction]]:
    """The rows in groups: those of one stem together, in memory until the last of them comes.

    The rows are those that `count_shots` counted; without ``counts`` each row is a group.
    """
    waiting: defaultdict[str, list[Prediction]] = defaultdict(list)
    for row in rows:
        stem = _stem(row, find) if counts else ""
        if not counts or stem not in counts:
            yield [row]
            continue
        waiting[stem].append(row)
        if len(waiting[stem]) == counts[stem]:
            yield waiting.pop(stem)
    yield from waiting.values()  # the file has changed since it was counted


def _stem(row: Prediction, find: FindFile) -> str:
    return os.path.splitext(resolve_folder(find(row)))[0]


def is_raw(name: str) -> bool:
    """Whether a name has the suffix of a camera's RAW."""
    return _suffix(name) in RAW_SUFFIXES


def is_image(name: str) -> bool:
    """Whether a name has the suffix of an image, so that the file may have a row of its own."""
    return _suffix(name) in _IMAGES


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()
