"""The output file of ``--watch``, which other programs may rotate while it grows."""

import logging
import os
import threading
from collections.abc import Callable
from typing import Generic

from dinoclassify.errors import OutputError
from dinoclassify.storage.missing import why_saved_again
from dinoclassify.storage.signature import folder_identity
from dinoclassify.writers.append_file import AppendFile
from dinoclassify.writers.formats.base import R

log = logging.getLogger(__name__)

FIRST_PAUSE, LAST_PAUSE = 1.0, 60.0  # seconds between two attempts to write a row, doubling


class RotatedFile(Generic[R]):
    """An open file of rows.

    If it is renamed, removed, truncated or edited, later rows go to the file that now has its name. An obstacle to
    writing, such as a full disk, is logged once; then rows wait until it is gone. ``trouble`` is the present one, if
    any. ``on_rotation`` is called after another file was opened or created; again before the next row if it fails.
    """

    def __init__(self, file: AppendFile[R], on_rotation: Callable[[], None]) -> None:
        self._file, self._on_rotation = file, on_rotation
        self._folder = folder_identity(os.path.dirname(file.path))
        self._is_closed = False
        self._is_new = False  # whether `on_rotation` is still to be called for the open file
        self._lock = threading.Lock()  # one thread watches for rotations while another writes rows
        self._is_refused = False  # whether a row met the trouble: then only a row can show that it is over
        self.trouble: str | None = None

    def append(self, row: R, wait: Callable[[float], bool], note: Callable[[R], None] = lambda _: None) -> bool:
        """Add a row as soon as possible. Returns True when it is in the file, False if the run ends first.

        ``wait`` waits for a number of seconds and returns whether to continue. ``note`` is called with the row when it
        is in the file, before a rotation can be noticed; if it raises OutputError, the row is removed again.
        """

        def write() -> None:
            size = self._file.append(row)
            try:
                note(row)
            except OutputError:
                self._file.take_back(size)
                raise

        pause = FIRST_PAUSE
        while not self._try(write, is_row=True):
            if not wait(pause):
                return False
            pause = min(2 * pause, LAST_PAUSE)
        return True

    def follow(self) -> None:
        """Check whether the file was rotated, and open the new one if so."""
        self._try(lambda: None)

    def reread(self) -> None:
        """Have `on_rotation` called before the next row."""
        with self._lock:
            self._is_new = True

    def sync(self) -> None:
        """Force all rows onto the disk, if possible."""
        self._try(self._file.sync)

    def close(self) -> None:
        """Close the file. Calls of other threads then do nothing."""
        with self._lock:
            self._is_closed = True
            self._file.close()

    def _try(self, write: Callable[[], object], *, is_row: bool = False) -> bool:
        is_in_place = False
        try:
            with self._lock:
                if self._is_closed:
                    return False
                self._follow()
                is_in_place = True
                write()
        except OutputError as error:
            if self.trouble is None:
                log.warning("%s; waiting until it can be written (dinoclassify guide watch)", error)
            self.trouble, self._is_refused = str(error), is_in_place
            return False
        if self.trouble is not None and (is_row or not self._is_refused):
            log.warning("%s can be written again", self._file.name)
            self.trouble = None
        return True

    def _follow(self) -> None:
        name = self._file.name
        self._file.path = path = os.path.realpath(name)  # a link may lead elsewhere by now
        if self._file.is_in_place() and not self._is_new:
            return
        folder = folder_identity(os.path.dirname(path))
        if folder != self._folder and not os.path.lexists(path):  # a disk mounted later would hide the rows
            raise OutputError(f"cannot write {name}: its folder is missing or was replaced; is its disk mounted?")
        if not self._is_new:
            log.info("%s was moved, replaced or edited: further rows go to the file that has this name now", name)
        self._is_new = True
        try:
            self._file.reopen()
            self._on_rotation()
        except (KeyError, TypeError, ValueError) as error:
            reason = why_saved_again(path) or f"it has other rows ({error})"
            raise OutputError(f"cannot add to {name}, {reason}: move it away") from error
        except OSError as error:  # it was removed again
            raise OutputError(f"cannot read {name}: {error.strerror or error}") from error
        self._folder, self._is_new = folder, False
