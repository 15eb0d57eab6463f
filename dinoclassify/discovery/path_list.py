"""Lists of paths: reading them from stdin, a text file or a column of a table, and writing new ones."""

import codecs
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from typing import BinaryIO, cast

from dinoclassify.discovery.location import STDIN
from dinoclassify.errors import UsageError
from dinoclassify.messages import first_line
from dinoclassify.storage.atomic import append, as_output_errors, close_checked, open_in_place
from dinoclassify.storage.missing import why_unread
from dinoclassify.storage.remote import object_store
from dinoclassify.storage.remote.errors import failure
from dinoclassify.storage.remote.url import is_for_lists, is_url
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import Source

log = logging.getLogger(__name__)

_LONGEST = 1 << 20  # bytes; no path is as long


def listed_paths(name: str, column: str | None = None, *, null: bool = False, private: bool = False) -> Iterator[str]:
    """The paths of a list, each as soon as it is read; raises UsageError if it cannot be read or has another format.

    ``name`` is ``-`` for stdin, a ``.csv`` or ``.parquet`` table with the paths in ``column``, by default ``path``, or
    any other file as text; each may be a URL. Text has one path a line, which may end in CRLF, or with ``null`` is
    NUL-separated; empty paths are skipped. ``private``: see `storage.remote.web`.
    """
    if _suffix(name) in _TABLES:
        yield from (path for (path,) in table_rows(name, {"--column": column or "path"}, private=private) if path)
        return
    if column is not None:
        raise UsageError(f"--column needs a .csv or .parquet table, not {name}")
    with _reporting(name), _open(name, private=private) as stream:
        yield from _text(stream, null=null)


def listed_source(path: str) -> Source:
    """The source of an entry of a list. A URL of a scheme that lists may not name fails without a connection."""
    if is_for_lists(path):
        return Source(path)
    scheme = path.partition(":")[0].lower()
    failure = Failure("unreadable", f"lists may not name {scheme}:// URLs: name it on the command line")
    return Source(path, failure, (None, None))


def table_rows(name: str, columns: Mapping[str, str], *, private: bool = False) -> Iterator[tuple[str, ...]]:
    """The values of some columns of a ``.csv`` or ``.parquet`` table, row by row, as text; a missing value is empty.

    ``columns`` has the names of the columns by the option that chooses each. Raises UsageError if the table cannot be
    read or lacks a column.
    """
    if _suffix(name) not in _TABLES:
        raise UsageError(f"{name} is not a table: its name must end in {' or '.join(_TABLES)}")
    seekable = _suffix(name) == ".parquet"
    with _reporting(name), _open(name, private=private, seekable=seekable) as file:
        yield from _TABLES[_suffix(name)](name, file, columns)


def has_table_suffix(name: str) -> bool:
    """Whether `table_rows` takes a file of this name."""
    return _suffix(name) in _TABLES


@contextmanager
def writing_paths(output: str | None, *, null: bool) -> Iterator[Callable[[str], None]]:
    """A function that writes a path to a new list for ``--files-from``; it does nothing if ``output`` is None."""
    if output is None:
        yield lambda _: None
        return
    with as_output_errors(output):
        file = open_in_place(output, "wb")

    def write(path: str) -> None:
        with as_output_errors(output):
            append(file.fileno(), list_line(path, output, null=null))

    with close_checked(file, output):
        yield write


def list_line(path: str, output: str, *, null: bool) -> bytes:
    """The exact bytes of a path in the list ``output``, with its separator."""
    if not null and ("\n" in path or path.endswith("\r")):
        log.warning("%s has a line break, which the list %s cannot hold: use -0", path, output)
    return os.fsencode(path) + (b"\0" if null else b"\n")


def _open(name: str, *, private: bool, seekable: bool = False) -> BinaryIO:
    if is_url(name):
        return (object_store.open_file if seekable else object_store.open_stream)(name, private=private)
    # Not sys.stdin: Python aborts at its end if a thread is still reading that.
    return open(0 if name == STDIN else name, "rb", closefd=name != STDIN)


def _text(stream: BinaryIO, *, null: bool) -> Iterator[str]:
    pieces = _split_at_nul(stream) if null else (line.removesuffix(b"\n").removesuffix(b"\r") for line in stream)
    for number, piece in enumerate(pieces):
        path = piece.removeprefix(codecs.BOM_UTF8) if number == 0 else piece
        if b"\0" in path:
            raise UsageError("the list of paths is NUL-separated: add -0")
        if path:
            yield os.fsdecode(path)


def _split_at_nul(stream: BinaryIO) -> Iterator[bytes]:
    rest = b""
    while chunk := cast(BufferedReader, stream).read1():  # read() would block until a pipe has sent enough
        *complete, rest = (rest + chunk).split(b"\0")
        yield from complete
        if len(rest) > _LONGEST:
            raise UsageError("the list of paths is not NUL-separated: leave out -0")
    yield rest


def _csv_rows(name: str, file: BinaryIO, columns: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    import pandas as pd

    try:
        with pd.read_csv(
            file,
            chunksize=10_000,
            dtype=object,  # text of any bytes
            index_col=False,  # even if lines have an extra comma
            keep_default_na=False,  # an image may be called NA
            encoding_errors="surrogateescape",
        ) as chunks:
            for chunk in chunks:
                _require(columns, name, chunk.columns)
                yield from chunk[list(columns.values())].itertuples(index=False, name=None)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise UsageError(f"{name} is not a CSV table ({first_line(error)}): save it again as CSV") from error


def _parquet_rows(name: str, file: BinaryIO, columns: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as table:
            _require(columns, name, table.schema_arrow.names)
            for batch in table.iter_batches(columns=list(dict.fromkeys(columns.values()))):
                texts = [batch.column(column).cast(pa.string()).to_pylist() for column in columns.values()]
                yield from (tuple(value or "" for value in values) for values in zip(*texts, strict=True))
    except (pa.ArrowException, KeyError) as error:  # KeyError: a column exists twice
        wanted = ", ".join(columns.values())
        trouble = f"{name} is not a Parquet table with text in the column {wanted} ({first_line(error)})"
        raise UsageError(f"{trouble}: choose another column, or save it again as Parquet") from error


_TABLES = {".csv": _csv_rows, ".parquet": _parquet_rows}


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


@contextmanager
def _reporting(name: str) -> Iterator[None]:
    try:
        yield
    except IsADirectoryError as error:
        raise UsageError(f"{name} is a folder, not a list: name it among PATHS") from error
    except OSError as error:
        why = f"cannot read the list {name}: {failure(error).message}"
        raise UsageError(why if is_url(name) else why_unread("the list", name, error)) from error


def _require(columns: Mapping[str, str], name: str, names: Iterable[str]) -> None:
    present = list(names)
    for option, column in columns.items():
        if column not in present:
            raise UsageError(f"{name} has no column {column}; choose one with {option}: {', '.join(present)}")
