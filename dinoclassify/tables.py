"""The pictures in a table: a Parquet or Arrow file with a column of them, as Hugging Face datasets are stored.

Only that column is read, a few rows at a time. What is wrong with a table is one more input, which has its own path.
"""

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, BinaryIO

from dinoclassify import stores
from dinoclassify.errors import UsageError, first_line
from dinoclassify.files import Signature
from dinoclassify.rows import ErrorCode, Failure
from dinoclassify.sources import MEMBER, MOST_BYTES, Source

if TYPE_CHECKING:
    import pyarrow as pa

_SUFFIXES = (".parquet", ".arrow")
_CACHE = "cache-"  # what `datasets` calls the Arrow files of its own that lie beside a data set

_ROWS = 16  # of a Parquet file in memory at a time; of an Arrow file it is as many as were written together
_BUFFER = 1 << 20  # bytes of a Parquet file that are read at a time

_FILE_MAGIC = b"ARROW1"  # of an Arrow file in the IPC file format; `datasets` writes the stream format
_STREAM_END = b"\xff\xff\xff\xff\0\0\0\0"


def is_table(path: str) -> bool:
    """Whether a path is a table's, by its suffix."""
    return path.lower().endswith(_SUFFIXES)


def tables_in(folder: str) -> list[str]:
    """The tables in a folder and below it, by name, without hidden ones and the caches of `datasets`.

    A folder that cannot be read is among them, and so gets a row.
    """
    found: list[str] = []
    for place, folders, names in os.walk(folder, onerror=lambda error: found.append(error.filename)):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found.extend(os.path.join(place, name) for name in names if _is_data(name))
    return sorted(found, key=lambda path: path.split("/"))


def pictures(path: str, column: str, open_file: Callable[[str], BinaryIO], signature: Signature) -> Iterator[Source]:
    """The pictures in a table, lazily and in order, each under the number of its row, from 0.

    Args:
        path: the table, a file or a URL.
        column: of bytes, or of structs with a field ``bytes``.
        open_file: opens it; one may seek in what it gives.
        signature: that of the table, whose time its pictures have.

    Raises:
        UsageError: the table has no such column, or it holds no pictures.
    """
    try:
        with open_file(path) as file:
            for number, content in enumerate(_contents(path, column, file)):
                yield _source(path, number, content, signature[1])
    except UsageError:
        raise
    except Exception as error:  # Arrow raises nearly anything on broken data
        yield Source(path, _failure(error), signature)


def _is_data(name: str) -> bool:
    is_cache = name.startswith(_CACHE) and name.lower().endswith(".arrow")
    return is_table(name) and not name.startswith(".") and not is_cache


def _source(path: str, number: int, content: "pa.Buffer | None", mtime_ns: int | None) -> Source:
    key = f"{path}{MEMBER}{number}"
    size = 0 if content is None else content.size
    signature = (None, None) if mtime_ns is None else (size, mtime_ns)
    if content is None or not size:
        return Source(key, Failure("vanished", "the row holds no picture"), signature)
    if size > MOST_BYTES:
        return Source(key, Failure("too_large", f"{size:,} bytes, over {MOST_BYTES:,}"), signature)
    return Source(key, content.to_pybytes(), signature)


def _contents(path: str, column: str, file: BinaryIO) -> "Iterator[pa.Buffer | None]":
    """The bytes in a column, row by row; None where there are none."""
    import pyarrow.compute as pc

    read = _parquet_arrays if path.lower().endswith(".parquet") else _arrow_arrays
    for array in read(path, column, file):
        array.validate()  # or damaged lengths would lead anywhere in memory, or end the process
        values = pc.struct_field(array, "bytes") if _is_struct(array.type) else array
        values.validate(full=True)
        for value in values:
            yield value.as_buffer()


def _parquet_arrays(path: str, column: str, file: BinaryIO) -> "Iterator[pa.Array]":
    import pyarrow.parquet as pq

    with pq.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False) as table:
        field = _field(table.schema_arrow, path, column)
        leaf = f"{column}.bytes" if _is_struct(field.type) else column
        for batch in table.iter_batches(_ROWS, columns=[leaf]):
            yield batch.column(0)


def _arrow_arrays(path: str, column: str, file: BinaryIO) -> "Iterator[pa.Array]":
    import pyarrow as pa

    is_stream = file.read(len(_FILE_MAGIC)) != _FILE_MAGIC
    file.seek(0)
    opened = pa.ipc.open_stream if is_stream else pa.ipc.open_file
    with opened(file) as table:
        index = table.schema.get_field_index(_field(table.schema, path, column).name)
    file.seek(0)
    with opened(file, options=pa.ipc.IpcReadOptions(included_fields=[index])) as table:
        batches = table if is_stream else map(table.get_batch, range(table.num_record_batches))
        for batch in batches:
            yield batch.column(0)
    if is_stream:  # whose end Arrow takes for granted, if it comes between two batches
        file.seek(-len(_STREAM_END), os.SEEK_END)
        if file.read() != _STREAM_END:
            raise EOFError("the mark of its end is missing")


def _field(schema: "pa.Schema", path: str, column: str) -> "pa.Field":
    names = ", ".join(schema.names)
    if schema.get_field_index(column) < 0:
        raise UsageError(f"{path} has no column {column}; choose one with --column: {names}")
    field = schema.field(column)
    if not _is_binary(field.type) and not _is_struct(field.type):
        raise UsageError(f"{path}: {column} holds no pictures but {field.type}; choose one with --column: {names}")
    return field


def _is_struct(kind: "pa.DataType") -> bool:
    """Whether values of a type have pictures in their field ``bytes``."""
    import pyarrow as pa

    if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        return False
    return _is_binary(kind.field("bytes").type)


def _is_binary(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return any(is_kind(kind) for is_kind in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view))


def _failure(error: Exception) -> Failure:
    if isinstance(error, OSError) and (error.errno is not None or type(error) is not OSError):  # not of Arrow's own
        return stores.failure(error)
    code: ErrorCode = "truncated" if isinstance(error, EOFError) else "decode_error"
    return Failure(code, f"the table is damaged or cut short: {first_line(error)}; what follows is not read")
