"""A file of finished rows, and the journal with the rows of an unfinished run beside it.

FILE                     the rows
FILE.meta.json           what they depend on
FILE.partial             the journal: rows as lines, in the format of FILE, or as JSON Lines if that is a table
FILE.partial.meta.json   what these depend on

The last step of a run records the future signature of FILE in the journal's metadata, puts FILE in place, removes the
journal, and renames its metadata. A run that is killed between any two of these can be resumed.
"""

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Generic

from dinoclassify.errors import UsageError
from dinoclassify.storage.atomic import as_output_errors, put_in_place, replacing
from dinoclassify.storage.output_paths import OutputPaths, journal_name
from dinoclassify.storage.signature import file_signature
from dinoclassify.writers.append_file import AppendFile
from dinoclassify.writers.fingerprint import carried_meta, read_meta, write_meta
from dinoclassify.writers.formats.base import Lines, R, RowFormat


class FileJournal(Generic[R]):
    """The journal of the file ``output``.

    An interrupted journal is cut back to whole batches of ``batch_size`` rows, so that a resumed run makes the same
    batches.
    """

    def __init__(self, output: str, lines: Lines[R], *, batch_size: int) -> None:
        self.name, self._paths = journal_name(output), OutputPaths.resolved(output)
        self.path = self._paths.journal
        self._file, self._lines = AppendFile(self.path, self.name, lines), lines
        self._batch_size = batch_size

    def recover(self) -> None:
        """Finish the last step of a run that was killed between publishing the rows and renaming the metadata."""
        if os.path.exists(self._paths.journal_meta):
            with suppress(UsageError):  # `meta` raises it if the journal is needed
                published = read_meta(self._paths.journal_meta, self.name).get("published")
                if published is not None and published == list(file_signature(self._paths.output)):
                    self.finish()

    def meta(self) -> dict[str, Any] | None:
        """Return the metadata of the journal; None if there is no journal.

        Raises:
            UsageError: they cannot be read.
        """
        return read_meta(self._paths.journal_meta, self.name) if os.path.exists(self.path) else None

    def rows(self) -> Iterator[R]:
        """Yield the rows of whole batches. A resumed run makes the others again, in the same batches."""
        rows = self._file.rows()
        while len(batch := list(itertools.islice(rows, self._batch_size))) == self._batch_size:
            yield from batch

    def begin(self, meta: Mapping[str, object]) -> None:
        """Start an empty journal. The metadata never describe rows of another run."""
        self._file.remove()
        write_meta(self._paths.journal_meta, meta, rights_of=self._paths.output)
        self._file.replace((), rights_of=self._paths.output)
        self._file.open()

    def resume(self) -> None:
        """Continue the journal of an interrupted run."""
        self._file.replace(map(self._lines.line, self.rows()), rights_of=self._paths.output)
        self._file.open()

    def append(self, row: R) -> None:
        """Add a row. It is in the file when this returns."""
        self._file.append(row)

    def appended(self) -> Iterator[bytes]:
        """Yield the rows that this run added, as lines."""
        return self._file.appended()

    def lines(self) -> Iterator[bytes]:
        """Yield all rows, as lines."""
        return self._file.read_lines()

    def sync(self) -> None:
        """Force all rows onto the disk."""
        self._file.sync()

    def record_published(self, file: str, meta: Mapping[str, object]) -> None:
        """Record that the output is finished once it is ``file``, for `recover`."""
        published = {**meta, "published": file_signature(file)}
        write_meta(self._paths.journal_meta, published, rights_of=self._paths.output)

    def finish(self) -> None:
        """Remove the journal and make its metadata those of the output."""
        self._file.remove()
        put_in_place(self._paths.journal_meta, self._paths.meta)

    def close(self) -> None:
        """Close the journal. It stays unless the output is finished."""
        self._file.close()


class OutputFile(Generic[R]):
    """A regular file, which may be a link to one, and its journal. For ``batch_size`` see `FileJournal`."""

    def __init__(self, path: str, row_format: RowFormat[R], *, batch_size: int) -> None:
        self.name, self._paths, self._format = path, OutputPaths.resolved(path), row_format
        self.journal = FileJournal(path, row_format.lines, batch_size=batch_size)

    def recover(self) -> None:
        """Complete the last step of a run that was killed in it."""
        self.journal.recover()

    def finished_meta(self) -> dict[str, Any] | None:
        """Return the metadata of FILE; None if FILE is missing, or has neither rows nor metadata.

        Raises:
            UsageError: they cannot be read.
        """
        paths = self._paths
        if not os.path.exists(paths.output):
            return None
        if not os.path.exists(paths.meta):
            if carried := carried_meta(paths.output):
                return carried
            if next(self.finished_rows(), None) is None:
                return None
        return read_meta(paths.meta, self.name)

    def finished_rows(self) -> Iterator[R]:
        """Yield the rows of FILE."""
        return self._format.read(self._paths.output)

    def publish(self, lines: Iterable[bytes] | None, meta: Mapping[str, object]) -> None:
        """Finish FILE with these rows, as lines; None stands for the rows of the journal.

        Raises:
            OutputError: it cannot be written, or another program started to use it; the journal stays.
        """
        journal, output = self.journal, self._paths.output
        journal.sync()
        if lines is None and self._format.table is None:
            journal.record_published(journal.path, meta)
            put_in_place(journal.path, output)
        else:
            rows = journal.lines() if lines is None else lines
            with replacing(output) as file, as_output_errors(self.name):
                self._format.write_lines(file, rows, meta)
                file.flush()
                os.fsync(file.fileno())  # some file servers set the time only then
                self._format.refuse_in_use(self.name)
                journal.record_published(file.name, meta)
        journal.finish()

    def publish_unchanged(self, meta: Mapping[str, object]) -> None:
        """Finish FILE with the rows it has and new metadata."""
        self.journal.record_published(self._paths.output, meta)
        self.journal.finish()
