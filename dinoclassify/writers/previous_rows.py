"""Rows of earlier runs, found by path: a table on disk, so that memory does not grow with them."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Generic, Literal

from dinoclassify.discovery.location import absolute_path, is_relative_file
from dinoclassify.storage.paths import shown_path
from dinoclassify.storage.reader import signature_of
from dinoclassify.storage.scratch_table import ScratchTable
from dinoclassify.types.prediction import Status
from dinoclassify.types.source import Source
from dinoclassify.writers.formats.base import Lines, R

_TABLE = """
CREATE TABLE rows (
    number INTEGER PRIMARY KEY, file TEXT, path TEXT, size INTEGER, mtime REAL, status TEXT, error_code TEXT,
    claimed INTEGER, line BLOB
);
CREATE INDEX unclaimed ON rows (file, size, mtime) WHERE NOT claimed;
CREATE INDEX failed ON rows (file) WHERE NOT claimed AND status = 'failed';
"""
_INSERT = "INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?)"
# A row of other content of a file. Without a scan: the first and the last row by size and time show whether one exists.
_CHANGED = """
SELECT number FROM (
    SELECT * FROM (SELECT * FROM rows WHERE file = :file AND NOT claimed ORDER BY size, mtime LIMIT 1)
    UNION ALL
    SELECT * FROM (SELECT * FROM rows WHERE file = :file AND NOT claimed ORDER BY size DESC, mtime DESC LIMIT 1)
) WHERE (size IS NOT :size OR mtime IS NOT :mtime)
"""
# In mode "changed" all unclaimed rows of a file have the same content, so testing one is enough. Without this, adding n
# rows of one path would cost n² steps.
_ALIKE = "SELECT 1 FROM rows WHERE file = :file AND NOT claimed AND size IS :size AND mtime IS :mtime"
_NO_TIME = ":mtime IS NULL AND :size IS NOT NULL"  # a size alone does not show that the content is the same
_FAILED = "SELECT number FROM rows WHERE file = :file AND NOT claimed AND status = 'failed'"
# The rows that a later row of the file replaces, see `Replaced`.
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
_DROP_FAILED = f"{_CLAIM} file = ? AND NOT claimed AND status = 'failed' AND mtime IS NOT ?"

# The earlier rows of the same file that an added row replaces: "changed", all of other content, for a finished output;
# "remade", one of other content or one that failed, for a journal; "all", for an output that is appended to.
Replaced = Literal["changed", "remade", "all"]


@dataclass(frozen=True, slots=True)
class PreviousRow:
    """A row of an earlier run. ``unchanged``: its image has not changed since."""

    number: int
    status: Status
    error_code: str | None
    unchanged: bool = True


class PreviousRows(Generic[R]):
    """Rows in the order in which they are added, numbered from 0.

    Paths are compared in absolute form, so that ``photos/a.jpg`` finds the row of ``./photos/a.jpg``. A path that was
    named several times has several rows; each can be claimed once. Rows are stored in the format ``lines``; ``folder``
    is the working folder of this run.

    Raises:
        OutputError: the folder for temporary files is full; any method may raise it.
    """

    def __init__(self, lines: Lines[R], folder: str) -> None:
        self._lines = lines
        self.folder = folder
        self._table = ScratchTable(_TABLE, "the rows of the earlier run")
        self.count = 0
        self.respelled = False  # whether the path of a row differs from that in its file

    def add(self, row: R, folder: str, *, replaces: Replaced) -> None:
        """Add a row of an earlier run, which replaces rows of the same file.

        If the working ``folder`` of that run is not that of this run, a relative path becomes absolute.
        """
        file = absolute_path(row.path, folder)
        if folder != self.folder and is_relative_file(row.path):
            row, self.respelled = _with_path(row, file), True
        mtime = _as_double(row.mtime_ns)
        file, path, failure = shown_path(file), shown_path(row.path), row.failure
        values = (self.count, file, path if path != file else None, row.size, mtime, row.status)
        self._table.execute(_REPLACE[replaces], {"file": file, "size": row.size, "mtime": mtime})
        self._table.execute(_INSERT, (*values, failure and failure.code, self._lines.line(row)))
        self.count += 1

    def statuses(self) -> Counter[str]:
        """Return the number of rows by status, without replaced rows."""
        query = "SELECT status, count(*) FROM rows WHERE NOT claimed GROUP BY status"
        return Counter(dict(self._table.execute(query)))

    def claim(self, source: Source) -> PreviousRow | None:
        """Return a row of an input and mark it as claimed; None if no row is left.

        Rows of the present content of the file come before rows of earlier content, and take the path as the input
        spells it. An object with a known size but no time counts as changed.
        """
        if not self.count:
            return None
        file = shown_path(absolute_path(source.path, self.folder))
        size, mtime_ns = signature_of(source)
        # LIMIT 1: a path may be named very often.
        same = self._table.execute(_SAME, (file, size, _as_double(mtime_ns))).fetchone()
        match = same or self._table.execute(_OTHER, (file,)).fetchone()
        if match is None:
            return None
        number, path, status, error_code = match
        self._table.execute(f"{_CLAIM} number = ?", (number,))
        if same and path != shown_path(source.path):
            self._respell(number, source.path)
        return PreviousRow(number, status, error_code, unchanged=bool(same))

    def drop(self, path: str) -> None:
        """Drop all unclaimed rows of a path, which has another row now."""
        file = shown_path(absolute_path(path, self.folder))
        self._table.execute(f"{_CLAIM} file = ? AND NOT claimed", (file,))

    def drop_failed(self, path: str, mtime_ns: int | None) -> None:
        """Drop the rows that say why an archive or folder could not be read, except those with this time."""
        file = shown_path(absolute_path(path, self.folder))
        self._table.execute(_DROP_FAILED, (file, -1.0 if mtime_ns is None else float(mtime_ns)))

    def unclaimed(self) -> Iterator[tuple[int, str, Status]]:
        """Yield the number, path and status of each unclaimed row, in order."""
        yield from self._table.execute(_UNCLAIMED)

    def read(self, numbers: range) -> Iterator[bytes]:
        """Yield the lines of the rows with these numbers."""
        between = "SELECT line FROM rows WHERE number BETWEEN ? AND ? ORDER BY number"
        for (line,) in self._table.execute(between, (numbers.start, numbers.stop - 1)):
            yield line

    def _respell(self, number: int, path: str) -> None:
        (line,) = self._table.execute("SELECT line FROM rows WHERE number = ?", (number,)).fetchone()
        respelled = self._lines.line(_with_path(self._lines.parse(line), path))
        self._table.execute("UPDATE rows SET line = ? WHERE number = ?", (respelled, number))
        self.respelled = True


def _with_path(row: R, path: str) -> R:
    changed: R = replace(row, path=path)  # type: ignore[type-var]  # every row is a dataclass, which `Row` cannot say
    return changed


def _as_double(mtime_ns: int | None) -> float | None:
    """Return a time as a double, to which programs such as jq round it."""
    return None if mtime_ns is None else float(mtime_ns)
