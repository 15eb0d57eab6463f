"""Checks of PATHS before and after a run: a missing root would cost the rows of all images below it."""

import errno
import logging
import os
from collections.abc import Mapping, Sequence

from dinoclassify.discovery.filters import InputSelector, has_image_suffix
from dinoclassify.discovery.glob import glob_folder, matches
from dinoclassify.discovery.location import Kind, Location, is_glob, locate
from dinoclassify.discovery.store import has_match
from dinoclassify.errors import NoInputsError
from dinoclassify.storage.missing import why_missing
from dinoclassify.storage.remote.errors import failure
from dinoclassify.storage.remote.url import is_web

log = logging.getLogger(__name__)

_LISTS = (".txt", ".csv", ".tsv", ".lst", ".list")
_MOST_WORDS = 5  # in a name with blanks that was not quoted


def check_roots(paths: Sequence[str], selector: InputSelector) -> None:
    """Check that each path exists: that a folder can be listed, and that a glob or a store prefix has a match.

    A path with the suffix of an image, archive or table is not checked: if it is missing, it gets its row. Raises
    NoInputsError, which says what is missing, why, and what to do.
    """
    for number, path in enumerate(paths):
        if (trouble := _trouble(path, selector)) is not None:
            raise NoInputsError(_unquoted_blank(paths, number) or trouble)
    if len(paths) == 1 and paths[0].lower().endswith(_LISTS) and os.path.isfile(paths[0]):
        log.warning("%s is tried as an image: for a list of paths write --files-from %s", paths[0], paths[0])


def check_disks(disks: Mapping[int, str]) -> None:
    """Raise NoInputsError if a disk that `InputSelector` noted was unmounted since: its folder would look empty."""
    for device, folder in disks.items():
        if _device_at(folder) != device:
            raise NoInputsError(f"{folder} went away during the run; is its disk mounted?")


def _device_at(folder: str) -> int | None:
    """The device of a folder, or of the nearest one above that exists; None if it does not answer."""
    while True:
        try:
            return os.stat(os.path.join(folder, ".")).st_dev  # the dot: an automounter mounts it again
        except (FileNotFoundError, NotADirectoryError):
            folder = os.path.dirname(folder.rstrip("/")) or "."
        except OSError:
            return None


def _trouble(path: str, selector: InputSelector) -> str | None:
    """Why a path is missing, and the cure; None if it exists, or gets a row."""
    match locate(path).kind:
        case Kind.STDIN:
            return None
        case Kind.STORE:
            return _trouble_in_store(path, selector)
        case Kind.FOLDER:
            return _trouble_in_folder(path)
        case Kind.GLOB:
            return _trouble_in_glob(path, selector)
        case _:
            return None if is_web(path) or _gets_a_row(path) else _trouble_at(path)


def _gets_a_row(path: str) -> bool:
    """Whether the name of a path alone makes it an input, even if it is missing."""
    return has_image_suffix(path) or Location.parse(path).kind in {Kind.ARCHIVE, Kind.TABLE, Kind.MEMBER}


def _trouble_in_store(url: str, selector: InputSelector) -> str | None:
    if _gets_a_row(url) and not is_glob(url):
        return None
    try:
        if has_match(url, selector):
            return None
    except OSError as error:
        return f"{url} cannot be listed ({failure(error).message}): check its name and your access"
    return f"nothing matches {url}: check the pattern" if is_glob(url) else f"there is nothing at {url}: check its name"


def _trouble_in_folder(folder: str) -> str | None:
    try:
        with os.scandir(os.path.join(folder, ".")) as entries:  # the dot: the folder must be searchable, too
            next(entries, None)
    except OSError as error:
        return _not_listed(folder, error)
    return None


def _not_listed(folder: str, error: OSError) -> str:
    return f"{folder} cannot be listed ({error.strerror}): let this user read it, or leave it out"


def _trouble_in_glob(pattern: str, selector: InputSelector) -> str | None:
    errors: list[OSError] = []
    if next(matches(pattern, selector, errors.append), None) is not None:
        return None
    trouble = _not_listed(errors[0].filename, errors[0]) if errors else _trouble_at(glob_folder(pattern))
    return f"nothing matches {pattern}: {trouble or 'check the pattern'}"


def _trouble_at(path: str) -> str | None:
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return f"{path} {why_missing(path)}"
    except OSError as error:
        cure = "let this user reach it, or leave it out" if error.errno == errno.EACCES else "mend it, or leave it out"
        return f"{path} cannot be reached ({error.strerror}): {cure}"
    return None


def _unquoted_blank(paths: Sequence[str], number: int) -> str | None:
    """The message for a path that, joined with its neighbours, is an existing name with blanks; None if it is not."""
    for first in range(max(0, number - _MOST_WORDS), number + 1):
        for last in range(max(number, first + 1), min(len(paths), first + _MOST_WORDS)):
            whole = " ".join(paths[first : last + 1])
            if os.path.exists(whole):
                return f"{paths[number]} is not there, but '{whole}' is: quote a name that has blanks in it"
    return None
