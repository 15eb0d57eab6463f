"""The images in a column of a table: a Parquet or Arrow file, as Hugging Face datasets are stored.

Only that column is read, a row or a batch at a time. A broken table is one more source, under the path of the table.
A few kilobytes of Parquet can decompress to gigabytes: sizes are checked before bytes are copied.
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import repeat
from typing import TYPE_CHECKING, BinaryIO

from dinoclassify.discovery.containers import table_sizes
from dinoclassify.discovery.containers.base import BOMB_RATIO, BrokenError, Opener, refuse_size
from dinoclassify.discovery.containers.suffixes import is_table
from dinoclassify.errors import UsageError
from dinoclassify.messages import first_line
from dinoclassify.storage.remote.errors import failure
from dinoclassify.types.prediction import ErrorCode, Failure
from dinoclassify.types.source import MEMBER, Signature, Source

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_CACHE = "cache-"  # prefix of the Arrow files that `datasets` puts beside a data set

_BOMB_BYTES = 64 << 20  # images of more bytes in all, and more than `BOMB_RATIO` times what was read, are a bomb
_MODEST = frozenset({"UNCOMPRESSED", "SNAPPY"})  # codecs of Parquet that never reach this ratio
_BUFFER = 1 << 20  # bytes of a Parquet file to read at a time

_FILE_MAGIC = b"ARROW1"  # starts an Arrow file in the IPC file format; `datasets` writes the stream format
_BOMB = Failure("too_large", f"the table unpacks to over {BOMB_RATIO} times its size")
_STREAM_END = b"\xff\xff\xff\xff\0\0\0\0"


def tables_in(folder: str) -> list[str]:
    """The tables in a folder and below it, by name, without hidden ones and the caches of `datasets`.

    A folder that cannot be read is in the list too, so that it gets a row.
    """
    paths: list[str] = []
    for parent, folders, names in os.walk(folder, onerror=lambda error: paths.append(error.filename)):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths.extend(os.path.join(parent, name) for name in names if _is_data(name))
    return sorted(paths, key=lambda path: path.split("/"))


def images(path: str, column: str, open_file: Opener, signature: Signature) -> Iterator[Source]:
    """The images in a table, lazily and in order, each named by the number of its row, from 0.

    The ``column`` is one of bytes, or of structs with a field ``bytes``; a UsageError says if it is not. ``open_file``
    opens the table, a file or a URL, as a seekable file. The ``signature`` is that of the table; images have its time.
    """
    contents = _parquet_contents if path.lower().endswith(".parquet") else _arrow_contents
    try:
        with open_file(path) as opened, _CountingFile(opened) as file:
            for number, content in enumerate(contents(path, column, file)):
                yield _source(path, number, content, signature[1])
    except UsageError:
        raise
    except Exception as error:  # Arrow raises nearly anything on broken data
        yield Source(path, _failure(error), signature)


def _is_data(name: str) -> bool:
    is_cache = name.startswith(_CACHE) and name.lower().endswith(".arrow")
    return is_table(name) and not name.startswith(".") and not is_cache


class _CountingFile(io.RawIOBase):
    """A file that counts the bytes read from it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.count = 0
        self._taken = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, position: int, whence: int = os.SEEK_SET, /) -> int:
        return self._file.seek(position, whence)

    def read(self, size: int = -1, /) -> bytes:
        piece = self._file.read(size)
        self.count += len(piece)
        return piece

    @contextmanager
    def peeking(self) -> Iterator[None]:
        """Read without counting, and return to the same position."""
        count, position = self.count, self.tell()
        yield
        self.count = count
        self.seek(position)

    def is_bomb(self, size: int, read: int) -> bool:
        """Whether ``size`` unpacked bytes are too many for ``read`` packed ones."""
        return size > max(_BOMB_BYTES, BOMB_RATIO * read)

    def check(self, batch: table_sizes.Sizes) -> None:
        """Raise BrokenError if a batch would be too large unpacked."""
        if self.is_bomb(batch.unpacked, batch.packed):
            raise BrokenError(Failure("too_large", f"{_BOMB.message}; what follows is not read"))

    def admits(self, content: "pa.Buffer | None") -> bool:
        """Whether an image may be read; if so, its size counts for the next ones."""
        total = self._taken + (0 if content is None else content.size)
        if self.is_bomb(total, self.count):
            return False
        self._taken = total
        return True


def _source(path: str, number: int, content: "pa.Buffer | Failure | None", mtime_ns: int | None) -> Source:
    key = f"{path}{MEMBER}{number}"
    if isinstance(content, Failure):
        return Source(key, content, (None, None))
    size = 0 if content is None else content.size
    signature = size, mtime_ns
    if content is None or not size:
        return Source(key, Failure("vanished", "the row holds no image"), signature)
    return Source(key, refuse_size(size) or content.to_pybytes(), signature)


