"""The rows of earlier runs, to be found by path: a table on disk, which takes no memory and goes with the process."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic

from dinoclassify.errors import OutputError
from dinoclassify.reading import signature_of
from dinoclassify.rows import Status, shown_path
from dinoclassify.sources import Source
from dinoclassify.writers import Lines, R

_TABLE = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE rows (
    id INTEGER PRIMARY KEY, path TEXT, nth INTEGER, newer INTEGER, asked INTEGER,
    size INTEGER, mtime_ns INTEGER, status TEXT, error_code TEXT, line BLOB
);
CREATE INDEX by_path ON rows (path, newer, nth);
CREATE INDEX by_unasked ON rows (path, nth, newer DESC) WHERE NOT asked;
CREATE INDEX by_asked ON rows (id) WHERE NOT asked;
"""
_INSERT = """
INSERT INTO rows VALUES
    (?, ?, (SELECT ifnull(max(nth) + 1, 0) FROM rows WHERE path = ? AND newer = ?), ?, ?, ?, ?, ?, ?, ?)
"""
_FIRST_SAME = """
SELECT id, nth, status, error_code FROM rows WHERE path = ? AND size IS ? AND mtime_ns IS ? AND NOT asked
ORDER BY nth, newer DESC LIMIT 1
"""
_FIRST = "SELECT id, nth, status, error_code FROM rows WHERE path = ? AND NOT asked ORDER BY nth, newer DESC LIMIT 1"


@dataclass(frozen=True, slots=True)
class EarlierRow:
    """A row that is there already: its number, and what of it is counted."""

    number: int
    status: Status
    error_code: str | None


class EarlierRows(Generic[R]):
    """Rows in the order in which they were added, numbered from 0.

    The same path may stand in several rows of one file, for inputs that were named twice: the first row is for the
    first of them, and so on. A ``newer`` row takes the place of the one for the same input that is not.

    Args:
        lines: what a row is kept as.

    Raises:
        OutputError: the folder for temporary files is full; any method may raise it.
    """

    def __init__(self, lines: Lines[R]) -> None:
        self._lines = lines
        # Whoever asks for the next input may do so in another thread than whoever writes.
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        with keeping():
            self._database.executescript(_TABLE)
        self.count = 0

    def add(self, row: R, *, newer: bool, asked: bool = False) -> None:
        """Add a row; ``asked``: it is one of this run's."""
        path, failure = shown_path(row.path), row.failure
        values = (
            self.count,
            path,
            path,
            newer,
            newer,
            asked,
            row.size,
            row.mtime_ns,
            row.status,
            failure and failure.code,
            self._lines.line(row),
        )
        with keeping():
            self._database.execute(_INSERT, values)
        self.count += 1

    def ask(self, source: Source) -> EarlierRow | None:
        """A row of an input that is of its picture as it is now. Each row is given once."""
        path = shown_path(source.path)
        # The first that is of the picture as it is now ends the search: a path may be named very often.
        same = self._database.execute(_FIRST_SAME, (path, *signature_of(source))).fetchone()
        found = same or self._database.execute(_FIRST, (path,)).fetchone()
        if found is None:
            return None
        number, nth, status, error_code = found
        with keeping():
            self._database.execute("UPDATE rows SET asked = 1 WHERE path = ? AND nth = ? AND NOT asked", (path, nth))
        return EarlierRow(number, status, error_code) if same else None

    def others(self) -> Iterator[tuple[int, str]]:
        """The rows of inputs that have not been asked for: their numbers and paths, in order."""
        yield from self._database.execute("SELECT id, path FROM rows WHERE NOT asked ORDER BY id")

    def read(self, numbers: Iterable[range]) -> Iterator[R]:
        """The rows of these numbers."""
        for some in numbers:
            between = "SELECT line FROM rows WHERE id BETWEEN ? AND ? ORDER BY id"
            for (line,) in self._database.execute(between, (some.start, some.stop - 1)):
                yield self._lines.parse(line)


@contextmanager
def keeping(what: str = "the rows of the earlier run") -> Iterator[None]:
    """Raise what goes wrong with a table of ``what`` among the temporary files as the errors of an output."""
    try:
        yield
    except sqlite3.Error as error:
        cure = "make room in the folder for temporary files, or set SQLITE_TMPDIR to another"
        raise OutputError(f"cannot keep {what} ({error}): {cure}") from error
