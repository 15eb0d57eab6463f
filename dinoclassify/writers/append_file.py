"""A file of rows that grows by whole lines: the journal of a run, or the output of ``--watch``."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Generic

from dinoclassify.errors import OutputError
from dinoclassify.storage.atomic import append, as_output_errors, keep_rights, replacing
from dinoclassify.writers.formats.base import Lines, R, without_header


class AppendFile(Generic[R]):
    """A file of lines, which may exist already; messages call it ``name``.

    Methods raise OutputError if it cannot be written, and KeyError, TypeError or ValueError if it has other rows.
    """

    def __init__(self, path: str, name: str, lines: Lines[R]) -> None:
        self.path, self.name = path, name
        self._lines = lines
        self._descriptor: int | None = None
        self._begun_at = 0  # bytes in the file when it was opened
        self._end = 0  # bytes in the file after the last row

    def replace(self, rows: Iterable[bytes], *, rights_of: str) -> None:
        """Write a new file of these rows, with the access rights of the file ``rights_of``."""
        with replacing(self.path, rights_of=rights_of) as file:
            file.write(self._lines.header())
            file.writelines(rows)

    def open(self, *, check_end: bool = False, rights_of: int | None = None) -> None:
        """Open the file for appending, and cut off an incomplete row that a killed run left.

        Args:
            check_end: refuse a file that ends within quotes, as an edited file may.
            rights_of: the descriptor of a file whose access rights this file gets.
        """
        size = self._check_size(check_end=check_end) if os.path.exists(self.path) else 0
        with as_output_errors(self.name):
            self._descriptor = os.open(
                self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666
            )
            if os.fstat(self._descriptor).st_size < size:
                raise OutputError(
                    f"cannot write {self.name}: another program is changing it; end that program, and run again"
                )
            if rights_of is not None:
                keep_rights(rights_of, self._descriptor)
            os.ftruncate(self._descriptor, size)
            if not size:
                append(self._descriptor, self._lines.header())
            self._begun_at = self._end = os.fstat(self._descriptor).st_size

    def append(self, row: R) -> int:
        """Add a row and return its size in bytes. It is in the file when this returns."""
        assert self._descriptor is not None  # noqa: S101 - the file is open
        line, header = self._lines.line(row), self._lines.header()
        with as_output_errors(self.name):
            append(self._descriptor, line)
            self._end = os.lseek(self._descriptor, 0, os.SEEK_CUR)
            if header and self._end == len(line):  # another program truncated it just now
                os.ftruncate(self._descriptor, 0)
                append(self._descriptor, header + line)
                self._end += len(header)
        return len(line)

    def take_back(self, size: int) -> None:
        """Cut off the last ``size`` bytes."""
        assert self._descriptor is not None  # noqa: S101 - the file is open
        with as_output_errors(self.name):
            if os.fstat(self._descriptor).st_size == self._end:  # otherwise another program truncated it
                os.ftruncate(self._descriptor, self._end - size)
                self._end -= size

    def is_in_place(self) -> bool:
        """Whether the file is open, still has its name, and holds exactly what was written to it."""
        if self._descriptor is None:
            return False
        try:
            ours, named = os.fstat(self._descriptor), os.lstat(self.path)
        except OSError:
            return False
        return os.path.samestat(ours, named) and ours.st_size == self._end

    def reopen(self) -> None:
        """Continue with the file that has the name now; if none has, with a new one with the same access rights."""
        old, self._descriptor = self._descriptor, None
        try:
            self.open(check_end=True, rights_of=None if os.path.lexists(self.path) else old)
        finally:
            if self._descriptor is None:
                self._descriptor = old  # a retry needs its access rights
            elif old is not None:
                os.close(old)

    def sync(self) -> None:
        """Force all rows onto the disk."""
        assert self._descriptor is not None  # noqa: S101 - the file is open
        with as_output_errors(self.name):
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def remove(self) -> None:
        """Remove the file, if it exists."""
        with as_output_errors(self.name), suppress(FileNotFoundError):
            os.unlink(self.path)

    def rows(self) -> Iterator[R]:
        """Yield all complete rows. Raises OSError if the file cannot be read."""
        return map(self._lines.parse, self.read_lines())

    def read_lines(self) -> Iterator[bytes]:
        """Yield all complete rows as lines, without the header."""
        with open(self.path, "rb") as file:
            yield from without_header(self._lines, file)

    def appended(self) -> Iterator[bytes]:
        """Yield the rows added since the file was opened, as lines."""
        with open(self.path, "rb") as file:
            file.seek(self._begun_at)
            yield from self._lines.lines(file)

    def _check_size(self, *, check_end: bool) -> int:
        """Return the number of bytes in the header and in complete rows."""
        size = sum(map(len, self.read_lines()))
        with open(self.path, "rb") as file:
            header = self._lines.header()
            if file.read(len(header)) == header:
                size += len(header)
            file.seek(size)
            if check_end and b"\n" in file.read():  # a killed run leaves less than a line
                raise ValueError("its end is within quotes")
        return size
