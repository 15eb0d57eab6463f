"""Formats of features: one file each here, and one line each in `writers.formats.FEATURE_FORMATS`.

All have a journal of JSON Lines, so that a run can be resumed whatever its format.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dinoclassify.storage.paths import exact_path, read_path
from dinoclassify.types.embedding import Embedding
from dinoclassify.types.prediction import Failure
from dinoclassify.writers.formats import FEATURE_FORMATS, format_named
from dinoclassify.writers.formats.base import RowFormat, Table
from dinoclassify.writers.formats.columns import common
from dinoclassify.writers.formats.jsonl import JSONObjects, json_line


@dataclass(frozen=True)
class FeatureLines(JSONObjects):
    """Embeddings as objects, with features of ``dtype`` as base64 of little-endian numbers."""

    dtype: npt.DTypeLike

    def line(self, row: Embedding) -> bytes:
        """Return one row."""
        packed = None
        if row.features is not None:
            numbers = row.features.astype(row.features.dtype.newbyteorder("<"))
            packed = base64.b64encode(numbers.tobytes()).decode("ascii")
        return json_line(common(row) | exact_path(row.path) | {"features": packed})

    def parse(self, line: bytes) -> Embedding:
        """Return the embedding in a line; see `Lines`."""
        row = json.loads(line)
        if not isinstance(row, dict):
            raise TypeError("it is no object")
        if (packed := row["features"]) is not None:
            numbers = np.frombuffer(base64.b64decode(packed), np.dtype(self.dtype).newbyteorder("<"))
            row["features"] = numbers.astype(self.dtype)
        return from_columns(row)


def open_features(name: str, width: int, dtype: npt.DTypeLike) -> RowFormat[Embedding]:
    """Return the format ``name`` for embeddings with ``width`` features of ``dtype``."""
    table: Table[Embedding] = format_named(name, FEATURE_FORMATS).load().FeatureTable(width, dtype)
    return RowFormat(name, FeatureLines(dtype), table)


def from_columns(row: Mapping[str, Any]) -> Embedding:
    """Return the embedding in a row of a table, with its features as an array.

    Raises:
        KeyError, TypeError, ValueError: it is not such a row.
    """
    failure = Failure(row["error_code"], row["error"]) if row["error_code"] is not None else None
    if (row["features"] is None) != (failure is not None):
        raise ValueError("a row has features or an error")
    return Embedding(read_path(row), row["features"], failure, row["size"], row["mtime_ns"])
