"""Rows that go out as they come: to stdout, a device or a pipe."""

import os
import sys
from collections.abc import Iterable
from typing import BinaryIO

from dinoclassify.errors import OutputError, UsageError
from dinoclassify.files import append, closing_well, is_regular, reporting
from dinoclassify.rows import Prediction, printable
from dinoclassify.writers import FORMATS, as_lines, as_table, is_table


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


def _shown(line: bytes) -> bytes:
    """The line for a terminal, which its content must not steer."""
    return printable(line.decode("utf-8").removesuffix("\n")).encode("utf-8") + b"\n"
