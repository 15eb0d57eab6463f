"""PATHS -> a lazy stream of `Source`: files, folders, archives, stores, globs and lists, filtered.

Nothing is held but the names of the folders being walked, so a million inputs cost next to no memory and a list on
stdin streams. Order is fixed: arguments as given, lists as written, the entries of a folder by name.
"""

import fnmatch
import itertools
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from dinoclassify.discovery.containers import expand_container, expand_path, expand_url, is_member, tables_of
from dinoclassify.discovery.filters import LINK, Filters, InputSelector, has_image_suffix, is_glob, take_shard_and_limit
from dinoclassify.discovery.path_list import STDIN, listed_paths, listed_source
from dinoclassify.errors import UsageError
from dinoclassify.storage.remote.object_store import is_url
from dinoclassify.storage.remote.web import is_web
from dinoclassify.types.source import Source

log = logging.getLogger(__name__)


def discover(
    paths: Iterable[str],
    filters: Filters | None = None,
    *,
    files_from: str | None = None,
    column: str | None = None,
    null: bool = False,
    private: bool = False,
) -> Iterator[Source]:
    """All inputs, lazily and in order.

    Args:
        paths: files, folders (walked to the bottom), archives, URLs, globs, or ``-`` for a list on stdin.
        filters: what is taken of that.
        files_from: a further list: a file with one path a line, ``-`` for stdin, or a ``.csv`` or ``.parquet`` table.
        column: the column of that table that holds the paths; ``path`` if not given. Without ``files_from``: the column
            of tables among ``paths`` that holds images.
        null: the lists are NUL-separated, as ``find -print0`` writes them.
        private: see `storage.remote.web`.

    Raises:
        UsageError: a list cannot be read, a column is missing, or a pattern is not a gitignore pattern. A path that
            does not exist is no error here: it is an input, and gets its row.
    """
    filters = filters or Filters()
    selector = InputSelector(filters, column=column if files_from is None else None, private=private)
    found = find(paths, selector, files_from=files_from, column=column, null=null)
    return take_shard_and_limit(
        itertools.chain.from_iterable(expand_container(source, selector) for source in found), filters
    )


def find(
    paths: Iterable[str],
    selector: InputSelector,
    *,
    files_from: str | None = None,
    column: str | None = None,
    null: bool = False,
) -> Iterator[Source]:
    """The same before the shard and the limit. A container that is read front to back is one source still.

    Raises:
        UsageError: see `discover`.
    """
    if null and files_from is None and STDIN not in (paths := list(paths)):
        raise UsageError("-0 goes with a list: - for stdin, or --files-from")
    listed = (
        listed_paths(files_from, column, null=null, private=selector.private) if files_from is not None else iter(())
    )
    if files_from != STDIN:
        listed = itertools.chain(list(itertools.islice(listed, 1)), listed)  # to find out now if it can be read
    return itertools.chain(
        itertools.chain.from_iterable(_expand(path, selector, null=null) for path in paths), _listed(listed, selector)
    )


def _expand(path: str, selector: InputSelector, *, null: bool) -> Iterator[Source]:
    if path == STDIN:
        yield from _listed(listed_paths(STDIN, null=null), selector)
    elif is_url(path) and not is_web(path):
        yield from expand_url(path, selector)
    elif os.path.isdir(path):
        yield from tables_of(path, selector) if selector.column is not None else map(Source, _walk(path, selector))
    elif is_pattern(path):
        yield from _glob(path, selector)
    else:
        yield from expand_path(path, selector)


def is_pattern(path: str) -> bool:
    """Whether a path is a glob, to be matched on this machine: what is there by that very name is not."""
    return is_glob(path) and not is_url(path) and not os.path.lexists(path) and not is_member(path)


def _listed(paths: Iterable[str], selector: InputSelector) -> Iterator[Source]:
    """What a list names: images and archives. It is taken as it is, without a look at whether it is there."""
    for source in map(listed_source, paths):
        if source.content is None:
            yield from expand_path(source.path, selector)
        elif selector.take(source.path):
            yield source


@dataclass(slots=True)
class _Level:
    """A folder that is being walked: its path, the same from the folder the user named, and the names left in it."""

    path: str
    below: str
    identity: tuple[int, int]  # device and inode
    names: Iterator[str]  # of images, and with a slash behind of folders


def _walk(folder: str, selector: InputSelector) -> Iterator[str]:
    """The images in ``folder``, by name. A folder that cannot be read is itself an input, and so gets a row."""
    levels: list[_Level] = []
    root = os.path.join(folder, "")

    def enter(path: str, below: str) -> bool:
        """Go on in this folder, if it can be read."""
        try:
            status = os.stat(path)
            names = _names(path, below, selector, root)
        except OSError:
            return False
        selector.disks.setdefault(status.st_dev, path)
        identity = (status.st_dev, status.st_ino)
        if identity in (level.identity for level in levels):
            log.warning("%s links to a folder above itself and is not entered again", path)
        else:
            levels.append(_Level(path, below, identity, iter(names)))
        return True

    if not enter(folder, ""):
        yield folder
    while levels:
        level = levels[-1]
        name = next(level.names, None)
        if name is None:
            levels.pop()
            continue
        path, relative = os.path.join(level.path, name.removesuffix("/")), level.below + name
        if selector.take(relative) and not (name.endswith("/") and enter(path, relative)):
            yield path


