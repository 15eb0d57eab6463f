"""Parquet: the columns of the CSV, typed, in row groups."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from dinoclassify.rows import Prediction, columns, from_record, record

ROW_GROUP = 10_000  # rows, some MB in memory

_AT_ONCE = 500  # rows that are read: `merge` has many files open
_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64()}


@dataclass(frozen=True)
class ParquetTable:
    """Predictions with ``top_k`` ranks; see `dinoclassify.writers.Table`."""

    top_k: int

    def write(self, file: BinaryIO, rows: Iterable[Prediction]) -> None:
        """Write a file, which can be read when it is complete."""
        schema = pa.schema([(name, _TYPES[kind]) for name, kind in columns(self.top_k).items()])
        records = (record(row, self.top_k) for row in rows)
        with pq.ParquetWriter(file, schema) as writer:
            while group := list(itertools.islice(records, ROW_GROUP)):
                writer.write_table(pa.Table.from_pylist(group, schema=schema))

    def read(self, name: str) -> Iterator[Prediction]:
        """The rows of a file.

        Raises:
            KeyError, TypeError, ValueError: it has not these columns, or is no such file.
        """
        with pq.ParquetFile(name) as table:
            for batch in table.iter_batches(_AT_ONCE):
                yield from (from_record(row, self.top_k) for row in batch.to_pylist())
