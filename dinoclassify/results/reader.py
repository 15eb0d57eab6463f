"""A file that `predict` wrote -> its predictions, in any format and with any number of ranks."""

import codecs
import json
import os
import re
import shutil
import sqlite3
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from gzip import BadGzipFile, GzipFile
from io import BufferedReader, RawIOBase
from itertools import chain
from typing import Any

from dinoclassify.discovery.filters import has_image_suffix
from dinoclassify.discovery.location import STDIN, absolute_path
from dinoclassify.errors import OutputError, UsageError
from dinoclassify.storage.missing import why_missing
from dinoclassify.storage.output_paths import META, OutputPaths
from dinoclassify.storage.remote.filesystem import download
from dinoclassify.storage.remote.url import is_url
from dinoclassify.types.prediction import Prediction
from dinoclassify.writers.fingerprint import carried_meta
from dinoclassify.writers.formats import MAGIC, TABLES, open_format
from dinoclassify.writers.formats.base import Lines
from dinoclassify.writers.formats.csv import split
from dinoclassify.writers.manifest import part_files, read_manifest

_RANK = re.compile(r"label(_\d+)?")  # each rank has one such column
_CURE = "name the file that predict -o has written"
_GZIP = b"\x1f\x8b"  # the start of compressed lines
_LONGEST = 16 << 20  # bytes of a row, as a small compressed file may hold an endless one


def read_predictions(name: str) -> Iterator[Prediction]:
    """All predictions of a file, in order; its format is known by its content.

    ``name`` is a file, a folder of parts, an object, a prefix of parts, or ``-`` for stdin, whose lines are read as
    they come. Text may begin with a byte order mark and have lines that end in CRLF, as spreadsheets save it.

    Raises:
        UsageError: it cannot be read, or does not hold predictions.
    """
    if (is_url(name) or os.path.isdir(name)) and read_manifest(name) is not None:
        yield from chain.from_iterable(map(read_predictions, part_files(name)))
        return
    if is_url(name):
        with _local_copy(name) as file:
            yield from read_predictions(file)
        return
    if name != STDIN:
        _check_file(name)
    shown = "stdin" if name == STDIN else name
    try:
        # Not sys.stdin: Python aborts at its exit if a thread still waits for that.
        with open(0 if name == STDIN else name, "rb", closefd=name != STDIN) as stream:
            yield from _read(stream, name, safe_for_excel=_is_safe_for_excel(name))
    except KeyError as error:
        raise UsageError(f"{shown} is not what predict writes (it has no {error}): {_CURE}") from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{shown} is not what predict writes, but no UTF-8 text: {_CURE}, or save it as UTF-8"
        ) from error
    except (TypeError, ValueError, RecursionError, EOFError, zlib.error, BadGzipFile, sqlite3.Error) as error:
        raise UsageError(f"{shown} is not what predict writes ({error}): {_CURE}") from error
    except OSError as error:
        raise UsageError(f"cannot read {shown}: {error.strerror or error}") from error


def latest_predictions(name: str) -> Iterator[Prediction]:
    """The last prediction of each image: ``predict --watch`` adds a row when an image changes.

    Images are told apart by their absolute paths, which are all in memory. From stdin, all rows come unchanged.
    """
    if name == STDIN:
        yield from read_predictions(name)
        return
    folder = read_meta(name).get("working_folder")
    start = folder if isinstance(folder, str) else os.getcwd()
    numbers = {absolute_path(row.path, start): number for number, row in enumerate(read_predictions(name))}
    last = set(numbers.values())
    yield from (row for number, row in enumerate(read_predictions(name)) if number in last)


def read_meta(name: str) -> dict[str, Any]:
    """The metadata of rows; empty if it cannot be read.

    That is ``NAME.meta.json``, else the metadata inside the file itself; for a folder of parts it is the manifest.
    """
    if (is_url(name) or os.path.isdir(name)) and (manifest := read_manifest(name)) is not None:
        return manifest
    if is_url(name):
        try:
            with _local_copy(OutputPaths(name).meta) as file:
                return _read_object(file)
        except UsageError:
            return {}
    path = OutputPaths.resolved(name).meta
    return _read_object(path) if os.path.isfile(path) else carried_meta(name) if os.path.isfile(name) else {}


def _check_file(name: str) -> None:
    """Check that a name may be a file of rows; raises UsageError if it shows that it is something else."""
    if os.path.isdir(name):
        raise UsageError(f"{name} is a folder: name the file of its rows, as predict {name} -o labels.csv writes it")
    if not os.path.exists(name):
        raise UsageError(f"{name} {why_missing(name)}")
    if not os.path.isfile(name):
        raise UsageError(f"{name} is no regular file: name one, or - for rows on stdin")
    if has_image_suffix(name):
        raise UsageError(f"{name} is not what predict writes, but an image: predict {name} -o labels.csv labels it")
    if name.endswith(META):
        raise UsageError(f"{name} is not what predict writes, but its metadata: name {name.removesuffix(META)}")
    if name.endswith((".npy", ".npz")):
        raise UsageError(f"{name} is not what predict writes, but what embed writes: it has no labels")