def _parquet_contents(path: str, column: str, file: _CountingFile) -> "Iterator[pa.Buffer | Failure | None]":
    """The bytes in a column, row by row: None for a row without bytes, a failure where they would be too large."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False) as table:
        field = _field(table.schema_arrow, path, column)
        leaf = f"{column}.bytes" if _is_struct(field.type) else column
        for number in range(table.num_row_groups):
            yield from _group_contents(table, number, leaf, file)


def _group_contents(
    table: "pq.ParquetFile", number: int, leaf: str, file: _CountingFile
) -> "Iterator[pa.Buffer | Failure | None]":
    """The bytes in a row group, read one by one because many rows may refer to the same large value."""
    group = table.metadata.row_group(number)
    chunk = next(chunk for chunk in map(group.column, range(group.num_columns)) if chunk.path_in_schema == leaf)
    left = group.num_rows
    if not _has_bomb(chunk, file):
        for batch in table.iter_batches(1, row_groups=[number], columns=[leaf]):
            (content,) = _buffers(batch.column(0))
            if not file.admits(content):
                break
            yield content
            left -= 1
        else:
            return
    yield from repeat(_BOMB, left)


def _has_bomb(chunk: "pq.ColumnChunkMetaData", file: _CountingFile) -> bool:
    """Whether a page of a column chunk is a bomb. Arrow would unpack the page as a whole."""
    if chunk.compression in _MODEST:
        return False
    start = chunk.data_page_offset
    if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < start:
        start = chunk.dictionary_page_offset
    with file.peeking():
        pages = table_sizes.pages(file, start, chunk.total_compressed_size)
        return any(file.is_bomb(page.unpacked, page.packed) for page in pages)


def _arrow_contents(path: str, column: str, file: _CountingFile) -> "Iterator[pa.Buffer | Failure | None]":
    import pyarrow as pa

    is_stream = file.read(len(_FILE_MAGIC)) != _FILE_MAGIC
    file.seek(0)
    opened = pa.ipc.open_stream if is_stream else pa.ipc.open_file
    with opened(file) as table:
        index = table.schema.get_field_index(_field(table.schema, path, column).name)
    file.seek(0)
    with opened(file, options=pa.ipc.IpcReadOptions(included_fields=[index])) as table:
        if not is_stream:
            with file.peeking():
                for batch in table_sizes.batches(file):
                    file.check(batch)
        for batch in _checked(table, file) if is_stream else map(table.get_batch, range(table.num_record_batches)):
            for content in _buffers(batch.column(0)):
                yield content if file.admits(content) else _BOMB
    if is_stream:  # Arrow does not notice a stream that is cut between two batches
        file.seek(-len(_STREAM_END), os.SEEK_END)
        if file.read() != _STREAM_END:
            raise EOFError("the mark of its end is missing")


def _checked(table: "pa.RecordBatchReader", file: _CountingFile) -> "Iterator[pa.RecordBatch]":
    """The batches of a stream; the size of each is checked before Arrow unpacks it."""
    while True:
        with file.peeking():
            file.check(table_sizes.next_batch(file))
        try:
            yield table.read_next_batch()
        except StopIteration:
            return


def _buffers(array: "pa.Array") -> "Iterator[pa.Buffer | None]":
    """The bytes of each row, without a copy; None for a row without bytes."""
    import pyarrow.compute as pc

    array.validate()  # damaged lengths could point anywhere in memory, or crash the process
    values = pc.struct_field(array, "bytes") if _is_struct(array.type) else array
    values.validate(full=True)
    for value in values:
        yield value.as_buffer()


def _field(schema: "pa.Schema", path: str, column: str) -> "pa.Field":
    names = ", ".join(schema.names)
    if schema.get_field_index(column) < 0:
        raise UsageError(f"{path} has no column {column}; choose one with --column: {names}")
    field = schema.field(column)
    if not _is_binary(field.type) and not _is_struct(field.type):
        raise UsageError(f"{path}: {column} holds no images but {field.type}; choose one with --column: {names}")
    return field


def _is_struct(kind: "pa.DataType") -> bool:
    """Whether a type is a struct with images in its field ``bytes``."""
    import pyarrow as pa

    if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        return False
    return _is_binary(kind.field("bytes").type)


def _is_binary(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return any(is_kind(kind) for is_kind in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view))


def _failure(error: Exception) -> Failure:
    if isinstance(error, BrokenError):
        return error.failure
    if isinstance(error, OSError) and (error.errno is not None or type(error) is not OSError):  # not from Arrow itself
        return failure(error)
    code: ErrorCode = "truncated" if isinstance(error, EOFError) else "decode_error"
    return Failure(code, f"the table is damaged or cut short: {first_line(error)}; what follows is not read")
