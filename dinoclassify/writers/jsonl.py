"""JSON Lines: one strict JSON object a line, UTF-8."""

import json
from collections.abc import Iterator
from typing import BinaryIO

from dinoclassify.rows import Prediction, from_json, json_object


def header(_: int) -> bytes:
    """Nothing: each line has the names."""
    return b""


def line(prediction: Prediction, top_k: int) -> bytes:
    """One row."""
    text = json.dumps(json_object(prediction, top_k), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8") + b"\n"


def lines(file: BinaryIO) -> Iterator[bytes]:
    """The complete rows of a file."""
    return (text for text in file if text.endswith(b"\n"))


def parse(row: bytes, _: int = 1) -> Prediction:
    """What `line` has made the row of.

    Raises:
        KeyError, TypeError, ValueError: it is no such row.
    """
    return from_json(json.loads(row))
