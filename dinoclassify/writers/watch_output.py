"""The output of a watch: a stream, or a file that other programs may rotate and people may edit."""

import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import Generic, TypeAlias

from dinoclassify.discovery.location import absolute_path, is_relative_file
from dinoclassify.discovery.seen import Seen, SeenFile, seen_in
from dinoclassify.discovery.watch import Watch
from dinoclassify.errors import OutputError, UsageError
from dinoclassify.storage.output_paths import OutputPaths
from dinoclassify.storage.paths import file_shown_as
from dinoclassify.writers.append_file import AppendFile
from dinoclassify.writers.fingerprint import as_json, check_fingerprint, read_meta, write_meta
from dinoclassify.writers.formats.base import R, RowFormat
from dinoclassify.writers.rotated_file import RotatedFile
from dinoclassify.writers.stream import stream_rows
from dinoclassify.writers.tally import Tally

log = logging.getLogger("dinoclassify")


class StreamOutput(Generic[R]):
    """Stdout, a device or a pipe: an image that disappears and comes again gets another row."""

    failed: Collection[str] = ()  # images that have a failed row when the run begins
    trouble: str | None = None  # what keeps rows from being written

    def __init__(self, file: str | None, row_format: RowFormat[R]) -> None:
        self._file, self._format = file, row_format

    def open(self, look: Callable[..., Watch], tally: Tally) -> Watch:  # noqa: ARG002 - there are no rows yet
        """See `FileOutput`."""
        self._images = look()
        return self._images

    def write(self, rows: Iterator[R], _wait: Callable[[float], bool]) -> None:
        """See `FileOutput`."""
        stream_rows(self._file, self._format, rows)

    def after_look(self) -> None:
        """See `FileOutput`."""
        self._images.forget_absent()

    def save(self, _meta: Mapping[str, object]) -> None:
        """See `FileOutput`."""

    def close(self) -> None:
        """See `FileOutput`."""


class FileOutput(Generic[R]):
    """A file that grows by whole lines. ``FILE.seen`` beside it remembers the rows that were rotated away.

    ``known`` is the part of the run metadata that is known before the first row: the model.

    Raises:
        UsageError: the file has rows with another fingerprint, that cannot be read, or with paths relative to another
            folder; it has an unfinished run; or `SeenFile` cannot be read.
        OutputError: it cannot be written.
    """

    def __init__(
        self, path: str, row_format: RowFormat[R], fingerprint: Mapping[str, object], known: Mapping[str, object]
    ) -> None:
        self._fingerprint, self._known = fingerprint, known
        self._file = AppendFile(os.path.realpath(path), path, row_format.lines)
        self._is_described = self._check(path, row_format)
        self._memory = SeenFile(fingerprint)
        before = self._memory.read(self._file.path)
        if before.keys() | self._memory.rotated.keys() and not os.path.exists(self._file.path):
            cure = f"to label them again, stop this run, remove {OutputPaths(self._file.path).seen}, and start it again"
            log.warning("%s is new, and images with rows in the file before it are not labelled again: %s", path, cure)
        try:
            self._file.open(check_end=True)
            self._rows, failed = self._read(before)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{path} has rows that cannot be read ({error}): name another --output") from error
        except OSError as error:
            raise OutputError(f"cannot read {path}: {error.strerror or error}") from error
        if not self._rows:  # the file was rotated while no watch ran
            self._memory.rotated |= before
        self._written: dict[str, Seen] = {}  # the last row, which `self._images` may not have yet
        self._rotated = RotatedFile(self._file, self._take_over)
        others = self._memory.rotated.keys() - self._rows.keys()
        old = [image for image in others if self._memory.rotated[image].status == "failed"]
        self.failed: Collection[str] = [*sorted(old), *failed.values()]

    @property
    def trouble(self) -> str | None:
        """What keeps rows from being written; None if nothing does."""
        return self._rotated.trouble

    def open(self, look: Callable[..., Watch], tally: Tally) -> Watch:
        """Create the `Watch` by calling ``look``; count the last rows of its images."""
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
            if not self._is_described and not seen:  # on the first start somebody reads the error
                raise
            log.warning("%s", error)
            self._rotated.reread()  # before the first row, which waits while the disk is full
        self._rows, self._folder = {}, os.getcwd()
        return self._images

    def write(self, rows: Iterator[R], wait: Callable[[float], bool]) -> None:
        """Write rows as they come; ``wait`` waits for some seconds, and returns whether to go on."""
        for row in rows:
            if not self._rotated.append(row, wait, self._note_written):
                return

    def after_look(self) -> None:
        """Check for rotations, and note new roots; called after each poll of the folders, and at SIGHUP."""
        for root, identity in self._images.identities.items():
            if self._memory.roots.get(root) != identity:
                self._memory.add_root(root, identity)
        self._rotated.follow()

    def save(self, meta: Mapping[str, object]) -> None:
        """Flush all rows to the disk, and write the run metadata."""
        self._rotated.sync()
        self._write_meta(meta)

    def close(self) -> None:
        """Close all files."""
        self._rotated.close()
        self._memory.close()

    def _note_written(self, row: R) -> None:
        image, last = self._images.key(row.path), self._images.seen_in(row)
        self._memory.add(image, last)
        self._written = {image: last}

    def _check(self, path: str, row_format: RowFormat[R]) -> bool:
        """Check that rows may be added to the file. Returns whether its metadata already say that."""
        paths, cure = OutputPaths(self._file.path), "name another --output"
        if os.path.exists(paths.journal):
            cure = "finish that first, with --resume and without --watch"
            raise UsageError(f"{OutputPaths(path).journal} is of an interrupted run: {cure}")
        self._folder = os.getcwd()
        if not os.path.exists(paths.output) or os.path.getsize(paths.output) <= len(row_format.lines.header()):
            return False
        meta = read_meta(paths.meta, path, cure=cure)
        check_fingerprint(meta["made_with"], path, as_json(self._fingerprint), option="--watch", cures=[cure])
        self._folder = meta.get("working_folder") or self._folder
        return bool(meta.get("appended")) and self._folder == os.getcwd()

    def _read(self, known: Mapping[str, Seen]) -> tuple[dict[str, Seen], dict[str, str]]:
        """Return the last row of each image, by absolute path, and the paths of failed images as rows name them.

        ``known`` is what is remembered of images: it has the signatures that rows of unreadable images lack.
        """
        rows: dict[str, Seen] = {}
        failed: dict[str, str] = {}
        for row in self._file.rows():
            if self._folder != os.getcwd() and is_relative_file(row.path):
                raise UsageError(
                    f"{self._file.name} has paths relative to {self._folder}: change to that folder first (cd)"
                )
            image = absolute_path(file_shown_as(row.path), self._folder)
            before, rows[image] = known.get(image), seen_in(row, earlier=True)
            if rows[image].signature == (None, None) and before is not None:
                rows[image] = seen_in(row, before.signature, earlier=True)
            failed.pop(image, None)
            if row.status == "failed":
                failed[image] = row.path
        return rows, failed

    def _take_over(self) -> None:
        """Go on with another file: an empty one after a rotation, or one with rows after somebody edited it."""
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
        rest = {"adds_to_output": False, "appended": True, "working_folder": os.getcwd(), **self._known, **meta}
        write_meta(OutputPaths(self._file.path).meta, {"made_with": self._fingerprint, **rest})


WatchOutput: TypeAlias = StreamOutput[R] | FileOutput[R]


def _is_same(row: Seen, other: Seen | None) -> bool:
    """Whether two rows say the same, whichever run made them."""
    return other is not None and replace(row, earlier=False) == replace(other, earlier=False)
