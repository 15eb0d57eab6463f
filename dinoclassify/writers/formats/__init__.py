"""Formats of rows: one file each here, one entry in `FORMATS` and one case in `open_format`.

Those of features have a package of their own, `writers.formats.features`.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import BinaryIO, Generic, Protocol, TypeVar

from dinoclassify.errors import UsageError
from dinoclassify.messages import nearest
from dinoclassify.storage.atomic import is_regular
from dinoclassify.types.prediction import Prediction, Row

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

    def write(self, file: BinaryIO, rows: Iterable[R], meta: Mapping[str, object], /) -> None:
        """Write all rows, and then ``meta``, the metadata of the run, where the format has a place for it."""

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
    ``refuse_in_use``: raises OutputError where a new file may not take a name, as another program uses the file there.
    """

    name: str
    lines: Lines[R]
    table: Table[R] | None = None
    refuse_in_use: Callable[[str], None] = lambda _: None

    def write(self, file: BinaryIO, rows: Iterable[R], meta: Mapping[str, object]) -> None:
        """Write a whole file; ``meta`` is the metadata of the run, which is read after the last row."""
        if self.table is not None:
            self.table.write(file, rows, meta)
        else:
            file.write(self.lines.header())
            file.writelines(map(self.lines.line, rows))

    def write_lines(self, file: BinaryIO, lines: Iterable[bytes], meta: Mapping[str, object]) -> None:
        """Write a whole file of rows that are lines already."""
        if self.table is not None:
            self.table.write(file, map(self.lines.parse, lines), meta)
        else:
            file.write(self.lines.header())
            file.writelines(lines)

    def read(self, path: str) -> Iterator[R]:
        """The rows of a file. Raises KeyError, TypeError or ValueError if it has others, and OSError."""
        if self.table is not None:
            yield from self.table.read(path)
        else:
            with open(path, "rb") as file:
                yield from map(self.lines.parse, without_header(self.lines, file))


def without_header(lines: Lines[R], file: Iterable[bytes]) -> Iterator[bytes]:
    """The complete rows of a file, as lines. Raises ValueError if it has other columns."""
    found, header = lines.lines(file), lines.header()
    if header and (first := next(found, header)) != header:
        try:
            lines.parse(first)  # older versions wrote journals of updates without a header
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError("it has other columns") from error
        yield first
    yield from found


FORMATS = (
    Format("csv", (".csv",)),
    Format("tsv", (".tsv",)),
    Format("jsonl", (".jsonl", ".ndjson")),
    Format("csv.gz", (".csv.gz",), table=True),
    Format("tsv.gz", (".tsv.gz",), table=True),
    Format("jsonl.gz", (".jsonl.gz", ".ndjson.gz"), table=True),
    Format("parquet", (".parquet",), table=True),
    Format("sqlite", (".sqlite", ".sqlite3", ".db"), table=True, seeks=True),
)
FEATURE_FORMATS = (
    Format("parquet", (".parquet",), table=True),
    Format("npz", (".npz",), table=True, seeks=True),
    Format("npy", (".npy",), table=True, seeks=True),
)
TABLES = {b"PAR1": "parquet", b"SQLi": "sqlite"}  # how files of these formats begin
RESERVED = {  # what stands beside an output
    ".meta.json": "the metadata",
    ".partial": "the unfinished rows",
    ".seen": "what --watch has seen",
}
MAGIC = 4  # bytes of that

_EXCEL = Format("excel", ())  # takes the place of csv on demand


def choose_format(
    output: str | None, name: str | None, formats: Sequence[Format] = FORMATS, *, excel_safe: bool = False
) -> Format:
    """The format by its name, else by the suffix of the output; the first for stdout, a device or no suffix.

    Raises:
        UsageError: there is no such format among them, it cannot be made safe for Excel, or the name of the output is
            kept for what stands beside one.
    """
    if output is not None:
        refuse_reserved(output)
    if name is not None:
        chosen = next((made for made in formats if made.name == name), None)
        if chosen is None:
            names = [made.name for made in formats]
            raise UsageError(f"--format {name}{nearest(name, names)}: choose {', '.join(names)}")
    elif output is None or not is_regular(output) or not os.path.splitext(output)[1]:
        chosen = formats[0]
    else:
        chosen = _by_suffix(output, formats)
    if excel_safe and chosen.name != "csv":
        raise UsageError(f"--excel-safe goes with CSV, not with {chosen.name}")
    return _EXCEL if excel_safe else chosen


def refuse_reserved(output: str) -> None:
    """Refuse a name that a run gives to what it writes beside its output.

    Raises:
        UsageError: it is one.
    """
    for ending, what in RESERVED.items():
        if output.rstrip("/").endswith(ending):
            raise UsageError(f"{output}: the suffix {ending} is kept for {what} of an output; choose another name")


def _by_suffix(output: str, formats: Sequence[Format]) -> Format:
    for made in formats:
        if output.lower().endswith(made.suffixes):
            return made
    suffix, known = os.path.splitext(output)[1].lower(), [suffix for made in formats for suffix in made.suffixes]
    near = get_close_matches(suffix, known, n=1, cutoff=0.7)
    guess = f", did you mean {near[0]}? Choose" if near else ": choose"
    raise UsageError(f"{output}: unknown suffix {suffix}{guess} {' '.join(known)}, or name the format with --format")


def open_format(name: str, top_k: int) -> RowFormat[Prediction]:
    """The format ``name`` for predictions with ``top_k`` ranks.

    Raises:
        UsageError: it does not hold as many.
    """
    from dinoclassify.writers.formats.csv import CSVLines, TSVLines
    from dinoclassify.writers.formats.excel_csv import ExcelLines
    from dinoclassify.writers.formats.gzip import GzipTable
    from dinoclassify.writers.formats.jsonl import JSONLines

    lines: Lines[Prediction]
    match name.removesuffix(".gz"):
        case "csv":
            lines = CSVLines(top_k)
        case "tsv":
            lines = TSVLines(top_k)
        case "excel":
            lines = ExcelLines(top_k)
        case "parquet":
            from dinoclassify.writers.formats.parquet import ParquetTable

            return RowFormat(name, JSONLines(top_k), ParquetTable(top_k))
        case "sqlite":
            from dinoclassify.writers.formats.sqlite import SQLiteTable, refuse_database_in_use

            return RowFormat(name, JSONLines(top_k), SQLiteTable(top_k), refuse_database_in_use)
        case _:
            lines = JSONLines(top_k)
    return RowFormat(name, lines, GzipTable(lines) if name.endswith(".gz") else None)
