"""A SQLite database among the temporary files: it takes little memory, and disappears with the process."""

import sqlite3
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from dinoclassify.errors import OutputError

_SETUP = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"


class ScratchTable:
    """A database for one run, with the tables that ``script`` creates. Several threads may use it in turn.

    Any method raises OutputError if the folder for temporary files is full; ``content`` is what is kept, for the
    message.
    """

    def __init__(self, script: str, content: str) -> None:
        self._content = content
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self._database.close)  # not before: a thread may still use it
        with self._as_output_errors():
            self._database.executescript(_SETUP + script)

    def execute(self, statement: str, values: Sequence[object] | Mapping[str, object] = ()) -> sqlite3.Cursor:
        """Execute a statement and return its cursor."""
        with self._as_output_errors():
            return self._database.execute(statement, values)

    def first(self, query: str, values: Sequence[object] = ()) -> tuple[Any, ...] | None:
        """Return the first row of a query; None if it has none."""
        with self._as_output_errors():
            row: tuple[Any, ...] | None = self._database.execute(query, values).fetchone()
            return row

    def insert(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        """Execute a statement for each of many rows, in one transaction."""
        with self._as_output_errors():
            self._database.execute("BEGIN")
            self._database.executemany(statement, rows)
            self._database.execute("COMMIT")

    def close(self) -> None:
        """Remove the database."""
        self._database.close()

    @contextmanager
    def _as_output_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            cure = "make room for temporary files, or set SQLITE_TMPDIR to another folder (dinoclassify guide doctor)"
            raise OutputError(f"cannot keep {self._content} ({error}): {cure}") from error
