"""NumPy: one file with the matrix of features, NaN where an image failed, followed by the index of its rows.

`numpy.load` returns the matrix, also mapped into memory. Further calls on the same open file return the arrays of
`INDEX`, one after the other. Being one file, matrix and index replace an older file together.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from dinoclassify.types.embedding import Embedding
from dinoclassify.writers.formats.columns import Value, common
from dinoclassify.writers.formats.features import from_columns

INDEX = ("path", "status", "error_code", "error", "size", "mtime_ns")

_NUMBERS = {"size", "mtime_ns"}  # -1 without a value; the others are text, empty without a value

Index = Mapping[str, npt.NDArray[Any]]  # text or int64


@dataclass(frozen=True)
class FeatureTable:
    """Embeddings with ``width`` features of ``dtype``; see `writers.formats.base.Table`."""

    width: int
    dtype: npt.DTypeLike

    def write(self, file: BinaryIO, rows: Iterable[Embedding], _meta: Mapping[str, object]) -> None:
        """Write a file from its beginning."""
        for column in write_matrix(file, rows, self.width, self.dtype).values():
            np.save(file, column, allow_pickle=False)

    def read(self, name: str) -> Iterator[Embedding]:
        """Yield the rows of a file; see `Table`."""
        try:
            matrix = np.load(name, mmap_mode="r", allow_pickle=False)
            check_matrix(matrix, self.width, self.dtype)
            with open(name, "rb") as file:
                file.seek(matrix.offset + matrix.nbytes)
                index = {column: np.load(file, allow_pickle=False) for column in INDEX}
        except EOFError as error:
            raise ValueError(str(error)) from error
        yield from embeddings(matrix, index)


def write_matrix(file: BinaryIO, rows: Iterable[Embedding], width: int, dtype: npt.DTypeLike) -> Index:
    """Write the features [rows, width] of all rows at the beginning of a file; return the index of the rows."""
    missing = np.full(width, np.nan, dtype)
    index: dict[str, list[Value]] = {column: [] for column in INDEX}
    _write_header(file, 0, width, dtype)
    for row in rows:
        file.write((missing if row.features is None else row.features).tobytes())
        for column, value in common(row).items():
            index[column].append(value)
    file.seek(0)
    _write_header(file, len(index["path"]), width, dtype)
    file.seek(0, os.SEEK_END)
    return {column: _array(column, values) for column, values in index.items()}


def check_matrix(matrix: npt.NDArray[Any], width: int, dtype: npt.DTypeLike) -> None:
    """Raise ValueError unless ``matrix`` has the shape [rows, width] and the type ``dtype``."""
    if matrix.ndim != 2 or matrix.shape[1] != width or matrix.dtype != dtype:
        raise ValueError("it has features of another length or type")


def embeddings(matrix: npt.NDArray[Any], index: Index) -> Iterator[Embedding]:
    """Yield the rows of a matrix and its index."""
    if any(len(index[column]) != len(matrix) for column in INDEX):
        raise ValueError("its index has another length")
    columns = {column: index[column].tolist() for column in INDEX}
    for number, features in enumerate(matrix):
        row = {column: _value(column, values[number]) for column, values in columns.items()}
        yield from_columns(row | {"features": np.array(features) if row["error_code"] is None else None})


def _write_header(file: BinaryIO, rows: int, width: int, dtype: npt.DTypeLike) -> None:
    # NumPy leaves room in the header for the number of rows to grow.
    description = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False}
    np.lib.format.write_array_header_1_0(file, description | {"shape": (rows, width)})


def _array(column: str, values: list[Value]) -> npt.NDArray[Any]:
    if column in _NUMBERS:
        return np.array([-1 if value is None else value for value in values], np.int64)
    return np.array(["" if value is None else value for value in values], np.str_)


def _value(column: str, value: Value) -> Value:
    return None if value == (-1 if column in _NUMBERS else "") else value
