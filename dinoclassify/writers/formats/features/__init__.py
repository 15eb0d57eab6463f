"""Formats of features: one file each here, one entry in `writers.FEATURE_FORMATS`, one case in `open_features`.

The journal of all of them are JSON Lines: a run can be resumed whatever it makes in the end.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy.typing as npt

from dinoclassify.types.embedding import Embedding
from dinoclassify.writers.formats import RowFormat
from dinoclassify.writers.formats.features.columns import from_json, json_object
from dinoclassify.writers.formats.jsonl import complete_lines, json_line


@dataclass(frozen=True)
class FeatureLines:
    """Embeddings with features of ``dtype`` as objects; see `dinoclassify.writers.formats.Lines`."""

    dtype: npt.DTypeLike

    def header(self) -> bytes:
        """Nothing: each line has the names."""
        return b""

    def line(self, row: Embedding) -> bytes:
        """One row."""
        return json_line(json_object(row))

    def lines(self, file: Iterable[bytes]) -> Iterator[bytes]:
        """The complete rows of a file."""
        return complete_lines(file)

    def parse(self, line: bytes) -> Embedding:
        """The embedding that a line was made of.

        Raises:
            KeyError, TypeError, ValueError: it is no such line.
        """
        return from_json(json.loads(line), self.dtype)


def open_features(name: str, width: int, dtype: npt.DTypeLike) -> RowFormat[Embedding]:
    """The format ``name`` for embeddings with ``width`` features of ``dtype``."""
    lines = FeatureLines(dtype)
    match name:
        case "npz":
            from dinoclassify.writers.formats.features.npz import NpzTable

            return RowFormat(name, lines, NpzTable(width, dtype))
        case "npy":
            from dinoclassify.writers.formats.features.npy import NpyTable

            return RowFormat(name, lines, NpyTable(width, dtype))
        case _:
            from dinoclassify.writers.formats.features.parquet import ParquetTable

            return RowFormat(name, lines, ParquetTable(width, dtype))
