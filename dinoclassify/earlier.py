"""The rows of earlier runs, to be found by path: a table on disk, which takes no memory and goes with the process."""

import os
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dinoclassify.rows import Prediction, Status, shown_path
from dinoclassify.writers import jsonl

Signature = tuple[int, int] | tuple[None, None]  # size in bytes and mtime_ns of a file

_TABLE = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE rows (
    id INTEGER PRIMARY KEY, path TEXT, nth INTEGER, newer INTEGER, asked INTEGER,
    size INTEGER, mtime_ns INTEGER, status TEXT, error_code TEXT, line BLOB
);
CREATE INDEX by_path ON rows (path, asked);
CREATE INDEX by_asked ON rows (id) WHERE NOT asked;
"""


@dataclass(frozen=True, slots=True)
class EarlierRow:
    """A row that is there already: its number, and what of it is counted."""

    number: int
    status: Status
    error_code: str | None


def signature(path: str) -> Signature:
    """What tells whether a file has changed; None where there is no such file."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None, None
    return status.st_size, status.st_mtime_ns


class EarlierRows:
    """Rows in the order in which they were added, numbered from 0.

    The same path may stand in several rows of one file, for inputs that were named twice: the first row is for the
    first of them, and so on. A ``newer`` row takes the place of the one for the same input that is not.
    """

    def __init__(self) -> None:
        # Whoever asks for the next input may do so in another thread than whoever writes.
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.executescript(_TABLE)
        self.count = 0

    def add(self, prediction: Prediction, *, newer: bool, asked: bool = False) -> None:
        """Add a row; ``asked``: it is one of this run's."""
        path, failure = shown_path(prediction.path), prediction.failure
        self._database.execute(
            "INSERT INTO rows VALUES "
            "(?, ?, (SELECT count(*) FROM rows WHERE path = ? AND newer = ?), ?, ?, ?, ?, ?, ?, ?)",
            (
                self.count,
                path,
                path,
                newer,
                newer,
                asked,
                prediction.size,
                prediction.mtime_ns,
                prediction.status,
                failure and failure.code,
                jsonl.line(prediction, len(prediction.top)),
            ),
        )
        self.count += 1

    def ask(self, path: str) -> EarlierRow | None:
        """The row of an input, if its file is still what it was. Each row is given once."""
        key = shown_path(path)
        found = self._database.execute(
            "SELECT id, nth, size, mtime_ns, status, error_code FROM rows WHERE path = ? AND NOT asked "
            "ORDER BY nth, newer DESC LIMIT 1",
            (key,),
        ).fetchone()
        if found is None:
            return None
        number, nth, size, mtime_ns, status, error_code = found
        self._database.execute("UPDATE rows SET asked = 1 WHERE path = ? AND nth = ? AND NOT asked", (key, nth))
        return EarlierRow(number, status, error_code) if signature(path) == (size, mtime_ns) else None

    def others(self) -> Iterator[tuple[int, str]]:
        """The rows of inputs that have not been asked for: their numbers and paths, in order."""
        yield from self._database.execute("SELECT id, path FROM rows WHERE NOT asked ORDER BY id")

    def read(self, numbers: Iterable[range]) -> Iterator[Prediction]:
        """The rows of these numbers."""
        for some in numbers:
            between = "SELECT line FROM rows WHERE id BETWEEN ? AND ? ORDER BY id"
            for (line,) in self._database.execute(between, (some.start, some.stop - 1)):
                yield jsonl.parse(line)
