"""A file of rows while it is unfinished, and at its end.

    FILE.partial             the journal: rows as lines, of the format itself, or JSON Lines where that is a table
    FILE.partial.meta.json   what the journal was made with
    FILE, FILE.meta.json     the finished rows, and what they were made with

The last step writes down how FILE will look, puts it in place, removes the journal, and gives the metadata its name. A
run that is killed between any two of these can be resumed.
"""

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Generic

from dinoclassify.errors import UsageError
from dinoclassify.storage.atomic import as_output_errors, put_in_place, replacing
from dinoclassify.storage.signature import file_signature
from dinoclassify.writers.append_file import AppendFile
from dinoclassify.writers.fingerprint import META, PARTIAL, carried_meta, read_meta, write_meta
from dinoclassify.writers.formats.base import R, RowFormat


class OutputFile(Generic[R]):
    """A file, and its journal.

    Args:
        path: the regular file, which may be a link to one.
        row_format: the format of its rows.
        batch_size: an interrupted journal is cut back to whole batches, so that the rest makes the same batches again.
    """

    def __init__(self, path: str, row_format: RowFormat[R], *, batch_size: int) -> None:
        self.name, self._path = path, os.path.realpath(path)
        self.journal_name = journal_of(path)
        self._format, self._batch_size = row_format, batch_size
        self._journal = AppendFile(self._path + PARTIAL, self.journal_name, row_format.lines)
        self._journal_meta = self._path + PARTIAL + META

    def recover(self) -> None:
        """Do the last step of a run that was killed before it."""
        if not os.path.exists(self._journal_meta):
            return
        with suppress(UsageError):  # `journal_meta` says so where it matters
            published = read_meta(self._journal_meta, self.journal_name).get("published")
            if published is not None and published == list(file_signature(self._path)):
                self._remove_journal()

    def finished_meta(self) -> dict[str, Any] | None:
        """What FILE was made with; None if there is no FILE, or one without a row and without metadata."""
        if not os.path.exists(self._path):
            return None
        if not os.path.exists(self._path + META):
            if carried := carried_meta(self._path):
                return carried
            if next(self.finished_rows(), None) is None:
                return None
        return read_meta(self._path + META, self.name)

    def finished_rows(self) -> Iterator[R]:
        """The rows of FILE."""
        return self._format.read(self._path)

    def journal_meta(self) -> dict[str, Any] | None:
        """What the journal was made with; None if there is none."""
        if not os.path.exists(self._journal.path):
            return None
        return read_meta(self._journal_meta, self.journal_name)

    def journal_rows(self) -> Iterator[R]:
        """The rows of whole batches. The rest is made again, in the batches that it would have been in."""
        rows = self._journal.rows()
        while len(batch := list(itertools.islice(rows, self._batch_size))) == self._batch_size:
            yield from batch

    def begin(self, meta: Mapping[str, object]) -> None:
        """Start an empty journal. Metadata never stand beside rows that they are not about."""
        self._journal.remove()
        write_meta(self._journal_meta, meta, rights_of=self._path)
        self._journal.replace((), rights_of=self._path)
        self._journal.open()

    def resume(self) -> None:
        """Go on with the journal."""
        self._journal.replace(map(self._format.lines.line, self.journal_rows()), rights_of=self._path)
        self._journal.open()

    def append(self, row: R) -> None:
        """Add a row to the journal. It is in the file when this returns."""
        self._journal.append(row)

    def appended(self) -> Iterator[bytes]:
        """The rows that this run has added, as lines."""
        return self._journal.appended()

    def publish(self, lines: Iterable[bytes] | None, meta: Mapping[str, object]) -> None:
        """Finish FILE.

        Args:
            lines: all its rows, as lines; None for those of the journal as they are.
            meta: what it was made with.

        Raises:
            OutputError: it cannot be written, or has come into use; the journal stays.
        """
        self._journal.sync()
        if lines is None and self._format.table is None:
            self._announce(self._journal.path, meta)
            put_in_place(self._journal.path, self._path)
        else:
            rows = self._journal.read_lines() if lines is None else lines
            with replacing(self._path) as file, as_output_errors(self.name):
                self._format.write_lines(file, rows, meta)
                file.flush()
                os.fsync(file.fileno())  # some file servers set the time only then
                self._format.refuse_in_use(self.name)
                self._announce(file.name, meta)
        self._remove_journal()

    def publish_unchanged(self, meta: Mapping[str, object]) -> None:
        """Finish FILE with the rows that it has."""
        self._announce(self._path, meta)
        self._remove_journal()

    def close(self) -> None:
        """Close the journal. It stays unless FILE is finished."""
        self._journal.close()

    def _announce(self, file: str, meta: Mapping[str, object]) -> None:
        """Write down how FILE looks once ``file`` has its name: then the journal has done its work."""
        write_meta(self._journal_meta, {**meta, "published": file_signature(file)}, rights_of=self._path)

    def _remove_journal(self) -> None:
        self._journal.remove()
        put_in_place(self._journal_meta, self._path + META)


def journal_of(path: str) -> str:
    """The name of the journal of a file. Where the file is a link, the journal is beside the file that it leads to."""
    return (os.path.realpath(path) if os.path.islink(path) else path) + PARTIAL
