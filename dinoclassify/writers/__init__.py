"""Formats of rows: one file each here, one entry in `FORMATS`; and how rows get to stdout, devices and new files.

A format of lines has ``header(top_k)`` and ``line(prediction, top_k)``, which give bytes, and reads them back with
``lines(file)`` and ``parse(line, top_k)``. A table, which is not done before its last row, has
``write(file, predictions, top_k)`` and ``read(name, top_k)``.
"""

import logging
import os
import select
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import BinaryIO, Protocol, cast

from dinoclassify.errors import OutputClosedError, OutputError, UsageError
from dinoclassify.rows import Prediction, printable

log = logging.getLogger(__name__)


class Lines(Protocol):
    """A format that is written line by line."""

    def header(self, top_k: int, /) -> bytes:
        """What stands above the rows."""

    def line(self, prediction: Prediction, top_k: int, /) -> bytes:
        """One row, with its end."""

    def lines(self, file: BinaryIO, /) -> Iterator[bytes]:
        """The header, if there is one, and the rows of a file; what is not complete at its end is left out."""

    def parse(self, row: bytes, top_k: int, /) -> Prediction:
        """What ``line`` has made the row of. Raises KeyError, TypeError or ValueError if it is no such row."""


class Table(Protocol):
    """A format that is written as a whole."""

    def write(self, file: BinaryIO, predictions: Iterable[Prediction], top_k: int, /) -> None:
        """Write all rows."""

    def read(self, name: str, top_k: int, /) -> Iterator[Prediction]:
        """All rows. Raises KeyError, TypeError or ValueError if there are no such rows in the file."""


@dataclass(frozen=True, slots=True)
class Format:
    """What is known of a format without its module.

    ``suffixes``: of the files that are written in it unless another is asked for. ``table``: it is a `Table`, else
    `Lines`. ``seeks``: it is not written from front to back, and so only to a regular file.
    """

    suffixes: tuple[str, ...]
    table: bool = False
    seeks: bool = False


FORMATS = {
    "csv": Format((".csv",)),
    "jsonl": Format((".jsonl", ".ndjson")),
    "parquet": Format((".parquet",), table=True),
    "sqlite": Format((".sqlite", ".sqlite3", ".db"), table=True, seeks=True),
}
_EXCEL = "excel"  # takes the place of csv on demand


def choose_format(output: str | None, name: str | None, *, excel_safe: bool = False) -> str:
    """The format by its name, else by the suffix of the output, else CSV.

    Raises:
        UsageError: there is no such format, or it cannot be made safe for Excel.
    """
    if name is not None and name not in FORMATS:
        raise UsageError(f"--format {name}: choose {', '.join(FORMATS)}")
    suffix = os.path.splitext(output or "")[1].lower()
    chosen = name or next((name for name, made in FORMATS.items() if suffix in made.suffixes), "csv")
    if excel_safe and chosen != "csv":
        raise UsageError(f"--excel-safe goes with CSV, not with {chosen}")
    return _EXCEL if excel_safe else chosen


def is_table(format_name: str) -> bool:
    """Whether the format is a `Table`."""
    return format_name != _EXCEL and FORMATS[format_name].table


def as_lines(format_name: str) -> Lines:
    """The module of a format of lines."""
    return cast(Lines, import_module(f"dinoclassify.writers.{format_name}"))


def as_table(format_name: str) -> Table:
    """The module of a format that is a table."""
    return cast(Table, import_module(f"dinoclassify.writers.{format_name}"))


def is_regular(output: str) -> bool:
    """Whether ``output`` is a regular file, or will be: not a device, a pipe, a folder or a name for an open file."""
    if output.startswith(("/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/")):
        return False
    return os.path.isfile(output) or not os.path.exists(output)


