"""Parquet: the typed columns of the CSV in row groups, and the run metadata."""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from dinoclassify.types.prediction import Prediction
from dinoclassify.writers.formats.base import RowFormat
from dinoclassify.writers.formats.columns import columns, from_record, record
from dinoclassify.writers.formats.jsonl import JSONLines

ROW_GROUP = 10_000  # rows, some MB in memory

_META = "dinoclassify"  # the key of the run metadata
_BATCH = 500  # rows read at a time; few, because `merge` has many files open
_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64()}


def open_format(name: str, top_k: int) -> RowFormat[Prediction]:
    """Return the format for predictions with ``top_k`` ranks."""
    return RowFormat(name, JSONLines(top_k), ParquetTable(top_k), read_meta=read_meta)


@dataclass(frozen=True)
class ParquetTable:
    """Predictions with ``top_k`` ranks; see `writers.formats.base.Table`."""

    top_k: int

    def write(self, file: BinaryIO, rows: Iterable[Prediction], meta: Mapping[str, object]) -> None:
        """Write a file, which can be read once it is complete."""
        schema = pa.schema([(name, _TYPES[kind]) for name, kind in columns(self.top_k).items()])
        records = (record(row, self.top_k) for row in rows)
        with pq.ParquetWriter(file, schema) as writer:
            while group := list(itertools.islice(records, ROW_GROUP)):
                writer.write_table(pa.Table.from_pylist(group, schema=schema))
            add_meta(writer, meta)

    def read(self, name: str) -> Iterator[Prediction]:
        """Yield the rows of a file; see `Table`."""
        with pq.ParquetFile(name) as table:
            for batch in table.iter_batches(_BATCH):
                yield from (from_record(row, self.top_k) for row in batch.to_pylist())


def add_meta(writer: pq.ParquetWriter, meta: Mapping[str, object]) -> None:
    """Add the run metadata to the metadata of a file."""
    if meta:
        writer.add_key_value_metadata({_META: json.dumps(meta, default=str)})


def read_meta(name: str) -> object:
    """Return the run metadata in a file; None if it has none. Raises OSError or ValueError for other files."""
    content = (pq.read_metadata(name).metadata or {}).get(_META.encode())
    return json.loads(content) if content is not None else None
