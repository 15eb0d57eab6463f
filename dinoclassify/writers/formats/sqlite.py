"""SQLite: a table `predictions` with the typed columns of the CSV, and a table `run` with the run metadata."""

import json
import os
import shlex
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from dinoclassify.errors import OutputError, UsageError
from dinoclassify.storage.signature import file_signature
from dinoclassify.types.prediction import Prediction
from dinoclassify.writers.formats.base import RowFormat
from dinoclassify.writers.formats.columns import columns, from_record, record
from dinoclassify.writers.formats.jsonl import JSONLines

_TYPES = {str: "TEXT", int: "INTEGER", float: "REAL"}
_MOST_COLUMNS = 2000  # per table, SQLite's default limit
_LOCK_TIMEOUT = 1.0  # seconds that another program may take to finish a change


def open_format(name: str, top_k: int) -> RowFormat[Prediction]:
    """Return the format for predictions with ``top_k`` ranks."""
    return RowFormat(name, JSONLines(top_k), SQLiteTable(top_k), refuse_database_in_use, read_meta)


@dataclass(frozen=True)
class SQLiteTable:
    """Predictions with ``top_k`` ranks; see `writers.formats.base.Table`.

    Raises:
        UsageError: SQLite has too few columns for as many ranks.
    """

    top_k: int

    def __post_init__(self) -> None:
        if len(columns(self.top_k)) > _MOST_COLUMNS:
            raise UsageError(f"--top-k {self.top_k} is more than SQLite has columns for: use Parquet or JSON Lines")

    def write(self, file: BinaryIO, rows: Iterable[Prediction], meta: Mapping[str, object]) -> None:
        """Write a database over an empty regular file."""
        names = columns(self.top_k)
        definition = ", ".join(f'"{name}" {_TYPES[kind]}' for name, kind in names.items())
        insert = f"INSERT INTO predictions VALUES ({', '.join('?' * len(names))})"
        with _as_output_errors(), closing(sqlite3.connect(file.name)) as connection, connection:
            connection.execute("PRAGMA journal_mode = OFF")  # no other program sees the file before it is complete
            connection.execute(f"CREATE TABLE predictions ({definition})")
            connection.executemany(insert, (list(record(row, self.top_k).values()) for row in rows))
            if meta:
                connection.execute("CREATE TABLE run (meta TEXT)")
                connection.execute("INSERT INTO run VALUES (?)", [json.dumps(meta, default=str)])

    def read(self, name: str) -> Iterator[Prediction]:
        """Yield the rows of a database; see `Table`."""
        try:
            # A reader that stops early may close the connection in another thread.
            with closing(sqlite3.connect(name, check_same_thread=False)) as connection:
                connection.row_factory = sqlite3.Row
                for row in connection.execute("SELECT * FROM predictions ORDER BY rowid"):
                    yield from_record(dict(row), self.top_k)
        except sqlite3.DatabaseError as error:
            raise ValueError(str(error)) from error


def refuse_database_in_use(name: str) -> None:
    """Refuse the name of a database with unfinished changes: SQLite would write them into a new file of this name.

    They stand in ``NAME-wal`` or ``NAME-journal``, beside the file that ``name`` leads to. An empty ``NAME-wal`` counts
    too, because a program may have it open. A journal without a header counts as finished, as in SQLite.

    Raises:
        OutputError: another program is changing the file, has it open in WAL mode, or died in the middle of a change.
    """
    path = os.path.realpath(name)
    for beside in (f"{path}-wal", f"{path}-journal"):
        if not os.path.lexists(beside) or (beside.endswith("-journal") and _is_done(beside)):
            continue
        if file_signature(path)[0] in {None, 0}:
            raise OutputError(
                f"cannot write {name}: {beside} belongs to a database that is gone: move it away, or remove it"
            )
        raise OutputError(
            f"cannot write {name}: {beside} belongs to a program that has it open, or died; close it, or run: "
            f"sqlite3 {shlex.quote(name)} 'PRAGMA journal_mode = DELETE' (dinoclassify guide resume)"
        )
    if os.path.isfile(path) and _is_locked(path):
        raise OutputError(f"cannot write {name}: another program is changing it; save its changes, or close it")


def _is_done(journal: str) -> bool:
    """Whether a journal has no changes to roll back, which its first byte shows."""
    try:
        with open(journal, "rb") as file:
            return file.read(1) in {b"", b"\0"}
    except OSError:
        return False


def _is_locked(path: str) -> bool:
    """Whether a program is changing the file; its journal gets a header only when the change is large, or finished."""
    try:
        with closing(sqlite3.connect(path, timeout=_LOCK_TIMEOUT, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:  # other errors: not a database, or read-only; it is only replaced
        return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
    return False


def read_meta(name: str) -> object:
    """Return the run metadata in a database; None if it has none. Raises ValueError for other files."""
    try:
        with closing(sqlite3.connect(name)) as connection:
            if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'run'").fetchone():
                return None
            row = connection.execute("SELECT meta FROM run").fetchone()
    except sqlite3.Error as error:
        raise ValueError(str(error)) from error
    return json.loads(row[0]) if row is not None else None


@contextmanager
def _as_output_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise OutputError(f"cannot write the SQLite output: {error}") from error