def check_output(output: str | None, format_name: str) -> None:
    """Find out what can be known before the work begins.

    Raises:
        OutputError: the folder of ``output`` is not there or may not be written to, or ``output`` is a folder.
        UsageError: the format is not for where it would go.
    """
    if output is None and sys.stdout is None:
        raise OutputError("stdout is closed: name a file with --output")
    if is_table(format_name) and output is None and sys.stdout.isatty():
        raise UsageError(f"--format {format_name} is not for a terminal: name a file with --output")
    if is_table(format_name) and FORMATS[format_name].seeks and (output is None or not is_regular(output)):
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


def stream_rows(output: str | None, format_name: str, predictions: Iterable[Prediction], top_k: int) -> None:
    """Write rows, as they come, to stdout if ``output`` is None, else to a device or a pipe.

    Raises:
        OutputError: they cannot be written.
        OutputClosedError: the reader has gone.
    """
    if output is None:
        _stream(sys.stdout.buffer, "stdout", format_name, predictions, top_k)
        return
    with reporting(output):
        file = open(output, "ab")  # noqa: SIM115 - closed below, where its errors can be told from the run's
    with closing_well(file, output):
        _stream(file, output, format_name, predictions, top_k)


def _stream(file: BinaryIO, name: str, format_name: str, predictions: Iterable[Prediction], top_k: int) -> None:
    if is_table(format_name):
        table = as_table(format_name)
        with reporting(name):
            table.write(file, predictions, top_k)
            file.flush()
        return
    made, descriptor = as_lines(format_name), file.fileno()
    shown = _shown if os.isatty(descriptor) else bytes
    with reporting(name):
        append(descriptor, made.header(top_k))
    for prediction in predictions:
        with reporting(name):
            append(descriptor, shown(made.line(prediction, top_k)))


def append(descriptor: int, line: bytes) -> None:
    """Write a line at the end of a file: all of it or, where a file can be cut, nothing.

    Raises:
        OSError: it cannot be written.
    """
    rest = memoryview(line)
    try:
        while rest:
            try:
                rest = rest[os.write(descriptor, rest) :]
            except BlockingIOError:  # a pipe that another program has made so
                select.select([], [descriptor], [])
    except OSError:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and len(rest) < len(line):
            os.ftruncate(descriptor, status.st_size - (len(line) - len(rest)))
        raise


def has_reader(descriptor: int) -> bool:
    """Whether anybody still reads what is written, where that is a pipe."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return not any(events & select.POLLERR for _, events in poll.poll(0))


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


@contextmanager
def replacing(path: str, suffix: str = ".partial") -> Iterator[BinaryIO]:
    """A new file, which takes the name ``path`` when the block ends well; otherwise ``path`` stays as it was.

    Until then it is called ``path`` with ``suffix`` behind.

    Raises:
        OutputError: it cannot be written.
    """
    path = os.path.realpath(path)  # a link stays one
    with reporting(path):
        file = open(path + suffix, "wb")  # noqa: SIM115 - closed below, where its errors can be told from the block's
    try:
        with closing_well(file, path):
            yield file
            with reporting(path):
                file.flush()
                os.fsync(file.fileno())
        put_in_place(path + suffix, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(path + suffix)
        raise


def put_in_place(temporary: str, path: str) -> None:
    """Give a file, whose content is on the disk, its name, so that this too outlives a power cut.

    Raises:
        OutputError: it cannot be done.
    """
    with reporting(path):
        os.replace(temporary, path)
        descriptor = os.open(os.path.dirname(path), os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def closing_well(file: BinaryIO, name: str) -> Iterator[None]:
    """Close the file in the end: what goes wrong with that counts, unless the block has failed already."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            file.close()
        raise
    with reporting(name):
        file.close()


@contextmanager
def reporting(name: str) -> Iterator[None]:
    """Raise what goes wrong with the file ``name`` as the errors of an output."""
    try:
        yield
    except BrokenPipeError as error:
        raise OutputClosedError from error
    except OSError as error:
        raise OutputError(f"cannot write {name}: {error.strerror or error}") from error


def _shown(line: bytes) -> bytes:
    """The line for a terminal, which its content must not steer."""
    return printable(line.decode("utf-8").removesuffix("\n")).encode("utf-8") + b"\n"
