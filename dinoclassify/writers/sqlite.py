"""SQLite: a table `predictions` with the columns of the CSV, typed."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from dinoclassify.errors import OutputError
from dinoclassify.rows import Prediction, columns, record

COMMIT_EVERY = 1_000  # rows

_TYPES = {str: "TEXT", int: "INTEGER", float: "REAL"}


class SqliteWriter:
    """Rows are in the file in groups of `COMMIT_EVERY`."""

    def __init__(self, file: BinaryIO, top_k: int) -> None:
        self._top_k = top_k
        self._written = 0
        names = columns(top_k)
        definition = ", ".join(f'"{name}" {_TYPES[kind]}' for name, kind in names.items())
        self._insert = f"INSERT INTO predictions VALUES ({', '.join('?' * len(names))})"
        with _reporting():
            self._connection = sqlite3.connect(file.name)
            self._connection.execute(f"CREATE TABLE predictions ({definition})")

    def write(self, prediction: Prediction) -> None:
        """Write one row."""
        with _reporting():
            self._connection.execute(self._insert, list(record(prediction, self._top_k).values()))
            self._written += 1
            if self._written % COMMIT_EVERY == 0:
                self._connection.commit()

    def close(self) -> None:
        """Commit the last rows."""
        with _reporting():
            self._connection.commit()
            self._connection.close()


@contextmanager
def _reporting() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise OutputError(f"cannot write the SQLite output: {error}") from error
