"""JSON Lines: one strict JSON object per line, UTF-8."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from dinoclassify.types.prediction import Prediction
from dinoclassify.writers.formats.base import RowFormat
from dinoclassify.writers.formats.columns import from_json, json_object


def open_format(name: str, top_k: int) -> RowFormat[Prediction]:
    """Return the format for predictions with ``top_k`` ranks."""
    return RowFormat(name, JSONLines(top_k))


class JSONObjects:
    """What formats of one JSON object per line have in common."""

    def header(self) -> bytes:
        """Return nothing: each line has the names."""
        return b""

    def lines(self, file: Iterable[bytes]) -> Iterator[bytes]:
        """Return the complete rows of a file."""
        return (line for line in file if line.endswith(b"\n"))


@dataclass(frozen=True)
class JSONLines(JSONObjects):
    """Predictions with ``top_k`` ranks as objects; see `writers.formats.base.Lines`."""

    top_k: int

    def line(self, row: Prediction) -> bytes:
        """Return one row."""
        return json_line(json_object(row, self.top_k))

    def parse(self, line: bytes) -> Prediction:
        """Return the prediction in a line; see `Lines`."""
        return from_json(json.loads(line))


def json_line(content: Mapping[str, object]) -> bytes:
    """Return an object as a line."""
    return json.dumps(content, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"
