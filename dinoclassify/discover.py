"""PATHS -> a lazy stream of `Source`: files, folders, globs and lists, filtered, sharded and limited.

Nothing is held but the names of the folders being walked, so a million inputs cost next to no memory and a list on
stdin streams. Order is fixed: arguments as given, lists as written, the entries of a folder by name.
"""

import fnmatch
import hashlib
import itertools
import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pathspec

from dinoclassify.errors import UsageError
from dinoclassify.lists import STDIN, listed_paths
from dinoclassify.sources import Source

log = logging.getLogger(__name__)

MAX_PIXELS = 100_000_000  # of one picture: 300 MB as RGB, in each worker
TIMEOUT = 120.0  # seconds for one picture

# What a folder walk takes. A path that is named, listed or matched by a glob is tried whatever its suffix.
# fmt: off
IMAGE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff",
    ".avif", ".avifs", ".heic", ".heif", ".hif", ".ppm", ".pgm", ".pbm", ".pnm",
})
# fmt: on


@dataclass(frozen=True, slots=True)
class Shard:
    """One of ``count`` equal parts of the inputs, ``index`` from 1 to ``count``: chosen by a hash of the path."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def __contains__(self, path: str) -> bool:
        # The same on every machine, in every run and whatever the order.
        digest = hashlib.blake2b(os.fsencode(path), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.count == self.index - 1


@dataclass(frozen=True, slots=True)
class Filters:
    """Which of the inputs found are taken.

    ``include`` and ``exclude`` are gitignore patterns. Inside a folder they are matched against the path below that
    folder, elsewhere against the path as given. ``hidden`` and ``follow`` steer the walk only: take
    entries whose name starts with a dot, enter symbolic links to folders. ``limit`` counts what the others leave.
    """

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    hidden: bool = False
    follow: bool = False
    shard: Shard | None = None
    limit: int | None = None


class _Rules:
    """The filters, with their patterns compiled once."""

    def __init__(self, filters: Filters) -> None:
        self.hidden = filters.hidden
        self.follow = filters.follow
        self._include = _spec(filters.include) if filters.include else None
        self._exclude = _spec(filters.exclude)

    def take(self, path: str) -> bool:
        """Whether a file is wanted. A folder, written with a slash at the end, is only ever excluded."""
        included = self._include is None or path.endswith("/") or self._include.match_file(path)
        return included and not self._exclude.match_file(path)


def discover(
    paths: Iterable[str],
    filters: Filters | None = None,
    *,
    files_from: str | None = None,
    column: str | None = None,
    null: bool = False,
) -> Iterator[Source]:
    """All inputs, lazily and in order.

    Args:
        paths: files, folders (walked to the bottom), globs, or ``-`` for a list on stdin.
        filters: what is taken of that.
        files_from: a further list: a file with one path a line, ``-`` for stdin, or a ``.csv`` or ``.parquet`` table.
        column: the column of that table that holds the paths; ``path`` if not given.
        null: the lists are NUL-separated, as ``find -print0`` writes them.

    Raises:
        UsageError: a list cannot be read, a column is missing, or a pattern is not a gitignore pattern. A path that
            does not exist is no error here: it is an input, and gets its row.
    """
    filters = filters or Filters()
    if column is not None and files_from is None:
        raise UsageError("--column goes with --files-from and a table")
    if null and files_from is None and STDIN not in (paths := list(paths)):
        raise UsageError("-0 goes with a list: - for stdin, or --files-from")
    rules = _Rules(filters)
    listed = listed_paths(files_from, column, null=null) if files_from is not None else iter(())
    if files_from != STDIN:
        listed = itertools.chain(list(itertools.islice(listed, 1)), listed)  # to find out now if it can be read
    found: Iterator[str] = itertools.chain(
        itertools.chain.from_iterable(_expand(path, rules, null=null) for path in paths),
        filter(rules.take, listed),
    )
    if filters.shard is not None:
        found = filter(filters.shard.__contains__, found)
    return map(Source, itertools.islice(found, None if filters.limit is None else min(filters.limit, sys.maxsize)))


def _expand(path: str, rules: _Rules, *, null: bool) -> Iterator[str]:
    if path == STDIN:
        yield from filter(rules.take, listed_paths(STDIN, null=null))
    elif os.path.isdir(path):
        yield from _walk(path, rules)
    elif _is_glob(path) and not os.path.lexists(path):
        yield from _glob(path, rules)
    elif rules.take(path):
        yield path


@dataclass(slots=True)
class _Level:
    """A folder that is being walked: its path, the same from the folder the user named, and the names left in it."""

    path: str
    below: str
    identity: tuple[int, int]  # device and inode
    names: Iterator[str]  # of pictures, and with a slash behind of folders


def _walk(folder: str, rules: _Rules) -> Iterator[str]:
    """The pictures in ``folder``, by name. A folder that cannot be read is itself an input, and so gets a row."""
    levels: list[_Level] = []

    def enter(path: str, below: str) -> bool:
        """Go on in this folder, if it can be read."""
        try:
            status = os.stat(path)
            names = _names(path, hidden=rules.hidden, follow=rules.follow)
        except OSError:
            return False
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
        if rules.take(relative) and not (name.endswith("/") and enter(path, relative)):
            yield path


def _glob(pattern: str, rules: _Rules) -> Iterator[str]:
    """What the shell would have made of ``pattern``, with ``**`` for any number of folders.

    Files are taken as they match. A folder that matches is walked, unless the pattern has ``**``: then what lies
    below it is for the pattern to match.
    """
    parts = re.sub(r"(\*\*/)+", "**/", pattern).split("/")  # else some paths would match in two ways
    matched = False
    for path in _matches("", parts, rules):
        matched = True
        if not os.path.isdir(path):
            if rules.take(path):
                yield path
        elif "**" not in parts:
            yield from _walk(path, rules)
    if not matched:
        log.warning("nothing matches %s", pattern)


def _matches(prefix: str, parts: Sequence[str], rules: _Rules) -> Iterator[str]:
    """The paths that match ``parts``, the components of a glob, below ``prefix`` (empty, or with a slash behind)."""
    part, rest = parts[0], parts[1:]
    if part == "**":
        below = [prefix]
        while below:
            folder = below.pop()
            yield from _matches(folder, rest or ["*"], rules)
            entries = _readable_entries(folder, hidden=rules.hidden)
            below += [f"{folder}{entry.name}/" for entry in reversed(entries) if _is_folder(entry, follow=False)]
    elif _is_glob(part):
        for entry in _readable_entries(prefix, hidden=rules.hidden or part.startswith(".")):
            if fnmatch.fnmatchcase(entry.name, part.replace("[^", "[!")):
                if not rest:
                    yield prefix + entry.name
                elif _is_folder(entry, follow=True):
                    yield from _matches(f"{prefix}{entry.name}/", rest, rules)
    elif rest:
        yield from _matches(f"{prefix}{part}/", rest, rules)
    elif os.path.lexists(prefix + part):
        yield prefix + part


def _names(folder: str, *, hidden: bool, follow: bool) -> list[str]:
    """What a walk looks at in a folder, by name: no more than names, of which a million take little memory."""
    with os.scandir(folder) as entries:
        names = [
            f"{entry.name}/" if _is_folder(entry, follow=follow) else entry.name
            for entry in entries
            if (hidden or not entry.name.startswith(".")) and (_is_folder(entry, follow=follow) or _is_picture(entry))
        ]
    names.sort(key=lambda name: name.removesuffix("/"))
    return names


def _entries(folder: str, *, hidden: bool) -> list["os.DirEntry[str]"]:
    with os.scandir(folder or ".") as entries:
        visible = [entry for entry in entries if hidden or not entry.name.startswith(".")]
    return sorted(visible, key=lambda entry: entry.name)


def _readable_entries(folder: str, *, hidden: bool) -> list["os.DirEntry[str]"]:
    try:
        return _entries(folder, hidden=hidden)
    except OSError as error:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            log.warning("cannot look for matches in %s: %s", folder, error.strerror)
        return []


def _spec(patterns: Sequence[str]) -> pathspec.GitIgnoreSpec:
    try:
        return pathspec.GitIgnoreSpec.from_lines(patterns)
    except ValueError as error:
        raise UsageError(f"not a gitignore pattern: {error}") from error


def _is_glob(path: str) -> bool:
    return any(character in path for character in "*?[")


def _is_picture(entry: "os.DirEntry[str]") -> bool:
    """Whether a walk takes the entry: its name has an image's suffix, and it is no link to a folder."""
    is_image = os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES
    return is_image and not (entry.is_symlink() and _is_folder(entry, follow=True))


def _is_folder(entry: "os.DirEntry[str]", *, follow: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow)
    except OSError:  # a link to itself, or into a folder that may not be read: decode will say so
        return False
