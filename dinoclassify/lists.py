"""Lists of paths: text on stdin or in a file, NUL-separated or by line, and a column of a table; and new lists."""

import codecs
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader

from dinoclassify.errors import UsageError
from dinoclassify.files import append, closing_well, reporting

log = logging.getLogger(__name__)

STDIN = "-"
_LONGEST = 1 << 20  # bytes: no path is as long


def listed_paths(name: str, column: str | None = None, *, null: bool = False) -> Iterator[str]:
    """The paths of a list, each as soon as it is complete.

    Args:
        name: ``-`` for stdin, a ``.csv`` or ``.parquet`` table, or any other file as text.
        column: the column of a table; ``path`` if not given.
        null: text is NUL-separated. Otherwise one path a line; lines may end in CRLF, empty ones are skipped.

    Raises:
        UsageError: the list cannot be read, or is not what its name says.
    """
    suffix = os.path.splitext(name)[1].lower()
    try:
        if suffix in _TABLES:
            yield from _TABLES[suffix](name, column or "path")
        elif column is not None:
            raise UsageError(f"--column needs a .csv or .parquet table, not {name}")
        else:
            # Not sys.stdin: Python aborts on its way out if a thread still waits for that.
            with open(0 if name == STDIN else name, "rb", closefd=name != STDIN) as stream:
                yield from _text(stream, null=null)
    except OSError as error:
        raise UsageError(f"cannot read the list {name}: {error.strerror or error}") from error


@contextmanager
def writing_paths(output: str | None, *, null: bool) -> Iterator[Callable[[str], None]]:
    """A function that writes a path to a new list, as ``--files-from`` takes it; it does nothing if ``output`` is None.

    Raises:
        OutputError: it cannot be written.
    """
    if output is None:
        yield lambda _: None
        return
    with reporting(output):
        file = open(output, "wb", buffering=0)  # noqa: SIM115 - closed below
    end = b"\0" if null else b"\n"

    def write(path: str) -> None:
        if not null and ("\n" in path or path.endswith("\r")):
            log.warning("%s breaks the list %s: use -0", path, output)
        with reporting(output):
            append(file.fileno(), os.fsencode(path) + end)

    with closing_well(file, output):
        yield write


def _text(stream: BufferedReader, *, null: bool) -> Iterator[str]:
    pieces = _split_at_nul(stream) if null else (line.removesuffix(b"\n").removesuffix(b"\r") for line in stream)
    for number, piece in enumerate(pieces):
        path = piece.removeprefix(codecs.BOM_UTF8) if number == 0 else piece
        if b"\0" in path:
            raise UsageError("the list of paths is NUL-separated: add -0")
        if path:
            yield os.fsdecode(path)


def _split_at_nul(stream: BufferedReader) -> Iterator[bytes]:
    rest = b""
    while chunk := stream.read1():
        *complete, rest = (rest + chunk).split(b"\0")
        yield from complete
        if len(rest) > _LONGEST:
            raise UsageError("the list of paths is not NUL-separated: leave out -0")
    yield rest


def _csv_column(name: str, column: str) -> Iterator[str]:
    import pandas as pd

    try:
        with pd.read_csv(
            name,
            chunksize=10_000,
            dtype=object,  # text of any bytes
            index_col=False,  # not even where lines have a comma too many
            keep_default_na=False,  # a picture may well be called NA
            encoding_errors="surrogateescape",
        ) as chunks:
            for chunk in chunks:
                _require_column(name, column, chunk.columns)
                yield from filter(None, chunk[column])
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise UsageError(f"{name} is not a CSV table: {error}") from error


def _parquet_column(name: str, column: str) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(name) as table:
            _require_column(name, column, table.schema_arrow.names)
            for batch in table.iter_batches(columns=[column]):
                yield from filter(None, batch.column(0).cast(pa.string()).to_pylist())
    except pa.ArrowException as error:
        raise UsageError(f"{name} is not a Parquet table with paths in the column {column}: {error}") from error


_TABLES: dict[str, Callable[[str, str], Iterator[str]]] = {".csv": _csv_column, ".parquet": _parquet_column}


def _require_column(name: str, column: str, names: Iterable[str]) -> None:
    if column not in (present := list(names)):
        raise UsageError(f"{name} has no column {column}; choose one with --column: {', '.join(present)}")
