"""CSV: UTF-8, lines end in a newline, fields quoted as RFC 4180 says, empty where there is no value."""

from typing import BinaryIO

from dinoclassify.rows import Prediction, Value, columns, record

_SPECIAL = frozenset(',"\n\r')


class CsvWriter:
    """Each row is in the file when `write` returns."""

    def __init__(self, file: BinaryIO, top_k: int) -> None:
        self._file = file
        self._top_k = top_k
        self._write_line(list(columns(top_k)))

    def write(self, prediction: Prediction) -> None:
        """Write one line."""
        self._write_line(list(record(prediction, self._top_k).values()))

    def close(self) -> None:
        """Nothing is held back."""

    def _write_line(self, values: list[Value]) -> None:
        self._file.write((",".join(map(_field, values)) + "\n").encode("utf-8"))
        self._file.flush()


def _field(value: Value) -> str:
    # Not the csv module: before Python 3.13 it leaves a lone carriage return unquoted, which readers take for a line.
    text = "" if value is None else str(value)
    return '"' + text.replace('"', '""') + '"' if not _SPECIAL.isdisjoint(text) else text
