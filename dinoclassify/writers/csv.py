"""CSV: UTF-8, lines end in a newline, fields quoted as RFC 4180 says, empty where there is no value."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from dinoclassify.rows import Prediction, Value, columns, from_record, record

_SPECIAL = frozenset(',"\n\r')


@dataclass(frozen=True)
class CSVLines:
    """Predictions with ``top_k`` ranks as lines of CSV; see `dinoclassify.writers.Lines`."""

    top_k: int

    def header(self) -> bytes:
        """The line with the names of the columns."""
        return join(columns(self.top_k))

    def line(self, row: Prediction) -> bytes:
        """One row."""
        return join(record(row, self.top_k).values())

    def lines(self, file: Iterable[bytes]) -> Iterator[bytes]:
        """The complete rows of a file, the header included: a quoted field may span lines of text."""
        parts: list[bytes] = []
        within_quotes = False
        for text in file:
            parts.append(text)
            within_quotes ^= text.count(b'"') % 2 == 1
            if text.endswith(b"\n") and not within_quotes:
                yield b"".join(parts)
                parts.clear()

    def parse(self, line: bytes) -> Prediction:
        """The prediction that a line was made of.

        Raises:
            KeyError, TypeError, ValueError: it is no such line.
        """
        return self._read(split(line))

    def _read(self, fields: Sequence[str]) -> Prediction:
        wanted = columns(self.top_k)
        if len(fields) != len(wanted):
            raise ValueError(f"a row has {len(fields)} fields, not {len(wanted)}")
        named = zip(wanted.items(), fields, strict=True)
        row = {name: None if text == "" else kind(text) for (name, kind), text in named}
        return from_record(row, self.top_k)


def join(values: Iterable[Value]) -> bytes:
    """The line of some values."""
    return (",".join(map(_field, values)) + "\n").encode("utf-8")


def split(line: bytes) -> list[str]:
    """The fields of a line. Raises ValueError if it is none."""
    try:
        return next(csv.reader([line.decode("utf-8").removesuffix("\n")]))
    except csv.Error as error:
        raise ValueError(str(error)) from error


def _field(value: Value) -> str:
    # Not the csv module: before Python 3.13 it leaves a lone carriage return unquoted, which readers take for a line.
    text = "" if value is None else str(value)
    return '"' + text.replace('"', '""') + '"' if not _SPECIAL.isdisjoint(text) else text
