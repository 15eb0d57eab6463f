"""Parquet: the columns of the CSV, typed, in row groups; with the metadata of the run."""

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

_META = "dinoclassify"  # the key of the metadata of the run
_AT_ONCE = 500  # rows that are read: `merge` has many files open
_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64()}


def open_format(name: str, top_k: int) -> RowFormat[Prediction]:
    """Return the format for predictions with ``top_k`` ranks."""
    return RowFormat(name, JSONLines(top_k), ParquetTable(top_k), read_meta=read_meta)


@dataclass(frozen=True)
class ParquetTable:
    """Predictions with ``top_k`` ranks; see `writers.formats.base.Table`."""

    top_k: int

    def write(self, file: BinaryIO, rows: Iterable[Prediction], meta: Mapping[str, object]) -> None:
        """Write a file, which can be read when it is complete."""
        schema = pa.schema([(name, _TYPES[kind]) for name, kind in columns(self.top_k).items()])
        records = (record(row, self.top_k) for row in rows)
        with pq.ParquetWriter(file, schema) as writer:
            while group := list(itertools.islice(records, ROW_GROUP)):
                writer.write_table(pa.Table.from_pylist(group, schema=schema))
            add_meta(writer, meta)

    def read(self, name: str) -> Iterator[Prediction]:
        """The rows of a file.

        Raises:
            KeyError, TypeError, ValueError: it has not these columns, or is no such file.
        """
        with pq.ParquetFile(name) as table:
            for batch in table.iter_batches(_AT_ONCE):
                yield from (from_record(row, self.top_k) for row in batch.to_pylist())


def add_meta(writer: pq.ParquetWriter, meta: Mapping[str, object]) -> None:
    """Add the metadata of the run to those of a file."""
    if meta:
        writer.add_key_value_metadata({_META: json.dumps(meta, default=str)})


def read_meta(name: str) -> object:
    """The metadata of the run in a file, parsed; None if it carries none.

    Raises:
        OSError, ValueError: it is no such file.
    """
    content = (pq.read_metadata(name).metadata or {}).get(_META.encode())
    return json.loads(content) if content is not None else None
