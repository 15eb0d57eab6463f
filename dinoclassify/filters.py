"""Which of the inputs that are found are taken: by pattern, by name, by a hash, by number."""

import hashlib
import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import pathspec

from dinoclassify.errors import UsageError
from dinoclassify.sources import Source

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


class Rules:
    """The patterns, compiled once, and what else steers the search for inputs.

    ``column`` is that of the tables among the inputs which has pictures. ``private``: see `dinoclassify.web`.

    Raises:
        UsageError: a pattern is not a gitignore pattern.
    """

    def __init__(self, filters: Filters, *, column: str | None = None, private: bool = False) -> None:
        self.hidden = filters.hidden
        self.follow = filters.follow
        self.column = column
        self.private = private
        self._include = _spec(filters.include) if filters.include else None
        self._exclude = _spec(filters.exclude)

    def take(self, path: str) -> bool:
        """Whether a file is wanted. A folder, written with a slash at the end, is only ever excluded."""
        included = self._include is None or path.endswith("/") or self._include.match_file(path)
        return included and not self._exclude.match_file(path)

    def take_below(self, name: str) -> bool:
        """Whether what stands below a prefix or in an archive is wanted: what a walk would take of such a folder."""
        visible = self.hidden or not any(part.startswith(".") and part != ".." for part in name.split("/"))
        return visible and has_image_suffix(name) and self.take(name)


def has_image_suffix(name: str) -> bool:
    """Whether a name is that of a picture."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def part(sources: Iterable[Source], filters: Filters) -> Iterator[Source]:
    """Of all inputs those of the shard, each with its position among all; and of these as many as the limit says."""
    shard = filters.shard
    if shard is not None:
        numbered = (replace(source, position=position) for position, source in enumerate(sources))
        sources = (source for source in numbered if source.path in shard)
    return itertools.islice(sources, None if filters.limit is None else min(filters.limit, sys.maxsize))


def _spec(patterns: Sequence[str]) -> pathspec.GitIgnoreSpec:
    try:
        return pathspec.GitIgnoreSpec.from_lines(patterns)
    except ValueError as error:
        raise UsageError(f"not a gitignore pattern: {error}") from error


def is_glob(path: str) -> bool:
    """Whether a path has characters that stand for others."""
    return any(character in path for character in "*?[")
