"""Rows -> a file or stdout. One format a file here, one entry in `FORMATS`.

A file is complete or it is not there: rows go to ``OUTPUT.partial`` beside it, which takes its name at the end. A run
that stops early leaves the partial, with all the rows that were done.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import BinaryIO, Protocol, cast

from dinoclassify.errors import OutputClosedError, OutputError, UsageError
from dinoclassify.rows import Prediction


@dataclass(frozen=True, slots=True)
class Format:
    """A format: the class that writes it, in the file of its name here, and the suffixes of its files.

    ``seeks``: it is not written from front to back, and so only to a regular file.
    """

    writer: str
    suffixes: tuple[str, ...]
    seeks: bool = False


FORMATS = {
    "csv": Format("CsvWriter", (".csv",)),
    "jsonl": Format("JsonlWriter", (".jsonl", ".ndjson")),
    "parquet": Format("ParquetWriter", (".parquet",)),
    "sqlite": Format("SqliteWriter", (".sqlite", ".sqlite3", ".db"), seeks=True),
}


class Writer(Protocol):
    """Writes predictions in one format, in the columns of ``rows.columns(top_k)``, to a file open for writing."""

    def __init__(self, file: BinaryIO, top_k: int) -> None: ...

    def write(self, prediction: Prediction) -> None:
        """Write one row."""

    def close(self) -> None:
        """Write what is still held back. The file itself stays open."""


def choose_format(output: str | None, name: str | None) -> str:
    """The format by its name, else by the suffix of the output, else CSV.

    Raises:
        UsageError: there is no such format.
    """
    if name is not None and name not in FORMATS:
        raise UsageError(f"--format {name}: choose {', '.join(FORMATS)}")
    suffix = os.path.splitext(output or "")[1].lower()
    return name or next((name for name, made in FORMATS.items() if suffix in made.suffixes), "csv")


def is_regular(output: str) -> bool:
    """Whether ``output`` is a regular file, or will be: not a device, a pipe, a folder or a name for an open file."""
    if output.startswith(("/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/")):
        return False
    return os.path.isfile(output) or not os.path.exists(output)


def check_output(output: str | None, format_name: str) -> None:
    """Find out what can be known before the work begins.

    Raises:
        OutputError: the folder of ``output`` is not there or may not be written to, or ``output`` is a folder.
        UsageError: the format goes to regular files alone, and ``output`` is none.
    """
    if output is None and sys.stdout is None:
        raise OutputError("stdout is closed: name a file with --output")
    if FORMATS[format_name].seeks and (output is None or not is_regular(output)):
        raise UsageError(f"--format {format_name} needs a regular file: name one with --output")
    if output is None:
        return
    if os.path.isdir(output) or output.endswith("/"):
        raise OutputError(f"cannot write {output}: it is a folder")
    folder = os.path.dirname(os.path.realpath(output))
    if is_regular(output) and not os.path.isdir(folder):
        raise OutputError(f"cannot write {output}: there is no folder {folder}")
    if is_regular(output) and not os.access(folder, os.W_OK):
        raise OutputError(f"cannot write {output}: the folder {folder} may not be written to")


@contextmanager
def open_output(output: str | None, format_name: str, top_k: int) -> Iterator[Callable[[Prediction], None]]:
    """A function that writes a row to ``output``, or to stdout if that is None; at the end the file is in place.

    Raises:
        OutputError: the output cannot be written.
        OutputClosedError: the reader of stdout has gone.
    """
    if output is None:
        with _open_writer(sys.stdout.buffer, format_name, top_k, "stdout") as write:
            yield write
        return
    with replacing(output) as file, _open_writer(file, format_name, top_k, output) as write:
        yield write


@contextmanager
def replacing(path: str) -> Iterator[BinaryIO]:
    """A file to write, which takes the name ``path`` when the block ends well; otherwise it stays ``path.partial``.

    What is no regular file, such as /dev/null or a named pipe, is written to as it is.
    """
    in_place = not is_regular(path)
    if not in_place:
        path = os.path.realpath(path)  # a link stays one
    with _reporting(path):
        partial = path if in_place else f"{path}.partial"
        file = open(partial, "ab" if in_place else "wb")  # noqa: SIM115 - closed below, where its errors can be told from the block's
    try:
        yield file
    except BaseException:
        with suppress(OSError):
            file.close()
        raise
    with _reporting(path):
        if in_place:
            file.close()
            return
        file.flush()
        os.fsync(file.fileno())
        file.close()
        os.replace(partial, path)
        _sync_folder(os.path.dirname(path))


@contextmanager
def _open_writer(file: BinaryIO, format_name: str, top_k: int, name: str) -> Iterator[Callable[[Prediction], None]]:
    module = import_module(f"dinoclassify.writers.{format_name}")
    make = cast(Callable[[BinaryIO, int], Writer], getattr(module, FORMATS[format_name].writer))
    with _reporting(name):
        writer = make(file, top_k)

    def write(prediction: Prediction) -> None:
        with _reporting(name):
            writer.write(prediction)

    try:
        yield write
    except (OutputError, OutputClosedError):
        raise
    except BaseException:
        with _reporting(name):
            writer.close()
        raise
    with _reporting(name):
        writer.close()


@contextmanager
def _reporting(name: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise OutputClosedError from error
    except OSError as error:
        raise OutputError(f"cannot write {name}: {error.strerror or error}") from error


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
