"""Formats of rows: one file each here, one entry in `FORMATS` and one case in `open_format`.

Those of features have a package of their own, `dinoclassify.writers.features`.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Generic, Protocol, TypeVar

from dinoclassify.errors import UsageError
from dinoclassify.rows import Prediction, Row

R = TypeVar("R", bound=Row)


class Lines(Protocol[R]):
    """A format that is written line by line."""

    def header(self) -> bytes:
        """What stands above the rows."""

    def line(self, row: R, /) -> bytes:
        """One row, with its end."""

    def lines(self, file: Iterable[bytes], /) -> Iterator[bytes]:
        """The header, if there is one, and the rows of a file; what is not complete at its end is left out."""

    def parse(self, line: bytes, /) -> R:
        """The row that ``line`` was made of. Raises KeyError, TypeError or ValueError if it is no such row."""


class Table(Protocol[R]):
    """A format that is not done before its last row."""

    def write(self, file: BinaryIO, rows: Iterable[R], /) -> None:
        """Write all rows."""

    def read(self, name: str, /) -> Iterator[R]:
        """All rows. Raises KeyError, TypeError or ValueError if there are no such rows in the file."""


@dataclass(frozen=True, slots=True)
class Format:
    """What is known of a format without its module.

    ``suffixes``: of the files that are written in it unless another is asked for. ``table``: it is a `Table`, else
    `Lines`. ``seeks``: it is not written from front to back, and so only to a regular file.
    """

    name: str
    suffixes: tuple[str, ...]
    table: bool = False
    seeks: bool = False


@dataclass(frozen=True, slots=True)
class RowFormat(Generic[R]):
    """A format, ready for rows of one shape.

    ``lines``: what rows are written in as they come; where there is a ``table`` they are that in the end.
    """

    name: str
    lines: Lines[R]
    table: Table[R] | None = None

    def write(self, file: BinaryIO, rows: Iterable[R]) -> None:
        """Write a whole file."""
        if self.table is not None:
            self.table.write(file, rows)
        else:
            file.write(self.lines.header())
            file.writelines(map(self.lines.line, rows))

    def write_lines(self, file: BinaryIO, lines: Iterable[bytes], meta: Mapping[str, object]) -> None:
        """Write a whole file of rows that are lines already."""
        if self.table is not None:
            self.table.write(file, map(self.lines.parse, lines))
        else:
            file.write(self.lines.header())
            file.writelines(lines)


FORMATS = (
    Format("csv", (".csv",)),
    Format("jsonl", (".jsonl", ".ndjson")),
    Format("parquet", (".parquet",), table=True),
    Format("sqlite", (".sqlite", ".sqlite3", ".db"), table=True, seeks=True),
)
FEATURE_FORMATS = (
    Format("parquet", (".parquet",), table=True),
    Format("npz", (".npz",), table=True, seeks=True),
    Format("npy", (".npy",), table=True, seeks=True),
)
_EXCEL = Format("excel", ())  # takes the place of csv on demand


def choose_format(
    output: str | None, name: str | None, formats: Sequence[Format] = FORMATS, *, excel_safe: bool = False
) -> Format:
    """The format by its name, else by the suffix of the output, else the first.

    Raises:
        UsageError: there is no such format among them, or it cannot be made safe for Excel.
    """
    suffix = os.path.splitext(output or "")[1].lower()
    fits = [made for made in formats if (made.name == name if name is not None else suffix in made.suffixes)]
    choice = ", ".join(made.name for made in formats)
    if name is not None and not fits:
        raise UsageError(f"--format {name}: choose {choice}")
    if not fits and any(suffix in made.suffixes for made in (*FORMATS, *FEATURE_FORMATS)):
        raise UsageError(
            f"{output}: {suffix} is not a format of this command, choose {choice} with --format, or a suffix"
        )
    chosen = next(iter(fits), formats[0])
    if excel_safe and chosen.name != "csv":
        raise UsageError(f"--excel-safe goes with CSV, not with {chosen.name}")
    return _EXCEL if excel_safe else chosen


def open_format(name: str, top_k: int) -> RowFormat[Prediction]:
    """The format ``name`` for predictions with ``top_k`` ranks.

    Raises:
        UsageError: it does not hold as many.
    """
    from dinoclassify.writers.csv import CSVLines
    from dinoclassify.writers.excel import ExcelLines
    from dinoclassify.writers.jsonl import JSONLines

    match name:
        case "csv":
            return RowFormat(name, CSVLines(top_k))
        case "excel":
            return RowFormat(name, ExcelLines(top_k))
        case "parquet":
            from dinoclassify.writers.parquet import ParquetTable

            return RowFormat(name, JSONLines(top_k), ParquetTable(top_k))
        case "sqlite":
            from dinoclassify.writers.sqlite import SQLiteTable

            return RowFormat(name, JSONLines(top_k), SQLiteTable(top_k))
        case _:
            return RowFormat(name, JSONLines(top_k))
