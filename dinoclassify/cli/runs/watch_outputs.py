"""Where the rows of a watch go: to a stream, or to a file that other programs may rotate and people may edit."""

import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

from dinoclassify.cli.runs.request import Target
from dinoclassify.cli.runs.signals import ending_with_reader
from dinoclassify.cli.runs.tally import Tally
from dinoclassify.discovery.location import absolute_path, is_relative_file
from dinoclassify.discovery.seen import SEEN, Seen, SeenFile, seen_in
from dinoclassify.discovery.watch import Watch
from dinoclassify.errors import OutputError, UsageError
from dinoclassify.storage.paths import file_shown_as
from dinoclassify.types.prediction import Row
from dinoclassify.writers.append_file import AppendFile
from dinoclassify.writers.fingerprint import META, PARTIAL, as_json, check_fingerprint, read_meta, write_meta
from dinoclassify.writers.formats import R, RowFormat
from dinoclassify.writers.rotated_file import RotatedFile
from dinoclassify.writers.stream import stream_rows

R_contra = TypeVar("R_contra", bound=Row, contravariant=True)

log = logging.getLogger("dinoclassify")


class WatchOutput(Protocol[R_contra]):
    """What a watch asks of its output."""

    @property
    def failed(self) -> Collection[str]:
        """The images whose last row says that they failed, when the run begins."""

    @property
    def trouble(self) -> str | None:
        """What keeps rows from being written, if anything does."""

    def open(self, look: Callable[..., Watch], tally: Tally) -> Watch:
        """The images to watch, with their last rows, which are counted. ``look`` makes them."""

    def write(self, rows: Iterator[R_contra], wait: Callable[[float], bool], /) -> None:
        """Write rows as they come; ``wait`` waits for so many seconds, and gives whether to go on."""

    def after_look(self) -> None:
        """Do what is to be done after each look at the folders."""

    def save(self, meta: Mapping[str, object], /) -> None:
        """Have all rows on the disk, and write the metadata of the run."""

    def close(self) -> None:
        """Close what is open."""


class StreamOutput(Generic[R]):
    """Stdout, a device or a pipe: an image that has gone is a new one when it comes again."""

    failed: Collection[str] = ()
    trouble: str | None = None

    def __init__(self, target: Target, row_format: RowFormat[R]) -> None:
        self._file, self._format = target.file, row_format

    def open(self, look: Callable[..., Watch], tally: Tally) -> Watch:  # noqa: ARG002 - nothing is there yet
        """See `WatchOutput`."""
        self._images = look()
        return self._images

    def write(self, rows: Iterator[R], _wait: Callable[[float], bool]) -> None:
        """See `WatchOutput`."""
        with ending_with_reader() if self._file is None else nullcontext():
            stream_rows(self._file, self._format, rows)

    def after_look(self) -> None:
        """See `WatchOutput`."""
        self._images.forget_absent()

    def save(self, _meta: Mapping[str, object]) -> None:
        """See `WatchOutput`."""

    def close(self) -> None:
        """See `WatchOutput`."""


