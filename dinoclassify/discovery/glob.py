"""Globs, matched on this machine as a shell would, with ``**`` for any number of folders."""

import fnmatch
import itertools
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from dinoclassify.discovery.expand import expand
from dinoclassify.discovery.filters import InputSelector
from dinoclassify.discovery.location import is_glob, locate_image
from dinoclassify.discovery.walk import is_folder, walk
from dinoclassify.types.source import Source

log = logging.getLogger(__package__)  # one logger for the whole search, which `--watch` filters


def expand_glob(pattern: str, selector: InputSelector) -> Iterator[Source]:
    """The images that a glob matches.

    A file is taken as it matches. A folder that matches is walked, unless the pattern has ``**``, which matches what is
    below the folder itself. A folder that cannot be listed is itself yielded, and so is a file that the pattern names
    in a folder that cannot be entered.
    """
    matched, folder = False, glob_folder(pattern)
    with suppress(OSError):
        selector.disks.setdefault(os.stat(folder).st_dev, folder)
    errors: list[OSError] = []
    unlisted: set[str] = set()
    for path in matches(pattern, selector, errors.append):
        matched = True
        yield from _unlisted(errors, unlisted, selector)
        if not os.path.isdir(path):
            yield from expand(locate_image(path), selector)
        elif "**" not in pattern.split("/"):
            yield from map(Source, walk(path, selector))
    yield from _unlisted(errors, unlisted, selector)
    if not (matched or unlisted):
        log.warning("nothing matches %s", pattern)


def glob_folder(pattern: str) -> str:
    """The folder from which a glob is matched."""
    return os.path.dirname(re.split(r"[*?[]", pattern, maxsplit=1)[0]) or "."


def matches(pattern: str, selector: InputSelector, onerror: Callable[[OSError], None]) -> Iterator[str]:
    """The paths that match a glob, lazily; ``onerror`` is called for each folder that cannot be read."""
    parts = re.sub(r"(\*\*/)+", "**/", pattern).split("/")  # else some paths would match in two ways
    return _matches("", parts, selector, onerror)


def _unlisted(errors: list[OSError], known: set[str], selector: InputSelector) -> Iterator[Source]:
    """The folders of new ``errors``, which are cleared: each folder once, and none below another known one."""
    for error in errors:
        folder = error.filename.rstrip("/") or "/"
        is_new = known.isdisjoint(itertools.accumulate(folder.split("/"), "{}/{}".format))
        if is_new and selector.takes(f"{folder}/"):
            yield Source(folder)
        elif is_new:
            selector.leave_out("folder")
        known.add(folder)
    errors.clear()


def _matches(
    prefix: str, parts: Sequence[str], selector: InputSelector, onerror: Callable[[OSError], None]
) -> Iterator[str]:
    """The paths below ``prefix`` (empty, or ending in a slash) that match ``parts``, the components of a glob."""
    part, rest = parts[0], parts[1:]
    if part == "**":
        below = [prefix]
        while below:
            folder = below.pop()
            entries = _entries(folder, hidden=selector.hidden, onerror=onerror)
            inner = [f"{folder}{entry.name}/" for entry in entries if is_folder(entry, follow=False)]
            del entries  # there may be a million
            yield from _matches(folder, rest or ["*"], selector, onerror)
            below += reversed(inner)
    elif is_glob(part):
        for entry in _entries(prefix, hidden=selector.hidden or part.startswith("."), onerror=onerror):
            if fnmatch.fnmatchcase(entry.name, part.replace("[^", "[!")):
                if not rest:
                    yield prefix + entry.name
                elif is_folder(entry, follow=True):
                    yield from _matches(f"{prefix}{entry.name}/", rest, selector, onerror)
    elif rest:
        yield from _matches(f"{prefix}{part}/", rest, selector, onerror)
    elif _may_exist(prefix + part):
        yield prefix + part


def _may_exist(path: str) -> bool:
    """Whether a file exists, or may exist in a folder that cannot be entered."""
    try:
        os.lstat(path)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _entries(folder: str, *, hidden: bool, onerror: Callable[[OSError], None]) -> list["os.DirEntry[str]"]:
    """The entries of a folder, by name; none of a folder that is missing or cannot be read."""
    try:
        with os.scandir(folder or ".") as entries:
            visible = [entry for entry in entries if hidden or not entry.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        onerror(error)
        return []
    return sorted(visible, key=lambda entry: entry.name)
