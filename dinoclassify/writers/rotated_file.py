"""A file of rows to which a run adds that does not end, while other programs rotate it."""

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

FIRST_PAUSE, LAST_PAUSE = 1.0, 60.0  # seconds between two tries to write a row, which double each time


class RotatedFile(Generic[R]):
    """An open file of rows. Where it was renamed, removed, truncated or edited, rows go to what has its name now.

    What keeps it from being written, such as a full disk, is said once and waited for.

    Args:
        file: open.
        on_rotation: called when another file has been opened, or begun; again before the next row if it fails.
    """

    def __init__(self, file: AppendFile[R], on_rotation: Callable[[], None]) -> None:
        self._file, self._on_rotation = file, on_rotation
        self._folder = folder_identity(os.path.dirname(file.path))
        self._is_closed = False
        self._is_new = False  # whether another file has been opened that `on_rotation` has not come to terms with
        self._lock = threading.Lock()  # one thread looks after the file while another writes rows
        self._is_refused = False  # whether the trouble came with a row: then only a row can show that it is over
        self.trouble: str | None = None  # what keeps it from being written

    def append(self, row: R, wait: Callable[[float], bool], note: Callable[[R], None] = lambda _: None) -> bool:
        """Add a row, as soon as that is possible. It is in the file when this returns True.

        Args:
            row: what to add.
            wait: waits for so many seconds; gives whether to go on.
            note: called with the row when it is in the file, before that can be rotated. If that raises OutputError,
                the row is taken back.
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
        """Find out whether the file was rotated, and begin a new one then."""
        self._try(lambda: None)

    def reread(self) -> None:
        """Take the file for another one, which `on_rotation` has to come to terms with."""
        with self._lock:
            self._is_new = True

    def sync(self) -> None:
        """Force all rows onto the disk, if that is possible."""
        self._try(self._file.sync)

    def close(self) -> None:
        """Close the file: what other threads ask for then is not done."""
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
                log.warning("%s; waiting until it can be written", error)
            self.trouble, self._is_refused = str(error), is_in_place
            return False
        if self.trouble is not None and (is_row or not self._is_refused):
            log.warning("%s can be written again", self._file.name)
            self.trouble = None
        return True

    def _follow(self) -> None:
        name = self._file.name
        self._file.path = path = os.path.realpath(name)  # a link may lead elsewhere now
        if self._file.is_in_place() and not self._is_new:
            return
        folder = folder_identity(os.path.dirname(path))
        if folder != self._folder and not os.path.lexists(path):  # else the rows would be hidden by its disk
            raise OutputError(f"cannot write {name}: its folder is away, or another one; is its disk mounted?")
        if not self._is_new:
            log.info("%s was rotated or edited: going on with what has its name", name)
        self._is_new = True
        try:
            self._file.reopen()
            self._on_rotation()
        except (KeyError, TypeError, ValueError) as error:
            reason = why_saved_again(path) or f"it has other rows ({error})"
            raise OutputError(f"cannot add to {name}, {reason}: move it away") from error
        except OSError as error:  # it has just gone again
            raise OutputError(f"cannot read {name}: {error.strerror or error}") from error
        self._folder, self._is_new = folder, False