class FileOutput(Generic[R]):
    """A file that grows by whole lines; ``FILE.seen`` beside it keeps which images have rows when it is rotated.

    Args:
        path: the file.
        row_format: what the rows are written in.
        made_with: what they depend on.

    Raises:
        UsageError: it has rows that depend on something else, that cannot be read or whose relative paths begin in
            another folder; it has an unfinished run; or `SeenFile` cannot be read.
        OutputError: it cannot be written.
    """

    def __init__(self, path: str, row_format: RowFormat[R], made_with: Mapping[str, object]) -> None:
        self._made_with = made_with
        self._file = AppendFile(os.path.realpath(path), path, row_format.lines)
        self._is_described = self._check(path, row_format)
        self._memory = SeenFile(made_with)
        before = self._memory.read(self._file.path)
        if before.keys() | self._memory.rotated.keys() and not os.path.exists(self._file.path):
            cure = f"to have them labelled again stop this run, remove {self._file.path}{SEEN}, and start"
            log.warning("%s is new; the images that had rows in an older one get no others: %s", path, cure)
        try:
            self._file.open(check_end=True)
            self._rows, failed = self._read(before)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{path} has rows that cannot be read ({error}): name another --output") from error
        except OSError as error:
            raise OutputError(f"cannot read {path}: {error.strerror or error}") from error
        if not self._rows:  # it was rotated while no watch ran
            self._memory.rotated |= before
        self._written: dict[str, Seen] = {}  # the last row, which the images may not know of yet
        self._rotated = RotatedFile(self._file, self._take_over)
        others = self._memory.rotated.keys() - self._rows.keys()
        old = [image for image in others if self._memory.rotated[image].status == "failed"]
        self.failed: Collection[str] = [*sorted(old), *failed.values()]

    @property
    def trouble(self) -> str | None:
        """See `WatchOutput`."""
        return self._rotated.trouble

    def open(self, look: Callable[..., Watch], tally: Tally) -> Watch:
        """See `WatchOutput`."""
        self._tally = tally
        seen = {**self._memory.rotated, **self._rows}
        for last in seen.values():
            tally.keep(last.status, last.error_code)
        self._images = look(seen, dict(self._memory.roots))
        try:
            self._memory.replace(self._file.path, self._rows)
            if not self._is_described:
                self._write_meta({})
        except OutputError as error:
            if not self._is_described and not seen:  # a first start: somebody reads the error
                raise
            log.warning("%s", error)
            self._rotated.reread()  # before the first row; a full disk is waited for then
        self._rows, self._folder = {}, os.getcwd()
        return self._images

    def write(self, rows: Iterator[R], wait: Callable[[float], bool]) -> None:
        """See `WatchOutput`."""
        for row in rows:
            if not self._rotated.append(row, wait, self._note_written):
                return

    def after_look(self) -> None:
        """See `WatchOutput`."""
        for root, identity in self._images.identities.items():
            if self._memory.roots.get(root) != identity:
                self._memory.add_root(root, identity)
        self._rotated.follow()

    def save(self, meta: Mapping[str, object]) -> None:
        """See `WatchOutput`."""
        self._rotated.sync()
        self._write_meta(meta)

    def close(self) -> None:
        """See `WatchOutput`."""
        self._rotated.close()
        self._memory.close()

    def _note_written(self, row: R) -> None:
        image, last = self._images.key(row.path), self._images.seen_in(row)
        self._memory.add(image, last)
        self._written = {image: last}

    def _check(self, path: str, row_format: RowFormat[R]) -> bool:
        """See that rows may be added to the file; gives whether metadata say so already."""
        real, cure = self._file.path, "name another --output"
        if os.path.exists(real + PARTIAL):
            raise UsageError(f"{path}{PARTIAL} is of an interrupted run: finish that first, with --resume")
        self._folder = os.getcwd()
        if not os.path.exists(real) or os.path.getsize(real) <= len(row_format.lines.header()):
            return False
        meta = read_meta(real + META, path, cure=cure)
        check_fingerprint(meta["made_with"], path, as_json(self._made_with), option="--watch", cure=cure)
        self._folder = meta.get("working_folder") or self._folder
        return bool(meta.get("appended")) and self._folder == os.getcwd()

    def _read(self, known: Mapping[str, Seen]) -> tuple[dict[str, Seen], dict[str, str]]:
        """The last row of each image in the file, by absolute path, and those that failed, as rows name them.

        ``known``: what was known of images, and may be more than stands in rows of those that could not be read.
        """
        rows: dict[str, Seen] = {}
        failed: dict[str, str] = {}
        for row in self._file.rows():
            if self._folder != os.getcwd() and is_relative_file(row.path):
                raise UsageError(f"{self._file.name} has paths that begin in {self._folder}: go there first (cd)")
            image = absolute_path(file_shown_as(row.path), self._folder)
            before, rows[image] = known.get(image), seen_in(row, earlier=True)
            if rows[image].signature == (None, None) and before is not None:
                rows[image] = seen_in(row, before.signature, earlier=True)
            failed.pop(image, None)
            if row.status == "failed":
                failed[image] = row.path
        return rows, failed

    def _take_over(self) -> None:
        """Come to terms with another file. If it has no rows, it was begun after a rotation; else it was edited."""
        seen = self._images.seen
        rows, _ = self._read(seen)
        if rows:
            now = {**self._memory.rotated, **rows}
            changed = [image for image, last in seen.copy().items() if not _is_same(last, now.get(image))]
            removed = [seen.pop(image) for image in changed]
            for image in now.keys() - seen.keys():
                seen[image] = now[image]
                self._tally.keep(now[image].status, now[image].error_code)
        else:
            removed = self._images.forget_absent()
            self._memory.rotated = {**seen, **self._written}
        for last in removed:
            self._tally.drop(last.status, last.error_code, kept=last.earlier)
        self._memory.roots = dict(self._images.identities)
        self._memory.replace(self._file.path, rows)
        self._write_meta({})

    def _write_meta(self, meta: Mapping[str, object]) -> None:
        rest = {"adds_to_output": False, "appended": True, "working_folder": os.getcwd(), **meta}
        write_meta(self._file.path + META, {"made_with": self._made_with, **rest})


def _is_same(one: Seen, other: Seen | None) -> bool:
    """Whether two rows say the same, whichever run has made them."""
    return other is not None and replace(one, earlier=False) == replace(other, earlier=False)
