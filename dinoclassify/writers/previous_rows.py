"""Rows of earlier runs, found again by path: a table on disk, which takes no memory and goes with the process."""

import sqlite3
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Generic, Literal

from dinoclassify.discovery.location import absolute_path, is_relative_file
from dinoclassify.errors import OutputError
from dinoclassify.storage.paths import shown_path
from dinoclassify.storage.reader import signature_of
from dinoclassify.types.prediction import Status
from dinoclassify.types.source import Source
from dinoclassify.writers.formats import Lines, R

_TABLE = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE rows (
    number INTEGER PRIMARY KEY, file TEXT, path TEXT, size INTEGER, mtime REAL, status TEXT, error_code TEXT,
    claimed INTEGER, line BLOB
);
CREATE INDEX unclaimed ON rows (file, size, mtime) WHERE NOT claimed;
CREATE INDEX failed ON rows (file) WHERE NOT claimed AND status = 'failed';
"""
_INSERT = "INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?)"
# Rows of a file's other content. Sorted by size and time, its first and its last row show whether there is one: no scan
# is needed.
_CHANGED = """
SELECT number FROM (
    SELECT * FROM (SELECT * FROM rows WHERE file = :file AND NOT claimed ORDER BY size, mtime LIMIT 1)
    UNION ALL
    SELECT * FROM (SELECT * FROM rows WHERE file = :file AND NOT claimed ORDER BY size DESC, mtime DESC LIMIT 1)
) WHERE (size IS NOT :size OR mtime IS NOT :mtime)
"""
# Where a row takes the place of all of other content, those that count are alike: to find one is enough. It is looked
# for once, and not beside each row: a path may be named very often.
_ALIKE = "SELECT 1 FROM rows WHERE file = :file AND NOT claimed AND size IS :size AND mtime IS :mtime"
_NO_TIME = ":mtime IS NULL AND :size IS NOT NULL"  # a size alone does not show that the content is the same
_FAILED = "SELECT number FROM rows WHERE file = :file AND NOT claimed AND status = 'failed'"
# Whose place a later row of the file takes: see `Replaced`.
_CLAIM = "UPDATE rows SET claimed = 1 WHERE"
_REPLACE = {
    "changed": f"{_CLAIM} file = (SELECT :file WHERE NOT EXISTS ({_ALIKE})) AND NOT claimed",
    "remade": f"{_CLAIM} number = ({_CHANGED} OR ({_NO_TIME}) UNION ALL {_FAILED} LIMIT 1)",
    "all": f"{_CLAIM} file = :file AND NOT claimed",
}
_FIND = "SELECT number, ifnull(path, file), status, error_code FROM rows WHERE file = ?1 AND NOT claimed"
_SAME = f"{_FIND} AND size IS ?2 AND mtime IS ?3 AND (?3 IS NOT NULL OR ?2 IS NULL) LIMIT 1"
_OTHER = f"{_FIND} LIMIT 1"
_UNCLAIMED = "SELECT number, ifnull(path, file), status FROM rows WHERE NOT claimed ORDER BY number"
_DROP_FAILED = """
UPDATE rows SET claimed = 1 WHERE file = ? AND NOT claimed AND status = 'failed' AND mtime IS NOT ?
"""

# The earlier rows of the same file whose place a row takes: all of other content, as in a finished output; one of other
# content or that failed, as in a journal; or all, as where rows are added at the end each time that they are made.
Replaced = Literal["changed", "remade", "all"]


@dataclass(frozen=True, slots=True)
class PreviousRow:
    """A row of an earlier run: its number, its counted values, and whether its image is still the same file."""

    number: int
    status: Status
    error_code: str | None
    unchanged: bool = True


class PreviousRows(Generic[R]):
    """Rows in the order in which they are added, numbered from 0.

    A path is known by its absolute form, so that ``photos/a.jpg`` finds the row of ``./photos/a.jpg``. One path may
    have several rows, of inputs that were named twice: each row is claimed once.

    Args:
        lines: the format that rows are kept in.
        folder: the working folder of this run.

    Raises:
        OutputError: the folder for temporary files is full; any method may raise it.
    """

    def __init__(self, lines: Lines[R], folder: str) -> None:
        self._lines = lines
        self._folder = folder
        # One thread asks for the next input while another writes.
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self._database.close)  # not before: a thread may still ask for an input
        with temporary_table():
            self._database.executescript(_TABLE)
        self.count = 0
        self.respelled = False  # whether a row has another path than in its file

    def add(self, row: R, folder: str, *, replaces: Replaced) -> None:
        """Add a row.

        Args:
            row: of an earlier run.
            folder: the working folder of that run. A relative path from another folder becomes absolute.
            replaces: the earlier rows that count no more.
        """
        file = absolute_path(row.path, folder)
        if folder != self._folder and is_relative_file(row.path):
            row, self.respelled = _with_path(row, file), True
        mtime = _as_double(row.mtime_ns)
        file, path, failure = shown_path(file), shown_path(row.path), row.failure
        values = (
            *(self.count, file, path if path != file else None, row.size, mtime, row.status, failure and failure.code),
            self._lines.line(row),
        )
        self._execute(_REPLACE[replaces], {"file": file, "size": row.size, "mtime": mtime})
        self._execute(_INSERT, values)
        self.count += 1

    def statuses(self) -> Counter[str]:
        """The number of rows by status, replaced ones left out."""
        query = "SELECT status, count(*) FROM rows WHERE NOT claimed GROUP BY status"
        return Counter(dict(self._execute(query)))

    def claim(self, source: Source) -> PreviousRow | None:
        """The row of an input, if there is one. It takes the path of the input; each row is given once.

        A row of the file as it is now goes before rows of its earlier content. Of an object of which only its size is
        known no row is taken for one of its content as it is now.
        """
        if not self.count:
            return None
        file = shown_path(absolute_path(source.path, self._folder))
        size, mtime_ns = signature_of(source)
        # The first row of the file as it is now ends the search: a path may be named very often.
        same = self._execute(_SAME, (file, size, _as_double(mtime_ns))).fetchone()
        found = same or self._execute(_OTHER, (file,)).fetchone()
        if found is None:
            return None
        number, path, status, error_code = found
        self._execute("UPDATE rows SET claimed = 1 WHERE number = ?", (number,))
        if same and path != shown_path(source.path):
            self._respell(number, source.path)
        return PreviousRow(number, status, error_code, unchanged=bool(same))

    def drop(self, path: str) -> None:
        """Leave out all rows of a path that no input has claimed: another row takes their place."""
        file = shown_path(absolute_path(path, self._folder))
        self._execute("UPDATE rows SET claimed = 1 WHERE file = ? AND NOT claimed", (file,))

    def drop_failed(self, path: str, mtime_ns: int | None) -> None:
        """Claim the rows that say why an archive or folder could not be read, but for those with this time."""
        file = shown_path(absolute_path(path, self._folder))
        self._execute(_DROP_FAILED, (file, -1.0 if mtime_ns is None else float(mtime_ns)))

    def unclaimed(self) -> Iterator[tuple[int, str, Status]]:
        """The number, the path and the status of each row that no input of this run has, in order."""
        yield from self._execute(_UNCLAIMED)

    def read(self, numbers: range) -> Iterator[bytes]:
        """The lines of these rows."""
        between = "SELECT line FROM rows WHERE number BETWEEN ? AND ? ORDER BY number"
        for (line,) in self._execute(between, (numbers.start, numbers.stop - 1)):
            yield line

    def _respell(self, number: int, path: str) -> None:
        (line,) = self._execute("SELECT line FROM rows WHERE number = ?", (number,)).fetchone()
        respelled = self._lines.line(_with_path(self._lines.parse(line), path))
        self._execute("UPDATE rows SET line = ? WHERE number = ?", (respelled, number))
        self.respelled = True

    def _execute(self, statement: str, values: Sequence[object] | Mapping[str, object] = ()) -> sqlite3.Cursor:
        with temporary_table():
            return self._database.execute(statement, values)


def _with_path(row: R, path: str) -> R:
    changed: R = replace(row, path=path)  # type: ignore[type-var]  # every row is a dataclass, which `Row` cannot say
    return changed


def _as_double(mtime_ns: int | None) -> float | None:
    """A time as jq and other programs keep it that know no other numbers than doubles."""
    return None if mtime_ns is None else float(mtime_ns)


@contextmanager
def temporary_table(what: str = "the rows of the earlier run") -> Iterator[None]:
    """Turn errors of a table of ``what``, among the temporary files, into those of an output."""
    try:
        yield
    except sqlite3.Error as error:
        cure = "make room in the folder for temporary files, or set SQLITE_TMPDIR to another"
        raise OutputError(f"cannot keep {what} ({error}): {cure}") from error
