"""SQLite: a table `predictions` with the columns of the CSV, typed, and a table `run` with the metadata of the run."""

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
_MOST_COLUMNS = 2000  # of a table, as SQLite is compiled by default
_PATIENCE = 1.0  # seconds for which another program may be in the middle of a change


def open_format(name: str, top_k: int) -> RowFormat[Prediction]:
    """Return the format for predictions with ``top_k`` ranks.

    Raises:
        UsageError: SQLite has too few columns for as many ranks.
    """
    return RowFormat(name, JSONLines(top_k), SQLiteTable(top_k), refuse_database_in_use, read_meta)


@dataclass(frozen=True)
class SQLiteTable:
    """Predictions with ``top_k`` ranks; see `writers.formats.base.Table`.

    Raises:
        UsageError: that is more than SQLite has columns for.
    """

    top_k: int

    def __post_init__(self) -> None:
        if len(columns(self.top_k)) > _MOST_COLUMNS:
            raise UsageError(f"--top-k {self.top_k} is more than SQLite has columns for: use Parquet or JSON Lines")

    def write(self, file: BinaryIO, rows: Iterable[Prediction], meta: Mapping[str, object]) -> None:
        """Write a database in place of an empty regular file."""
        names = columns(self.top_k)
        definition = ", ".join(f'"{name}" {_TYPES[kind]}' for name, kind in names.items())
        insert = f"INSERT INTO predictions VALUES ({', '.join('?' * len(names))})"
        with _reporting(), closing(sqlite3.connect(file.name)) as connection, connection:
            connection.execute("PRAGMA journal_mode = OFF")  # nobody else sees it before it is complete
            connection.execute(f"CREATE TABLE predictions ({definition})")
            connection.executemany(insert, (list(record(row, self.top_k).values()) for row in rows))
            if meta:
                connection.execute("CREATE TABLE run (meta TEXT)")
                connection.execute("INSERT INTO run VALUES (?)", [json.dumps(meta, default=str)])

    def read(self, name: str) -> Iterator[Prediction]:
        """The rows of a database.

        Raises:
            KeyError, TypeError, ValueError: it has not these columns, or is no such file.
        """
        try:
            # Whoever leaves the rest of the rows may have them collected in another thread.
            with closing(sqlite3.connect(name, check_same_thread=False)) as connection:
                connection.row_factory = sqlite3.Row
                for row in connection.execute("SELECT * FROM predictions ORDER BY rowid"):
                    yield from_record(dict(row), self.top_k)
        except sqlite3.DatabaseError as error:
            raise ValueError(str(error)) from error


def refuse_database_in_use(name: str) -> None:
    """Refuse a name that no new database may take now: SQLite would write the changes of an older one into it.

    Those stand in ``NAME-wal`` or ``NAME-journal``, beside the file that ``name`` leads to. An empty ``NAME-wal``
    counts as well: a program may have it open. A journal without a header is one that SQLite takes for done.

    Raises:
        OutputError: another program is changing the file, has it open in WAL mode, or died in the middle of a change.
    """
    path = os.path.realpath(name)
    for beside in (f"{path}-wal", f"{path}-journal"):
        if not os.path.lexists(beside) or (beside.endswith("-journal") and _is_done(beside)):
            continue
        if file_signature(path)[0] in {None, 0}:
            raise OutputError(
                f"cannot write {name}: {beside} is of a database that is gone; move it away, or remove it"
            )
        raise OutputError(
            f"cannot write {name}: {beside} is of a program that has it open, or that died; close that program, "
            f"or run: sqlite3 {shlex.quote(name)} 'PRAGMA journal_mode = DELETE'"
        )
    if os.path.isfile(path) and _is_locked(path):
        raise OutputError(f"cannot write {name}: another program is changing it; save its changes, or close it")


def _is_done(journal: str) -> bool:
    """Whether nothing is to be taken back, as SQLite judges by the first byte."""
    try:
        with open(journal, "rb") as file:
            return file.read(1) in {b"", b"\0"}
    except OSError:
        return False


def _is_locked(path: str) -> bool:
    """Whether a program is in the middle of a change. Its journal has no header before the change is large, or done."""
    try:
        with closing(sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:  # others: it is no database, or may not be written to, and is only replaced
        return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
    return False


def read_meta(name: str) -> object:
    """The metadata of the run in a database, parsed; None if it carries none.

    Raises:
        ValueError: it is not a database of rows.
    """
    try:
        with closing(sqlite3.connect(name)) as connection:
            if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'run'").fetchone():
                return None
            row = connection.execute("SELECT meta FROM run").fetchone()
    except sqlite3.Error as error:
        raise ValueError(str(error)) from error
    return json.loads(row[0]) if row is not None else None


@contextmanager
def _reporting() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise OutputError(f"cannot write the SQLite output: {error}") from error
