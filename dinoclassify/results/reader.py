"""What `predict` wrote -> its predictions, whatever its format and number of ranks."""

import codecs
import json
import logging
import os
import re
import shutil
import sqlite3
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from gzip import BadGzipFile, GzipFile
from io import BufferedReader
from itertools import chain
from typing import Any

from dinoclassify.discovery.filters import has_image_suffix
from dinoclassify.discovery.location import STDIN, absolute_path, is_local_file
from dinoclassify.errors import OutputError, UsageError
from dinoclassify.storage.missing import why_missing
from dinoclassify.storage.paths import file_shown_as
from dinoclassify.storage.remote.transfer import download
from dinoclassify.storage.remote.url import is_url
from dinoclassify.storage.signature import file_signature, same_signature
from dinoclassify.types.prediction import Prediction
from dinoclassify.writers.fingerprint import carried_meta
from dinoclassify.writers.formats import MAGIC, TABLES, Lines, open_format
from dinoclassify.writers.formats.csv import split
from dinoclassify.writers.output_folder import part_files, read_manifest

log = logging.getLogger(__name__)

FindFile = Callable[[Prediction], str]

_RANK = re.compile(r"label(_\d+)?")  # a column of each rank
_GZIP = b"\x1f\x8b"  # how lines begin that are compressed
_LONGEST = 16 << 20  # bytes of a row: a small file may unpack to an endless one

GONE = "is gone"
CHANGED = "has changed since it was labelled"
_ELSEWHERE = "is no file of its own: only those are sorted, tagged and shown"


def read_predictions(name: str) -> Iterator[Prediction]:
    """All predictions of a file, in order; its content says which of the formats it has.

    Lines may begin with a byte order mark and end in CRLF, as spreadsheets save them.

    Args:
        name: the file, the folder of parts, an object or a prefix of such, or ``-`` for stdin, whose lines are read as
            they come.

    Raises:
        UsageError: it cannot be read, or holds something else.
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
        # Not sys.stdin: Python aborts on its way out if a thread still waits for that.
        with open(0 if name == STDIN else name, "rb", closefd=name != STDIN) as stream:
            yield from _read(stream, name, safe_for_excel=_is_safe_for_excel(name))
    except KeyError as error:
        raise UsageError(f"{shown} is not what predict writes: it has no {error}") from error
    except UnicodeDecodeError as error:
        cure = "name the file that predict -o has written, or save it as UTF-8"
        raise UsageError(f"{shown} is not what predict writes, but no UTF-8 text: {cure}") from error
    except (TypeError, ValueError, RecursionError, EOFError, zlib.error, BadGzipFile, sqlite3.Error) as error:
        raise UsageError(f"{shown} is not what predict writes ({error})") from error
    except OSError as error:
        raise UsageError(f"cannot read {shown}: {error.strerror or error}") from error


def latest_predictions(name: str) -> Iterator[Prediction]:
    """The same; of several rows of an image, as ``predict --watch`` writes them when it changes, only the last.

    From stdin they come as they are. The names of all images are in memory; they are known by their absolute paths.

    Raises:
        UsageError: see `read_predictions`.
    """
    if name == STDIN:
        yield from read_predictions(name)
        return
    folder = read_meta(name).get("working_folder")
    begin = folder if isinstance(folder, str) else os.getcwd()
    numbers = {absolute_path(row.path, begin): number for number, row in enumerate(read_predictions(name))}
    last = set(numbers.values())
    yield from (row for number, row in enumerate(read_predictions(name)) if number in last)


def read_meta(name: str) -> dict[str, Any]:
    """What is said of rows, nothing if it cannot be read.

    That is ``NAME.meta.json`` or, where that is missing, what the file itself carries; of a folder the manifest.
    """
    if (is_url(name) or os.path.isdir(name)) and (manifest := read_manifest(name)) is not None:
        return manifest
    if is_url(name):
        try:
            with _local_copy(f"{name}.meta.json") as file:
                return _parsed(file)
        except UsageError:
            return {}
    path = f"{os.path.realpath(name)}.meta.json"
    return _parsed(path) if os.path.isfile(path) else carried_meta(name) if os.path.isfile(name) else {}


def current_file(row: Prediction) -> str:
    """The path of a row's image, where relative paths begin in the current folder."""
    return file_shown_as(row.path)


def file_finder(name: str) -> FindFile:
    """A function that gives the path of a row's image, for rows that were read from ``name``.

    A relative path begins in the folder in which `predict` ran, if the metadata of the rows says which, or else in the
    current folder. Where both have a file of this path, the one that the row was made of is taken, or the first.
    """
    folder = read_meta(name).get("working_folder") if name != STDIN else None
    if not isinstance(folder, str) or not os.path.isabs(folder) or not os.path.isdir(folder):
        return current_file
    if os.path.samefile(folder, os.curdir):
        return current_file
    log.info("relative paths begin in %s, where predict ran", folder)
    warned = False

    def find(row: Prediction) -> str:
        nonlocal warned
        here = file_shown_as(row.path)
        if os.path.isabs(row.path) or is_url(row.path):
            return here
        there = file_shown_as(os.path.join(folder, row.path))
        files = [file for file in (there, here) if os.path.lexists(file)] or [there]
        same = [file for file in files if why_stale(row, file) is None] or files
        if len(same) > 1 and not warned and not os.path.samefile(*same):
            log.warning("%s is here and in %s, where predict ran: files there are taken", row.path, folder)
            warned = True
        return same[0]

    return find


