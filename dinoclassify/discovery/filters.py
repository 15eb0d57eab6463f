"""Which inputs are taken: by pattern, by suffix, by a hash of the path, by number."""

import hashlib
import itertools
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dinoclassify.errors import UsageError
from dinoclassify.types.source import Source

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

log = logging.getLogger(__name__)

LINK = "link to a folder"  # counted like a suffix
_OTHER = "of other suffixes"
_MOST_SUFFIXES = 1000  # to count by name: some programs number files in the suffix
_SHOWN_SUFFIXES = 5

# The suffixes that a walk takes. A path that is named, listed or matched by a glob is tried whatever its suffix.
# fmt: off
IMAGE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff",
    ".avif", ".avifs", ".heic", ".heif", ".hif", ".ppm", ".pgm", ".pbm", ".pnm",
})
RAW_SUFFIXES = frozenset({
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".iiq", ".kdc", ".mef", ".mos", ".mrw",
    ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
})
# fmt: on


@dataclass(frozen=True, slots=True)
class Shard:
    """Part ``index`` of ``count`` about equal parts of the inputs, numbered from 1 and chosen by a hash of the path."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def __contains__(self, path: str) -> bool:
        # The same on every machine, in every run and in any order.
        digest = hashlib.blake2b(os.fsencode(path), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.count == self.index - 1


@dataclass(frozen=True, slots=True)
class Filters:
    """Which inputs are taken.

    ``include`` and ``exclude`` are gitignore patterns. Inside a folder they are matched against the path below that
    folder, elsewhere against the path that the user wrote. ``hidden`` and ``follow`` concern walks only: take entries
    whose name starts with a dot, enter symbolic links to folders. ``limit`` counts inputs after all other filters.
    """

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    hidden: bool = False
    follow: bool = False
    shard: Shard | None = None
    limit: int | None = None


class InputSelector:
    """The options of a search for inputs, with their patterns compiled once, and what the search notes on the way.

    ``column`` is the column of images in the tables among the inputs. ``private``: see `storage.remote.web`.
    ``passed_over`` counts, by suffix, the visible files in a walk that are not images and not excluded by a pattern;
    each is logged. ``left_out`` counts, by kind, what the patterns leave out, see `leave_out`.
    ``disks`` gets one folder on each device searched, see `discovery.roots.check_disks`. Raises
    UsageError for a pattern that is not a gitignore pattern.
    """

    def __init__(
        self,
        filters: Filters,
        *,
        column: str | None = None,
        private: bool = False,
        passed_over: Counter[str] | None = None,
        disks: dict[int, str] | None = None,
    ) -> None:
        self.disks = disks if disks is not None else {}  # device number -> a folder on it
        self.hidden = filters.hidden
        self.follow = filters.follow
        self.column = column
        self.private = private
        self.passed_over = passed_over
        self.left_out = Counter[str]()
        self._include = _spec(filters.include) if filters.include else None
        self._exclude = _spec(filters.exclude) if filters.exclude else None

    def takes(self, path: str) -> bool:
        """Whether the patterns take an image. A folder, written with a slash at the end, can only be excluded."""
        included = self._include is None or path.endswith("/") or self._include.match_file(path)
        return included and not (self._exclude is not None and self._exclude.match_file(path))

    def leave_out(self, kind: str = "image") -> None:
        """Count an input that the patterns leave out."""
        self.left_out[kind] += 1

    def take_below(self, name: str, root: str) -> bool:
        """Whether the file ``name`` in ``root``, a prefix or an archive, is taken; counts it if it is not."""
        if not self.hidden and any(part.startswith(".") and part != ".." for part in name.split("/")):
            return False
        if not has_image_suffix(name):
            self.pass_over(root, name)
            return False
        if not self.takes(name):
            self.leave_out()
            return False
        return True

    def pass_over(self, root: str, name: str, *, kind: str | None = None) -> None:
        """Count and log a file below ``root`` that is not an image, under its suffix or as ``kind``."""
        if self.passed_over is None or not self.takes(name):
            return
        kind = os.path.splitext(name)[1].lower() if kind is None else kind
        known = kind in self.passed_over or len(self.passed_over) < _MOST_SUFFIXES
        self.passed_over[kind if known else _OTHER] += 1
        log.info("passed over: %s%s", root, name)


def has_image_suffix(name: str) -> bool:
    """Whether the suffix of a name is that of an image."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def describe_passed_over(passed_over: Counter[str]) -> str:
    """The message ``12 passed over: 9 .psd, 3 without suffix``; empty if no file was passed over."""
    return f"{passed_over.total():,} passed over: {_describe_suffixes(passed_over)}" if passed_over else ""


def _describe_suffixes(passed_over: Counter[str]) -> str:
    """The most common suffixes of the files passed over: ``9 .psd, 3 without suffix``."""
    most_common = passed_over.most_common(_SHOWN_SUFFIXES)
    shown = [f"{count:,} {kind or 'without suffix'}" for kind, count in most_common]
    if others := passed_over.total() - sum(count for _, count in most_common):
        shown.append(f"{others:,} others")
    return ", ".join(shown)


def take_shard_and_limit(sources: Iterable[Source], shard: Shard | None, limit: int | None) -> Iterator[Source]:
    """The inputs of the shard, each with its position among all inputs, up to the limit."""
    if shard is not None:
        numbered = (replace(source, position=position) for position, source in enumerate(sources))
        sources = (source for source in numbered if source.path in shard)
    return itertools.islice(sources, None if limit is None else min(limit, sys.maxsize))


def _spec(patterns: Sequence[str]) -> "GitIgnoreSpec":
    from pathspec import GitIgnoreSpec  # slow to import, for `--help`

    try:
        return GitIgnoreSpec.from_lines(patterns)
    except ValueError as error:
        raise UsageError(f"not a gitignore pattern: {error}") from error
