"""CSV: UTF-8, lines end in a newline, fields quoted as RFC 4180 says, empty where there is no value."""

import csv
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from dinoclassify.rows import Prediction, Value, columns, from_record, record

_SPECIAL = frozenset(',"\n\r')


def header(top_k: int) -> bytes:
    """The line with the names of the columns."""
    return join(columns(top_k))


def line(prediction: Prediction, top_k: int) -> bytes:
    """One row."""
    return join(record(prediction, top_k).values())


def lines(file: BinaryIO) -> Iterator[bytes]:
    """The complete rows of a file, the header included: a quoted field may span lines of text."""
    parts: list[bytes] = []
    within_quotes = False
    for text in file:
        parts.append(text)
        within_quotes ^= text.count(b'"') % 2 == 1
        if text.endswith(b"\n") and not within_quotes:
            yield b"".join(parts)
            parts.clear()


def parse(row: bytes, top_k: int) -> Prediction:
    """What `line` has made the row of.

    Raises:
        KeyError, TypeError, ValueError: it is no such row.
    """
    return from_record(read_values(split(row), top_k), top_k)


def join(values: Iterable[Value]) -> bytes:
    """The line of some values."""
    return (",".join(map(_field, values)) + "\n").encode("utf-8")


def split(row: bytes) -> list[str]:
    """The fields of a line. Raises ValueError if it is none."""
    try:
        return next(csv.reader([row.decode("utf-8").removesuffix("\n")]))
    except csv.Error as error:
        raise ValueError(str(error)) from error


def read_values(fields: Iterable[str], top_k: int) -> dict[str, Value]:
    """The values that stand in the fields of a row."""
    kinds = columns(top_k)
    return {name: None if text == "" else kind(text) for (name, kind), text in zip(kinds.items(), fields, strict=True)}


def _field(value: Value) -> str:
    # Not the csv module: before Python 3.13 it leaves a lone carriage return unquoted, which readers take for a line.
    text = "" if value is None else str(value)
    return '"' + text.replace('"', '""') + '"' if not _SPECIAL.isdisjoint(text) else text
