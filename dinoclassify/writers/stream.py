"""Rows that are written as they are made, to stdout, a device or a pipe; and checks on outputs."""

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
    """Check, before the work begins, that an output can be written.

    Raises:
        OutputError: the folder of ``output`` is missing or read-only, or ``output`` is a folder, or a database that
            another program uses.
        UsageError: the format cannot be written to such an output.
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
    """Check that a file of this name can be written.

    Raises:
        OutputError: it is a folder, or its folder is missing or read-only; or it names a descriptor that is not open.
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
    """Write rows, as they are made, to a device or a pipe, or to stdout if ``output`` is None.

    Raises:
        OutputError: they cannot be written.
        OutputClosedError: the reader closed the pipe.
    """
    if output is None:
        _stream(sys.stdout.buffer, "stdout", row_format, rows)
        return
    with as_output_errors(output):
        file = open_in_place(output, "ab")  # closed below, apart from errors of the run
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
    """Return a line for a terminal, without control characters."""
    return printable(line.decode("utf-8").removesuffix("\n")).encode("utf-8") + b"\n"
