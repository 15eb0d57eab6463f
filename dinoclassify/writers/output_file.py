"""A file of finished rows: ``FILE``, and ``FILE.meta.json`` with what they depend on.

The last step of a run records in the journal how FILE will look, puts FILE in place, removes the journal, and renames
its metadata. A run that is killed between any two of these can be resumed.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic

from dinoclassify.storage.atomic import as_output_errors, put_in_place, replacing
from dinoclassify.storage.output_paths import OutputPaths
from dinoclassify.writers.file_journal import FileJournal
from dinoclassify.writers.fingerprint import carried_meta, read_meta
from dinoclassify.writers.formats.base import R, RowFormat


class OutputFile(Generic[R]):
    """A file and its journal.

    Args:
        path: the regular file, which may be a link to one.
        row_format: the format of its rows.
        batch_size: see `FileJournal`.
    """

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
        """Finish FILE.

        Args:
            lines: all its rows, as lines; None for the rows of the journal.
            meta: its metadata.

        Raises:
            OutputError: it cannot be written, or another program started to use it; the journal stays.
        """
        journal, output = self.journal, self._paths.output
        journal.sync()
        if lines is None and self._format.table is None:
            journal.announce(journal.path, meta)
            put_in_place(journal.path, output)
        else:
            rows = journal.lines() if lines is None else lines
            with replacing(output) as file, as_output_errors(self.name):
                self._format.write_lines(file, rows, meta)
                file.flush()
                os.fsync(file.fileno())  # some file servers set the time only then
                self._format.refuse_in_use(self.name)
                journal.announce(file.name, meta)
        journal.finish()

    def publish_unchanged(self, meta: Mapping[str, object]) -> None:
        """Finish FILE with the rows it has and new metadata."""
        self.journal.announce(self._paths.output, meta)
        self.journal.finish()
