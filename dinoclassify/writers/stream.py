"""Rows that go out as they come: to stdout, a device or a pipe."""

import os
import sys
from collections.abc import Iterable
from typing import BinaryIO

from dinoclassify.errors import OutputError, UsageError
from dinoclassify.messages import printable
from dinoclassify.storage.atomic import (
    append,
    as_output_errors,
    close_checked,
    descriptor_of,
    is_regular,
    open_in_place,
    why_not_open,
)
from dinoclassify.storage.missing import why_no_folder
from dinoclassify.writers.formats import Format, open_format
from dinoclassify.writers.formats.base import R, RowFormat


def check_output(output: str | None, chosen: Format) -> None:
    """Find out what can be known before the work begins.

    Raises:
        OutputError: the folder of ``output`` is not there or may not be written to, or ``output`` is a folder, or a
            database that another program uses.
        UsageError: the format is not for where it would go.
    """
    if output is None and sys.stdout is None:
        raise OutputError("stdout is closed: name a file with --output")
    if chosen.table and _is_terminal(output):
        raise UsageError(f"--format {chosen.name} is not for a terminal: name a file with --output")
    if chosen.seeks and (output is None or not is_regular(output)):
        raise UsageError(f"--format {chosen.name} needs a regular file: name one with --output")
    if output is not None:
        check_place(output)
    if output is not None and chosen.database:
        open_format(chosen.name, top_k=1).refuse_in_use(output)


def check_place(output: str) -> None:
    """Find out whether there may be a file of this name.

    Raises:
        OutputError: it is a folder, or that in which it would be is not there or may not be written to; or it is the
            name of an open file, and none is.
    """
    descriptor = descriptor_of(output)
    if descriptor is not None and (why := why_not_open(descriptor)) is not None:
        raise OutputError(f"cannot write {output}: {why}")
    if os.path.isdir(output) or output.endswith("/"):
        raise OutputError(f"cannot write {output}: it is a folder; name a file, in it or elsewhere")
    folder = os.path.dirname(os.path.realpath(output))
    if is_regular(output) and not os.path.isdir(folder):
        raise OutputError(f"cannot write {output}: {why_no_folder(folder)}")
    if is_regular(output) and not os.access(folder, os.W_OK):
        raise OutputError(f"cannot write {output}: the folder {folder} may not be written to; choose another")


def _is_terminal(output: str | None) -> bool:
    if output is None:
        return sys.stdout.isatty()
    descriptor = descriptor_of(output)
    return descriptor is not None and os.isatty(descriptor)


def stream_rows(output: str | None, row_format: RowFormat[R], rows: Iterable[R]) -> None:
    """Write rows, as they come, to stdout if ``output`` is None, else to a device or a pipe.

    Raises:
        OutputError: they cannot be written.
        OutputClosedError: the reader has gone.
    """
    if output is None:
        _stream(sys.stdout.buffer, "stdout", row_format, rows)
        return
    with as_output_errors(output):
        file = open_in_place(output, "ab")  # closed below, where its errors can be told from the run's
    with close_checked(file, output):
        _stream(file, output, row_format, rows)


def _stream(file: BinaryIO, name: str, row_format: RowFormat[R], rows: Iterable[R]) -> None:
    if row_format.table is not None:
        with as_output_errors(name):
            row_format.table.write(file, rows, {})
            file.flush()
        return
    lines, descriptor = row_format.lines, file.fileno()
    shown = _shown if os.isatty(descriptor) else bytes
    with as_output_errors(name):
        append(descriptor, lines.header())
    for row in rows:
        with as_output_errors(name):
            append(descriptor, shown(lines.line(row)))


def _shown(line: bytes) -> bytes:
    """The line for a terminal, which its content must not steer."""
    return printable(line.decode("utf-8").removesuffix("\n")).encode("utf-8") + b"\n"
