"""Parquet: the columns of the CSV, typed, in row groups."""

from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from dinoclassify.rows import Prediction, Value, columns, record

ROW_GROUP = 10_000  # rows, some MB in memory

_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64()}


class ParquetWriter:
    """Holds back the rows of the last row group; the file can be read once it is closed."""

    def __init__(self, file: BinaryIO, top_k: int) -> None:
        self._top_k = top_k
        self._schema = pa.schema([(name, _TYPES[kind]) for name, kind in columns(top_k).items()])
        self._writer = pq.ParquetWriter(file, self._schema)
        self._rows: list[dict[str, Value]] = []

    def write(self, prediction: Prediction) -> None:
        """Write one row."""
        self._rows.append(record(prediction, self._top_k))
        if len(self._rows) == ROW_GROUP:
            self._write_group()

    def close(self) -> None:
        """Write the last row group and the footer."""
        self._write_group()
        self._writer.close()

    def _write_group(self) -> None:
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._rows.clear()