def _glob(pattern: str, selector: InputSelector) -> Iterator[Source]:
    """What the shell would have made of ``pattern``, with ``**`` for any number of folders.

    Files are taken as they match. A folder that matches is walked, unless the pattern has ``**``: then what lies
    below it is for the pattern to match. A folder that has to be listed for that, and cannot be, is itself an input. A
    file that the pattern names in a folder that may not be entered is one, too.
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
            yield from expand_path(path, selector)
        elif "**" not in pattern.split("/"):
            yield from map(Source, _walk(path, selector))
    yield from _unlisted(errors, unlisted, selector)
    if not (matched or unlisted):
        log.warning("nothing matches %s", pattern)


def _unlisted(errors: list[OSError], known: set[str], selector: InputSelector) -> Iterator[Source]:
    """The folders that new ``errors`` are about, which are cleared: each once, and none below another that is known."""
    for error in errors:
        folder = error.filename.rstrip("/") or "/"
        is_new = known.isdisjoint(itertools.accumulate(folder.split("/"), "{}/{}".format))
        if is_new and selector.take(f"{folder}/"):
            yield Source(folder)
        known.add(folder)
    errors.clear()


def glob_folder(pattern: str) -> str:
    """The folder in which a glob begins."""
    return os.path.dirname(re.split(r"[*?[]", pattern, maxsplit=1)[0]) or "."


def matches(pattern: str, selector: InputSelector, onerror: Callable[[OSError], None]) -> Iterator[str]:
    """The paths that match a glob, lazily; ``onerror`` is told of each folder that cannot be read."""
    parts = re.sub(r"(\*\*/)+", "**/", pattern).split("/")  # else some paths would match in two ways
    return _matches("", parts, selector, onerror)


def _matches(
    prefix: str, parts: Sequence[str], selector: InputSelector, onerror: Callable[[OSError], None]
) -> Iterator[str]:
    """The paths that match ``parts``, the components of a glob, below ``prefix`` (empty, or with a slash behind)."""
    part, rest = parts[0], parts[1:]
    if part == "**":
        below = [prefix]
        while below:
            folder = below.pop()
            entries = _readable_entries(folder, hidden=selector.hidden, onerror=onerror)
            inner = [f"{folder}{entry.name}/" for entry in entries if _is_folder(entry, follow=False)]
            del entries  # of a million files
            yield from _matches(folder, rest or ["*"], selector, onerror)
            below += reversed(inner)
    elif is_glob(part):
        for entry in _readable_entries(prefix, hidden=selector.hidden or part.startswith("."), onerror=onerror):
            if fnmatch.fnmatchcase(entry.name, part.replace("[^", "[!")):
                if not rest:
                    yield prefix + entry.name
                elif _is_folder(entry, follow=True):
                    yield from _matches(f"{prefix}{entry.name}/", rest, selector, onerror)
    elif rest:
        yield from _matches(f"{prefix}{part}/", rest, selector, onerror)
    elif _may_be_there(prefix + part):
        yield prefix + part


def _may_be_there(path: str) -> bool:
    """Whether a file is there, or may be: a folder that may not be entered does not tell."""
    try:
        os.lstat(path)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _names(folder: str, below: str, selector: InputSelector, root: str) -> list[str]:
    """What a walk looks at in a folder, by name: no more than names, of which a million take little memory.

    ``below`` is the folder's path from ``root``, where the walk has begun.
    """
    names: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not selector.hidden and entry.name.startswith("."):
                continue
            if _is_folder(entry, follow=selector.follow):
                names.append(f"{entry.name}/")
            elif entry.is_symlink() and _is_folder(entry, follow=True):
                selector.pass_over(root, below + entry.name, kind=LINK)
            elif has_image_suffix(entry.name):
                names.append(entry.name)
            else:
                selector.pass_over(root, below + entry.name)
    names.sort(key=lambda name: name.removesuffix("/"))
    return names


def _entries(folder: str, *, hidden: bool) -> list["os.DirEntry[str]"]:
    with os.scandir(folder or ".") as entries:
        visible = [entry for entry in entries if hidden or not entry.name.startswith(".")]
    return sorted(visible, key=lambda entry: entry.name)


def _readable_entries(folder: str, *, hidden: bool, onerror: Callable[[OSError], None]) -> list["os.DirEntry[str]"]:
    try:
        return _entries(folder, hidden=hidden)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        onerror(error)
        return []


def _is_folder(entry: "os.DirEntry[str]", *, follow: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow)
    except OSError:  # a link to itself, or into a folder that may not be read: decode will say so
        return False
