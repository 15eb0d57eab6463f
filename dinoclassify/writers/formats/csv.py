"""CSV and TSV: UTF-8, rows end in a newline, fields are quoted as in RFC 4180, and empty without a value."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from dinoclassify.types.prediction import Prediction
from dinoclassify.writers.formats.base import RowFormat
from dinoclassify.writers.formats.columns import Value, columns, from_record, record


def open_format(name: str, top_k: int) -> RowFormat[Prediction]:
    """Return the format ``csv`` or ``tsv`` for predictions with ``top_k`` ranks."""
    return RowFormat(name, TSVLines(top_k) if name == "tsv" else CSVLines(top_k))


@dataclass(frozen=True)
class CSVLines:
    """Predictions with ``top_k`` ranks as lines of CSV; see `writers.formats.base.Lines`."""

    top_k: int

    separator: ClassVar[str] = ","

    def header(self) -> bytes:
        """Return the line with the column names."""
        return join(columns(self.top_k), self.separator)

    def line(self, row: Prediction) -> bytes:
        """Return one row."""
        return join(record(row, self.top_k).values(), self.separator)

    def lines(self, file: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the header and the complete rows of a file; a quoted field may span lines of text."""
        parts: list[bytes] = []
        within_quotes = False
        for text in file:
            parts.append(text)
            within_quotes ^= text.count(b'"') % 2 == 1
            if text.endswith(b"\n") and not within_quotes:
                yield b"".join(parts)
                parts.clear()

    def parse(self, line: bytes) -> Prediction:
        """Return the prediction in a line; see `Lines`."""
        return self._read(split(line, self.separator))

    def _read(self, fields: Sequence[str]) -> Prediction:
        kinds = columns(self.top_k)
        if len(fields) != len(kinds):
            raise ValueError(f"a row has {len(fields)} fields, not {len(kinds)}")
        named = zip(kinds.items(), fields, strict=True)
        row = {name: None if text == "" else kind(text) for (name, kind), text in named}
        return from_record(row, self.top_k)


@dataclass(frozen=True)
class TSVLines(CSVLines):
    """Predictions as lines of TSV."""

    separator: ClassVar[str] = "\t"


def join(values: Iterable[Value], separator: str = ",", *, quoted: str = "") -> bytes:
    """Return values as a line. Fields that CSV need not quote are quoted if they have a character of ``quoted``."""
    special = frozenset(f'{separator}{quoted}"\n\r')
    return (separator.join(_field(value, special) for value in values) + "\n").encode("utf-8")


def split(line: bytes, separator: str = ",") -> list[str]:
    """Return the fields of a line. Raises ValueError if it is not a line of CSV."""
    try:
        return next(csv.reader([line.decode("utf-8").removesuffix("\n")], delimiter=separator))
    except csv.Error as error:
        raise ValueError(str(error)) from error


def _field(value: Value, special: frozenset[str]) -> str:
    # Before Python 3.13 the csv module leaves a lone carriage return unquoted, which readers take for a line end.
    text = "" if value is None else str(value)
    return text if special.isdisjoint(text) else '"' + text.replace('"', '""') + '"'
