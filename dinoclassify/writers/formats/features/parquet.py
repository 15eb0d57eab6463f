"""Parquet: the columns that every row has, and ``features``, a fixed-size list that is null for failed images."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from dinoclassify.types.embedding import Embedding
from dinoclassify.writers.formats.columns import common
from dinoclassify.writers.formats.features import from_columns
from dinoclassify.writers.formats.parquet import add_meta

ROW_GROUP = 4096  # rows, some MB in memory


@dataclass(frozen=True)
class FeatureTable:
    """Embeddings with ``width`` features of ``dtype``; see `writers.formats.base.Table`."""

    width: int
    dtype: npt.DTypeLike

    def write(self, file: BinaryIO, rows: Iterable[Embedding], meta: Mapping[str, object]) -> None:
        """Write a file, which can be read once it is complete."""
        remaining = iter(rows)
        with pq.ParquetWriter(file, self._schema()) as writer:
            while group := list(itertools.islice(remaining, ROW_GROUP)):
                writer.write_batch(self._batch(group))
            add_meta(writer, meta)

    def read(self, name: str) -> Iterator[Embedding]:
        """Yield the rows of a file; see `Table`."""
        with pq.ParquetFile(name) as table:
            if table.schema_arrow.names != self._schema().names:
                raise ValueError("it has other columns")
            if table.schema_arrow.field("features").type != self._schema().field("features").type:
                raise ValueError("it has features of another length or type")
            for batch in table.iter_batches(ROW_GROUP):
                features = iter(batch.column("features").flatten().to_numpy().reshape(-1, self.width))
                for row in batch.drop_columns("features").to_pylist():
                    yield from_columns(row | {"features": next(features) if row["error_code"] is None else None})

    def _schema(self) -> pa.Schema:
        return pa.schema(
            [
                ("path", pa.string()),
                ("status", pa.string()),
                ("features", pa.list_(pa.from_numpy_dtype(self.dtype), self.width)),
                ("error_code", pa.string()),
                ("error", pa.string()),
                ("size", pa.int64()),
                ("mtime_ns", pa.int64()),
            ]
        )

    def _batch(self, group: list[Embedding]) -> pa.RecordBatch:
        missing = np.zeros(self.width, self.dtype)  # stored under a null
        values = np.concatenate([missing if row.features is None else row.features for row in group])
        failed = pa.array([row.features is None for row in group])
        schema, plain = self._schema(), [common(row) for row in group]
        columns = {field.name: [row.get(field.name) for row in plain] for field in schema}
        arrays = {name: pa.array(columns[name], schema.field(name).type) for name in schema.names if name != "features"}
        arrays["features"] = pa.FixedSizeListArray.from_arrays(pa.array(values), self.width, mask=failed)
        return pa.RecordBatch.from_arrays([arrays[name] for name in schema.names], schema=schema)
