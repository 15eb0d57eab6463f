"""The journal of a folder of parts: the rows of an unfinished run, in pieces that are written whole.

FOLDER.partial/meta.json     what the rows depend on
FOLDER.partial/rows/...      the pieces, see `writers.chunks`
"""

import re
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, Generic

from dinoclassify.errors import OutputError
from dinoclassify.messages import name_some
from dinoclassify.storage.atomic import as_output_errors, is_temporary
from dinoclassify.storage.output_paths import OutputPaths
from dinoclassify.storage.remote.filesystem import names_in, open_place, read_file, remove, write_file
from dinoclassify.writers.chunks import Piece, chunk_size, next_number, piece_files, read_lines, write_rows
from dinoclassify.writers.formats.base import Lines, R
from dinoclassify.writers.manifest import dump, parse

_NAMES = re.compile(r"meta\.json|plan|rows|new|old")


class FolderJournal(Generic[R]):
    """The journal of a folder.

    Args:
        folder: a path or a URL.
        lines: the format of the rows.
        batch_size: the images of a batch; a piece has whole batches.
    """

    def __init__(self, folder: str, lines: Lines[R], *, batch_size: int) -> None:
        self.name = OutputPaths(folder).journal
        self._fs, self.path = open_place(self.name)
        self._lines, self._batch_size = lines, batch_size
        self.run = uuid.uuid4().hex  # identifies an interrupted run and those that resume it
        self._session = uuid.uuid4().hex[:16]
        self._meta: dict[str, Any] | None = None
        self._buffer: list[R] = []  # rows that are not in a piece yet
        self._pieces: list[str] = []  # files of the pieces of this run
        self._first = 0  # the number of the first of these

    def load(self) -> None:
        """Read the metadata of the journal, if there is one.

        Raises:
            UsageError: they cannot be read.
        """
        content = read_file(self._fs, f"{self.path}/meta.json")
        required = {"run", "made_with", "adds_to_output"}
        self._meta = parse(content, f"{self.name}/meta.json", required) if content else None

    def meta(self) -> dict[str, Any] | None:
        """Return the metadata of the journal; None if there is no journal."""
        return self._meta

    def rows(self) -> Iterator[R]:
        """Yield all rows."""
        return map(self._lines.parse, self._read(piece_files(self.name)))

    def begin(self, meta: Mapping[str, object]) -> None:
        """Start an empty journal.

        Raises:
            OutputError: it cannot be written, or its folder has files of others.
        """
        with as_output_errors(self.name):
            names = names_in(self._fs, self.path)
            if others := [name for name in names if not (_NAMES.fullmatch(name) or is_temporary(name))]:
                raise OutputError(f"{self.name} has {name_some(others)}, which no run wrote: choose another folder")
            self.remove()
            write_file(self._fs, f"{self.path}/meta.json", dump({"run": self.run, **meta}))

    def resume(self) -> None:
        """Continue the journal of an interrupted run."""
        assert self._meta is not None  # noqa: S101 - there is a journal
        self.run = self._meta["run"]
        self._first = next_number(piece_files(self.name))

    def append(self, row: R) -> None:
        """Add a row. A kill loses at most the rows of one piece."""
        self._buffer.append(row)
        if len(self._buffer) == chunk_size(self._batch_size):
            self._write_piece(len(self._buffer))

    def appended(self) -> Iterator[bytes]:
        """Yield the rows that this run added, as lines."""
        self._write_piece(len(self._buffer))
        return self._read(self._pieces)

    def lines(self) -> Iterator[bytes]:
        """Yield all rows, as lines."""
        self._write_piece(len(self._buffer))
        return self._read(piece_files(self.name))

    def remove(self) -> None:
        """Remove the journal."""
        remove(self._fs, self.path)
        self._meta = None

    def close(self) -> None:
        """Write the rows of whole batches that are not in a piece yet."""
        self._write_piece(len(self._buffer) - len(self._buffer) % self._batch_size)

    def _read(self, files: list[str]) -> Iterator[bytes]:
        return read_lines(self.name, files, self._lines)

    def _write_piece(self, rows: int) -> None:
        if rows:
            piece = Piece(f"{self._first + len(self._pieces):09}-{self._session}", 0, last=True)
            self._pieces.append(write_rows(self.name, piece, self._lines, self._buffer[:rows]).file)
            del self._buffer[:rows]