def why_stale(row: Prediction, image: str) -> str | None:
    """What keeps a row from being about its image as it is now; None if nothing does.

    Args:
        row: any row.
        image: its path, see `file_finder`.
    """
    if not is_local_file(image):
        return _ELSEWHERE
    now = file_signature(image)
    if now == (None, None):
        return GONE
    if not os.path.isfile(image):
        return "is no file"
    is_same = row.size is None or same_signature(now, (row.size, row.mtime_ns))
    return None if is_same else CHANGED


def _check_file(name: str) -> None:
    """Raise UsageError where the name alone shows what a newcomer has mistaken for a file of rows."""
    if os.path.isdir(name):
        raise UsageError(f"{name} is a folder: name the file of its rows, as predict {name} -o labels.csv writes it")
    if not os.path.exists(name):
        raise UsageError(f"{name} {why_missing(name)}")
    if not os.path.isfile(name):
        raise UsageError(f"{name} is no regular file: name one, or - for rows on stdin")
    if has_image_suffix(name):
        raise UsageError(f"{name} is not what predict writes, but an image: predict {name} -o labels.csv labels it")
    if name.endswith(".meta.json"):
        raise UsageError(f"{name} is not what predict writes, but its metadata: name {name.removesuffix('.meta.json')}")
    if name.endswith((".npy", ".npz")):
        raise UsageError(f"{name} is not what predict writes, but what embed writes: it has no labels")


@contextmanager
def _local_copy(url: str) -> Iterator[str]:
    """A file of this machine with the content of an object."""
    with tempfile.NamedTemporaryFile(suffix=os.path.basename(url)) as file:
        try:
            found = download(url, file.name)
        except OutputError as error:
            raise UsageError(str(error)) from error
        if not found:
            raise UsageError(f"there is no {url}")
        yield file.name


def _parsed(path: str) -> dict[str, Any]:
    """The object that is written in a file; nothing if there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _read(stream: BufferedReader, name: str, *, safe_for_excel: bool) -> Iterator[Prediction]:
    start = stream.peek(MAGIC)[:MAGIC]
    if start in TABLES and name == STDIN:
        with tempfile.NamedTemporaryFile() as file:
            shutil.copyfileobj(stream, file)
            file.flush()
            yield from _read_table(file.name, TABLES[start])
    elif start in TABLES:
        yield from _read_table(name, TABLES[start])
    elif start.startswith(_GZIP):
        yield from _read_lines(GzipFile(fileobj=stream), safe_for_excel=safe_for_excel)
    else:
        yield from _read_lines(stream, safe_for_excel=safe_for_excel)


def _read_lines(stream: BufferedReader | GzipFile, *, safe_for_excel: bool) -> Iterator[Prediction]:
    if stream.peek(MAGIC).startswith(codecs.BOM_UTF8):
        stream.read(len(codecs.BOM_UTF8))
    if start := stream.peek(MAGIC)[:MAGIC]:
        lines = _lines(stream, start, safe_for_excel=safe_for_excel)
        for line in lines.lines(whole := _Whole(stream)):
            whole.pending -= len(line)
            yield lines.parse(_with_newline(line))
        if whole.pending:
            raise ValueError("its end is within quotes")


def _with_newline(line: bytes) -> bytes:
    """A row, or the header, that ends in CRLF or a newline. A carriage return of a field would stand in quotes."""
    return line.removesuffix(b"\r\n") + b"\n" if line.endswith(b"\r\n") else line


class _Whole:
    """The lines of text in a stream, of which the last may lack its end.

    ``pending`` counts the bytes that were given; whoever makes rows of them takes off those of each row.
    """

    def __init__(self, stream: BufferedReader | GzipFile) -> None:
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
    made_with = read_meta(name).get("made_with")
    return isinstance(made_with, dict) and made_with.get("format") == "excel"


def _read_table(name: str, made: str) -> Iterator[Prediction]:
    columns = _columns(name, made)
    if "features" in columns:
        raise ValueError("it has the features that embed writes, and no labels")
    table = open_format(made, _ranks(columns)).table
    assert table is not None  # noqa: S101 - of these formats it is one
    return table.read(name)


def _lines(stream: BufferedReader | GzipFile, start: bytes, *, safe_for_excel: bool) -> Lines[Prediction]:
    """The format of a stream of lines, of which the header has been read."""
    if start.startswith(b"{"):
        return open_format("jsonl", 1).lines
    header = _with_newline(stream.readline(_LONGEST))
    made, separator = ("tsv", "\t") if b"\t" in header else ("excel" if safe_for_excel else "csv", ",")
    lines = open_format(made, _ranks(split(header, separator))).lines
    if split(header, separator) != split(lines.header(), separator):
        raise ValueError("it does not begin with the columns path,status,label,score")
    return lines


def _columns(name: str, made: str) -> Sequence[str]:
    if made == "parquet":
        import pyarrow.parquet as pq

        return list(pq.read_schema(name).names)
    with closing(sqlite3.connect(name)) as connection:
        return [column[0] for column in connection.execute("SELECT * FROM predictions LIMIT 0").description]


def _ranks(columns: Sequence[str]) -> int:
    return max(1, sum(bool(_RANK.fullmatch(column)) for column in columns))
