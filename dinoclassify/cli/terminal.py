"""Messages on stderr, and tables on stdout."""

import io
import json
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Never

from dinoclassify.errors import OutputClosedError, OutputError
from dinoclassify.messages import printable

if TYPE_CHECKING:
    from tqdm import tqdm
    from typing_extensions import Buffer

    from dinoclassify.cli.option_groups import Messages

_NUMBER = re.compile(r"[-+]?[\d.,]*")

COUNTER = "count inputs"  # the thread that counts the inputs: it logs nothing

_bars: "list[tqdm[Never]]" = []  # the bar on the screen, if any


def say(message: str) -> None:
    """Print one line on stderr. Control characters in file names cannot break the line or steer the terminal."""
    line = f"dinoclassify: {printable(message)}"
    if _bars:
        _bars[0].write(line, file=sys.stderr)  # above the bar
    else:  # not by tqdm: the message may be that there is no memory, which its import takes
        print(line, file=sys.stderr)


@contextmanager
def progress_bar() -> "Iterator[tqdm[Never]]":
    """Show a bar on stderr, with messages above it."""
    from tqdm import tqdm

    with tqdm(unit=" images", dynamic_ncols=True) as bar:
        _bars.append(bar)
        try:
            yield bar
        finally:
            _bars.remove(bar)


def hush() -> None:
    """Discard all later output on stderr: queues that are torn down in the middle of a run print tracebacks."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 2)
    if nothing > 2:  # else the parent had closed this one, and no other file may get its number
        os.close(nothing)


class _LossyFile(io.FileIO):
    """A file that takes all bytes, and loses those that cannot be written."""

    def write(self, content: "Buffer", /) -> int:
        """Write the bytes, if possible."""
        size = memoryview(content).nbytes
        try:
            return super().write(content) or size  # None: it would have to wait
        except OSError:
            return size


def keep_stderr_from_failing() -> None:
    """Let a run go on where nobody can be told: the disk of its log is full, or the reader has gone."""
    if sys.stderr is None:  # closed by the parent: no other file may get its number, and so the messages
        hush()
        os.set_inheritable(2, False)  # so that no run takes it for an output that the shell has opened
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - open to the end
    else:
        raw = io.BufferedWriter(_LossyFile(2, "w", closefd=False))
        sys.stderr = io.TextIOWrapper(raw, sys.stderr.encoding, sys.stderr.errors, line_buffering=True)


class StderrHandler(logging.Handler):
    """Prints log records as messages, or their traceback if they have one."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        if record.threadName == COUNTER:
            return
        if record.exc_info:
            print(logging.Formatter().formatException(record.exc_info), file=sys.stderr)
        else:
            say(record.getMessage())


def set_up_log(messages: "Messages") -> None:
    """Print the log: warnings, and more or less on demand."""
    log = logging.getLogger("dinoclassify")
    log.handlers = [StderrHandler()]
    log.propagate = False
    if messages.debug:
        log.setLevel(logging.DEBUG)
    elif messages.verbose:
        log.setLevel(logging.INFO)
    else:
        log.setLevel(logging.ERROR if messages.quiet else logging.WARNING)


@contextmanager
def writing_to_stdout() -> Iterator[None]:
    """Flush what the block printed. Raises OutputClosedError if the reader has gone, OutputError for other errors."""
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError as error:
        raise OutputClosedError from error
    except OSError as error:
        raise OutputError(f"cannot write stdout: {error.strerror}") from error


def require_stdout() -> None:
    """Raise OutputError if stdout is closed."""
    if sys.stdout is None:
        raise OutputError("stdout is closed: open it, such as with > FILE")


@writing_to_stdout()
def print_json(content: object) -> None:
    """Print a value as JSON."""
    require_stdout()
    print(json.dumps(content, indent=2))


@writing_to_stdout()
def print_lines(lines: Sequence[str]) -> None:
    """Print lines of text."""
    require_stdout()
    print(*lines, sep="\n")


@writing_to_stdout()
def print_table(rows: Sequence[Mapping[str, object]], *, as_json: bool) -> None:
    """Print rows of the same columns: boxed on a terminal, tab-separated in a pipe, or as JSON."""
    require_stdout()
    if as_json:
        print_json(rows)
        return
    names = [printable(name) for name in rows[0]]
    cells = [["" if value is None else printable(str(value)) for value in row.values()] for row in rows]
    if not sys.stdout.isatty():
        print(*("\t".join(line) for line in [names, *cells]), sep="\n")
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    for name, texts in zip(names, zip(*cells, strict=True), strict=True):
        numbers = all(map(_NUMBER.fullmatch, texts))
        table.add_column(Text(name), overflow="fold", justify="right" if numbers else "left")
    for line in cells:
        table.add_row(*map(Text, line))
    Console().print(table)
