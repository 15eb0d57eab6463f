"""Formats of features: one file each here, and one line each in `writers.formats.FEATURE_FORMATS`.

All have a journal of JSON Lines, so that a run can be resumed whatever its format.
"""

import json
from dataclasses import dataclass

import numpy.typing as npt

from dinoclassify.types.embedding import Embedding
from dinoclassify.writers.formats import FEATURE_FORMATS, format_named
from dinoclassify.writers.formats.base import RowFormat, Table
from dinoclassify.writers.formats.features.columns import from_json, json_object
from dinoclassify.writers.formats.jsonl import JSONObjects, json_line


@dataclass(frozen=True)
class FeatureLines(JSONObjects):
    """Embeddings with features of ``dtype`` as objects; see `writers.formats.base.Lines`."""

    dtype: npt.DTypeLike

    def line(self, row: Embedding) -> bytes:
        """Return one row."""
        return json_line(json_object(row))

    def parse(self, line: bytes) -> Embedding:
        """Return the embedding in a line; see `Lines`."""
        return from_json(json.loads(line), self.dtype)


def open_features(name: str, width: int, dtype: npt.DTypeLike) -> RowFormat[Embedding]:
    """Return the format ``name`` for embeddings with ``width`` features of ``dtype``."""
    table: Table[Embedding] = format_named(name, FEATURE_FORMATS).load().FeatureTable(width, dtype)
    return RowFormat(name, FeatureLines(dtype), table)