@contextmanager
def _local_copy(url: str) -> Iterator[str]:
    """The path of a temporary file with the content of an object."""
    with tempfile.NamedTemporaryFile(suffix=os.path.basename(url)) as file:
        try:
            exists = download(url, file.name)
        except OutputError as error:
            raise UsageError(str(error)) from error
        if not exists:
            raise UsageError(f"there is no {url}")
        yield file.name


def _read_object(path: str) -> dict[str, Any]:
    """The JSON object in a file; empty if it cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _read(stream: BufferedReader, name: str, *, safe_for_excel: bool) -> Iterator[Prediction]:
    start, stream = _look_ahead(stream)
    if start in TABLES and name == STDIN:
        with tempfile.NamedTemporaryFile() as file:
            shutil.copyfileobj(stream, file)
            file.flush()
            yield from _read_table(file.name, TABLES[start])
    elif start in TABLES:
        yield from _read_table(name, TABLES[start])
    elif start.startswith(_GZIP):
        yield from _read_lines(*_look_ahead(GzipFile(fileobj=stream)), safe_for_excel=safe_for_excel)
    else:
        yield from _read_lines(start, stream, safe_for_excel=safe_for_excel)


def _look_ahead(stream: BufferedReader | GzipFile) -> tuple[bytes, BufferedReader]:
    """The first `MAGIC` bytes of a stream, or all if it has fewer, and the whole stream.

    `peek` would return what one read of a pipe gives, which may be less.
    """
    start = stream.read(MAGIC)
    return start, BufferedReader(_Rejoined(start, stream))


class _Rejoined(RawIOBase):
    """The bytes that were read from a stream, and the rest of it as it comes."""

    def __init__(self, start: bytes, rest: BufferedReader | GzipFile) -> None:
        self._start, self._rest = start, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer)
        part = self._start[: len(view)] or self._rest.read1(len(view))  # `readinto1` would wait for more
        self._start = self._start[len(part) :]
        view[: len(part)] = part
        return len(part)


def _read_lines(start: bytes, stream: BufferedReader, *, safe_for_excel: bool) -> Iterator[Prediction]:
    if start.startswith(codecs.BOM_UTF8):
        stream.read(len(codecs.BOM_UTF8))
        start = start.removeprefix(codecs.BOM_UTF8)
    if start:
        lines = _lines(stream, start, safe_for_excel=safe_for_excel)
        for line in lines.lines(text := _TextLines(stream)):
            text.pending -= len(line)
            yield lines.parse(_with_newline(line))
        if text.pending:
            raise ValueError("its end is within quotes")


def _with_newline(line: bytes) -> bytes:
    """A row or the header, with CRLF at its end replaced by a newline. Within a field, CRLF would be in quotes."""
    return line.removesuffix(b"\r\n") + b"\n" if line.endswith(b"\r\n") else line


class _TextLines:
    """The lines of a stream; a newline is added to the last one if it has none.

    ``pending`` counts the bytes of lines that are not in a complete row yet; the caller subtracts those of each row.
    """

    def __init__(self, stream: BufferedReader) -> None:
        self._stream = stream
        self.pending = 0

    def __iter__(self) -> Iterator[bytes]:
        while line := self._stream.readline(_LONGEST):
            self.pending += len(line)
            if self.pending >= _LONGEST:
                raise ValueError(f"a row is over {_LONGEST:,} bytes")
            if not line.endswith(b"\n"):
                line += b"\n"
                self.pending += 1
            yield line


def _is_safe_for_excel(name: str) -> bool:
    """Whether rows were written with --excel-safe, by their metadata. Rows on stdin have none."""
    if name == STDIN:
        return False
    made_with = read_meta(name).get("made_with")
    return isinstance(made_with, dict) and made_with.get("format") == "excel"


def _read_table(name: str, format_name: str) -> Iterator[Prediction]:
    columns = _columns(name, format_name)
    if "features" in columns:
        raise ValueError("it has the features that embed writes, and no labels")
    table = open_format(format_name, _ranks(columns)).table
    assert table is not None  # noqa: S101 - both formats of TABLES have one
    return table.read(name)


def _lines(stream: BufferedReader, start: bytes, *, safe_for_excel: bool) -> Lines[Prediction]:
    """The format of a stream of lines, whose header is read if it has one."""
    if start.startswith(b"{"):
        return open_format("jsonl", 1).lines
    header = _with_newline(stream.readline(_LONGEST))
    format_name, separator = ("tsv", "\t") if b"\t" in header else ("excel" if safe_for_excel else "csv", ",")
    lines = open_format(format_name, _ranks(split(header, separator))).lines
    if split(header, separator) != split(lines.header(), separator):
        raise ValueError("it does not begin with the columns path,status,label,score")
    return lines


def _columns(name: str, format_name: str) -> Sequence[str]:
    if format_name == "parquet":
        import pyarrow.parquet as pq

        return list(pq.read_schema(name).names)
    with closing(sqlite3.connect(name)) as connection:
        return [column[0] for column in connection.execute("SELECT * FROM predictions LIMIT 0").description]


def _ranks(columns: Sequence[str]) -> int:
    return max(1, sum(bool(_RANK.fullmatch(column)) for column in columns))
