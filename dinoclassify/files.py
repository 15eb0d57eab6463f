"""Files that are written so that what is on the disk is whole, and what goes wrong is one line."""

import errno
import os
import select
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from dinoclassify.errors import OutputClosedError, OutputError

Signature = tuple[int, int] | tuple[None, None]  # size in bytes and mtime_ns of a file

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})  # what goes wrong with one file will with all others


def signature(path: str) -> Signature:
    """What tells whether a file has changed; None where there is no such file."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None, None
    return status.st_size, status.st_mtime_ns


def is_regular(output: str) -> bool:
    """Whether ``output`` is a regular file, or will be: not a device, a pipe, a folder or a name for an open file."""
    if output.startswith(("/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/")):
        return False
    return os.path.isfile(output) or not os.path.exists(output)


def append(descriptor: int, line: bytes) -> None:
    """Write a line at the end of a file: all of it or, of a regular file, nothing.

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
        written, size = len(line) - len(rest), os.fstat(descriptor).st_size
        if written and stat.S_ISREG(os.fstat(descriptor).st_mode) and os.lseek(descriptor, 0, os.SEEK_CUR) == size:
            os.ftruncate(descriptor, size - written)
        raise


@contextmanager
def replacing(path: str, suffix: str) -> Iterator[BinaryIO]:
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
        settle(os.path.dirname(path))


def settle(path: str) -> None:
    """Have the content of a file, or the names in a folder, on the disk.

    Raises:
        OSError: it cannot be put there.
    """
    descriptor = os.open(path, os.O_RDONLY)
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
