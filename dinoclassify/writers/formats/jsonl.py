"""JSON Lines: one strict JSON object a line, UTF-8."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from dinoclassify.types.prediction import Prediction
from dinoclassify.writers.formats.base import RowFormat
from dinoclassify.writers.formats.columns import from_json, json_object


def open_format(name: str, top_k: int) -> RowFormat[Prediction]:
    """Return the format for predictions with ``top_k`` ranks."""
    return RowFormat(name, JSONLines(top_k))


@dataclass(frozen=True)
class JSONLines:
    """Predictions with ``top_k`` ranks as objects; see `writers.formats.base.Lines`."""

    top_k: int

    def header(self) -> bytes:
        """Nothing: each line has the names."""
        return b""

    def line(self, row: Prediction) -> bytes:
        """One row."""
        return json_line(json_object(row, self.top_k))

    def lines(self, file: Iterable[bytes]) -> Iterator[bytes]:
        """The complete rows of a file."""
        return complete_lines(file)

    def parse(self, line: bytes) -> Prediction:
        """The prediction that a line was made of.

        Raises:
            KeyError, TypeError, ValueError: it is no such line.
        """
        return from_json(json.loads(line))


def json_line(content: Mapping[str, object]) -> bytes:
    """An object as a line."""
    return json.dumps(content, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"


def complete_lines(file: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of a file that have their end."""
    return (text for text in file if text.endswith(b"\n"))
