"""PATHS before a run and after it: a root that is away would cost the rows of all that lies below it."""

import errno
import logging
import os
from collections.abc import Mapping, Sequence

from dinoclassify.discovery.archives import is_archive, split_key
from dinoclassify.discovery.containers import is_in_store
from dinoclassify.discovery.discover import glob_folder, is_pattern, matches
from dinoclassify.discovery.filters import InputSelector, has_image_suffix, is_glob
from dinoclassify.discovery.image_tables import is_table
from dinoclassify.discovery.path_list import STDIN
from dinoclassify.errors import NoInputsError
from dinoclassify.storage.missing import why_missing
from dinoclassify.storage.remote.object_store import failure, is_url
from dinoclassify.storage.remote.web import is_web

log = logging.getLogger(__name__)

_LISTS = (".txt", ".csv", ".tsv", ".lst", ".list")
_MOST_WORDS = 5  # in a name with blanks that was not quoted


def check_roots(paths: Sequence[str], selector: InputSelector) -> None:
    """See that each path is there: a folder that can be listed, a glob or a store prefix that has a first match.

    A path with the suffix of an image, archive or table passes unseen: where it is away, it gets its row.

    Raises:
        NoInputsError: one is away; the message says which, why, and what to do.
        UsageError: the scheme of a URL is unknown, or needs a package that is not installed.
    """
    for number, path in enumerate(paths):
        if (trouble := _trouble(path, selector)) is not None:
            raise NoInputsError(_unquoted_blank(paths, number) or trouble)
    if len(paths) == 1 and paths[0].lower().endswith(_LISTS) and os.path.isfile(paths[0]):
        log.warning("%s is tried as an image: for a list of paths write --files-from %s", paths[0], paths[0])


def check_disks(disks: Mapping[int, str]) -> None:
    """See that no disk went away since the search for inputs. It looks like a folder that has become empty.

    Args:
        disks: a folder on each device, as `InputSelector` notes them.

    Raises:
        NoInputsError: where a folder was, there is another device now.
    """
    for device, folder in disks.items():
        if _device_at(folder) != device:
            raise NoInputsError(f"{folder} went away during the run; is its disk mounted?")


def _device_at(folder: str) -> int | None:
    """The device of a folder, or of what is left of the way to it; None if it does not answer."""
    while True:
        try:
            return os.stat(os.path.join(folder, ".")).st_dev  # the dot: an automounter mounts it again
        except (FileNotFoundError, NotADirectoryError):
            folder = os.path.dirname(folder.rstrip("/")) or "."
        except OSError:
            return None


def _trouble(path: str, selector: InputSelector) -> str | None:
    """Why a path is away, and the cure; None if it is there, or gets a row."""
    if path == STDIN or is_web(path):
        return None
    if is_url(path):
        return _trouble_in_store(path, selector)
    if os.path.isdir(path):
        return _trouble_in_folder(path)
    if is_pattern(path):
        errors: list[OSError] = []
        return _no_match(path, errors) if next(matches(path, selector, errors.append), None) is None else None
    return None if _gets_a_row(path) else _trouble_at(path)


def _gets_a_row(path: str) -> bool:
    return has_image_suffix(path) or is_archive(path) or is_table(path) or split_key(path) is not None


def _trouble_in_store(url: str, selector: InputSelector) -> str | None:
    if _gets_a_row(url) and not is_glob(url):
        return None
    try:
        if is_in_store(url, selector):
            return None
    except OSError as error:
        return f"{url} cannot be listed ({failure(error).message}): check its name and your access"
    return f"nothing matches {url}: check the pattern" if is_glob(url) else f"there is nothing at {url}: check its name"


def _trouble_in_folder(folder: str) -> str | None:
    try:
        with os.scandir(os.path.join(folder, ".")) as entries:  # the dot: entries must be in reach, too
            next(entries, None)
    except OSError as error:
        return _not_listed(folder, error)
    return None


def _not_listed(folder: str, error: OSError) -> str:
    return f"{folder} cannot be listed ({error.strerror}): let this user read it, or leave it out"


def _no_match(pattern: str, errors: Sequence[OSError]) -> str:
    """Why a glob matches nothing."""
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
    """What to say if the path, put together with its neighbours, is a name with blanks in it."""
    for first in range(max(0, number - _MOST_WORDS), number + 1):
        for last in range(max(number, first + 1), min(len(paths), first + _MOST_WORDS)):
            whole = " ".join(paths[first : last + 1])
            if os.path.exists(whole):
                return f"{paths[number]} is not there, but '{whole}' is: quote a name that has blanks in it"
    return None
