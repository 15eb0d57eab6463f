"""SQLite: a table `predictions` with the columns of the CSV, typed."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import BinaryIO

from dinoclassify.errors import OutputError
from dinoclassify.rows import Prediction, columns, from_record, record

_TYPES = {str: "TEXT", int: "INTEGER", float: "REAL"}


def write(file: BinaryIO, predictions: Iterable[Prediction], top_k: int) -> None:
    """Write a database in place of an empty regular file."""
    names = columns(top_k)
    definition = ", ".join(f'"{name}" {_TYPES[kind]}' for name, kind in names.items())
    insert = f"INSERT INTO predictions VALUES ({', '.join('?' * len(names))})"
    with _reporting(), closing(sqlite3.connect(file.name)) as connection, connection:
        connection.execute("PRAGMA journal_mode = OFF")  # nobody else sees it before it is complete
        connection.execute(f"CREATE TABLE predictions ({definition})")
        connection.executemany(insert, (list(record(prediction, top_k).values()) for prediction in predictions))


def read(name: str, top_k: int) -> Iterator[Prediction]:
    """The rows of a database.

    Raises:
        KeyError, TypeError, ValueError: it has not these columns, or is no such file.
    """
    try:
        with closing(sqlite3.connect(name)) as connection:
            connection.row_factory = sqlite3.Row
            for row in connection.execute("SELECT * FROM predictions ORDER BY rowid"):
                yield from_record(dict(row), top_k)
    except sqlite3.DatabaseError as error:
        raise ValueError(str(error)) from error


@contextmanager
def _reporting() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise OutputError(f"cannot write the SQLite output: {error}") from error
