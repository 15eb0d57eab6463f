"""Formats of rows: one file each here, one entry in `FORMATS`.

A format of lines has ``header(top_k)`` and ``line(prediction, top_k)``, which give bytes, and reads them back with
``lines(file)`` and ``parse(line, top_k)``. A table, which is not done before its last row, has
``write(file, predictions, top_k)`` and ``read(name, top_k)``.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import BinaryIO, Protocol, cast

from dinoclassify.errors import UsageError
from dinoclassify.rows import Prediction


class Lines(Protocol):
    """A format that is written line by line."""

    def header(self, top_k: int, /) -> bytes:
        """What stands above the rows."""

    def line(self, prediction: Prediction, top_k: int, /) -> bytes:
        """One row, with its end."""

    def lines(self, file: BinaryIO, /) -> Iterator[bytes]:
        """The header, if there is one, and the rows of a file; what is not complete at its end is left out."""

    def parse(self, row: bytes, top_k: int, /) -> Prediction:
        """What ``line`` has made the row of. Raises KeyError, TypeError or ValueError if it is no such row."""


class Table(Protocol):
    """A format that is written as a whole."""

    def write(self, file: BinaryIO, predictions: Iterable[Prediction], top_k: int, /) -> None:
        """Write all rows."""

    def read(self, name: str, top_k: int, /) -> Iterator[Prediction]:
        """All rows. Raises KeyError, TypeError or ValueError if there are no such rows in the file."""


@dataclass(frozen=True, slots=True)
class Format:
    """What is known of a format without its module.

    ``suffixes``: of the files that are written in it unless another is asked for. ``table``: it is a `Table`, else
    `Lines`. ``seeks``: it is not written from front to back, and so only to a regular file.
    """

    suffixes: tuple[str, ...]
    table: bool = False
    seeks: bool = False


FORMATS = {
    "csv": Format((".csv",)),
    "jsonl": Format((".jsonl", ".ndjson")),
    "parquet": Format((".parquet",), table=True),
    "sqlite": Format((".sqlite", ".sqlite3", ".db"), table=True, seeks=True),
}
_EXCEL = "excel"  # takes the place of csv on demand


def choose_format(output: str | None, name: str | None, *, excel_safe: bool = False) -> str:
    """The format by its name, else by the suffix of the output, else CSV.

    Raises:
        UsageError: there is no such format, or it cannot be made safe for Excel.
    """
    if name is not None and name not in FORMATS:
        raise UsageError(f"--format {name}: choose {', '.join(FORMATS)}")
    suffix = os.path.splitext(output or "")[1].lower()
    chosen = name or next((name for name, made in FORMATS.items() if suffix in made.suffixes), "csv")
    if excel_safe and chosen != "csv":
        raise UsageError(f"--excel-safe goes with CSV, not with {chosen}")
    return _EXCEL if excel_safe else chosen


def is_table(format_name: str) -> bool:
    """Whether the format is a `Table`."""
    return format_name != _EXCEL and FORMATS[format_name].table


def as_lines(format_name: str) -> Lines:
    """The module of a format of lines."""
    return cast(Lines, import_module(f"dinoclassify.writers.{format_name}"))


def as_table(format_name: str) -> Table:
    """The module of a format that is a table."""
    return cast(Table, import_module(f"dinoclassify.writers.{format_name}"))
