"""A file of rows to which a run adds that does not end, while other programs rotate it."""

import errno
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic

from dinoclassify.errors import OutputError
from dinoclassify.writers import R
from dinoclassify.writers.append_file import AppendFile

log = logging.getLogger(__name__)

FIRST_PAUSE, LAST_PAUSE = 1.0, 60.0  # seconds between two tries to write to a full disk, which double each time

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


class RotatedFile(Generic[R]):
    """An open file of rows. Where it was renamed, removed or truncated, a new one is begun under its name.

    Args:
        file: open.
        begin: called before a new file is begun.
    """

    def __init__(self, file: AppendFile[R], begin: Callable[[], None]) -> None:
        self._file, self._begin = file, begin
        self._lock = threading.Lock()  # one thread looks after the file while another writes rows

    def append(self, row: R, wait: Callable[[float], bool]) -> None:
        """Add a row. It is in the file when this returns. Where the disk is full, it waits for room.

        Args:
            row: what to add.
            wait: waits for so many seconds; gives whether to go on.

        Raises:
            OutputError: it cannot be written, or there is no room and no time to wait for it.
        """
        pause = 0.0
        while True:
            try:
                with self._lock:
                    self._follow()
                    self._file.append(row)
            except OutputError as error:
                if not _is_full(error):
                    raise
                if not pause:
                    log.warning("%s: waiting for room", error)
                pause = min(2 * pause or FIRST_PAUSE, LAST_PAUSE)
                if not wait(pause):
                    raise
            else:
                if pause:
                    log.warning("there is room for %s again", self._file.name)
                return

    def follow(self) -> None:
        """Begin a new file now, if it was rotated; not at the next row.

        Raises:
            OutputError: it cannot be written.
        """
        if not self._lock.acquire(blocking=False):
            return  # a row is being written: that does the same
        try:
            self._follow()
        except OutputError as error:
            if not _is_full(error):  # else the next row waits for room
                raise
        finally:
            self._lock.release()

    def sync(self) -> None:
        """Force all rows onto the disk."""
        with self._lock:
            self._follow()
            self._file.sync()

    def _follow(self) -> None:
        if self._file.is_in_place():
            return
        log.info("%s was rotated: beginning a new one", self._file.name)
        self._file.close()
        self._begin()
        with _told_apart(self._file.name):
            self._file.open(check_end=True)


@contextmanager
def _told_apart(name: str) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise OutputError(f"cannot add to {name}: it is another file now, with other rows ({error})") from error


def _is_full(error: OutputError) -> bool:
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in _NO_ROOM
