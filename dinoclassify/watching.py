"""Folders into which images are dropped -> a stream of `Source` that does not end.

A folder is looked at again and again: that works on every file system, also where another machine writes.
"""

import errno
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress

from dinoclassify.files import same_signature
from dinoclassify.paths import absolute_path
from dinoclassify.rows import Row
from dinoclassify.seen import Seen, State, seen_in, signature_in
from dinoclassify.sources import Source

log = logging.getLogger(__name__)

PAUSE = 1.0  # seconds between two looks, at least
SETTLED = 2.0  # seconds for which a file has not changed when it is taken for complete
_Identity = tuple[int, int]  # the device and inode of a folder
_IDLE = 4  # times as long as a look takes nothing is done after it: a large tree costs a fifth of a processor


class Watch:
    """The images that are in some folders and those that come, each with its last row.

    One thread asks for `sources` while another tells of their rows, with `is_news` and `note`.

    Args:
        look: finds the images that are there now.
        seen: the last row of each image that has one, by absolute path; kept up to date.
        roots: the folders in which ``look`` looks.
        forget: an image that has gone is a new one when it comes again. Else it is the same, if it has not changed.
    """

    def __init__(
        self,
        look: Callable[[], Iterator[Source]],
        seen: dict[str, Seen],
        roots: Sequence[str] = (),
        *,
        forget: bool = False,
    ) -> None:
        self._look, self._forget = look, forget
        self._folder = os.getcwd()
        self._roots = {root: os.path.join(absolute_path(root, self._folder), "") for root in roots}
        self._identities: dict[str, _Identity] = {}  # which folders the roots were when images were last in them
        self._settling: dict[str, tuple[State, float]] = {}  # what may not be complete, and since when it is so
        self._given: dict[str, State] = {}  # what has no row yet, as it was when it was given
        self._unreachable: dict[str, str] = {}  # paths, and why they cannot be looked at
        self.seen = seen
        self.away: list[str] = []  # roots whose disk seems to be away

    @property
    def waiting(self) -> int:
        """How many images are to get a row: those that may not be complete, and those that are being labelled."""
        return len(self._settling) + len(self._given)

    @property
    def is_idle(self) -> bool:
        """Whether no image is being labelled."""
        return not self._given

    def sources(self, after_look: Callable[[], None] = lambda: None) -> Iterator[Source]:
        """Each image that has no row as soon as it seems complete; and again if it changes, or may do better now.

        ``after_look`` is called after each look at the folders.
        """
        while True:
            started, busy = time.monotonic(), 0.0
            for source in self._find(started):
                left = time.monotonic()
                yield source
                busy += time.monotonic() - left
            after_look()
            time.sleep(max(PAUSE, _IDLE * (time.monotonic() - started - busy)))

    def is_news(self, row: Row) -> bool:
        """Whether a row says something that the last row of its image does not."""
        file = absolute_path(row.path, self._folder)
        last, code = self.seen.get(file), row.failure.code if row.failure is not None else None
        if last is None or (last.status, last.error_code) != (row.status, code):
            return True
        return not same_signature(last.signature, signature_in(row, self._given.get(file)))

    def note(self, row: Row) -> Seen | None:
        """Take a row for the last one of its image; gives the one before it."""
        file, now = absolute_path(row.path, self._folder), time.monotonic()
        last, state = self.seen.get(file), self._given.get(file)
        self.seen[file] = last.followed_by(row, state, now) if last is not None else seen_in(row, state, now)
        self._given.pop(file, None)  # only now: a look in between must not give it again
        return last

    def _find(self, now: float) -> Iterator[Source]:
        """One look."""
        folders = {root: _identity(prefix) for root, prefix in self._roots.items()}
        settling: dict[str, tuple[State, float]] = {}
        unreachable: dict[str, str] = {}
        present: set[str] = set()
        for source in self._look():
            file = absolute_path(source.path, self._folder)
            try:
                state = _state(file, ask_server=file in self._settling)
            except OSError as error:  # it, or what is in it, may be there all the same
                unreachable[source.path] = error.strerror or str(error)
                continue
            if state is None:
                continue
            present.add(file)
            if not self._needs_row(file, state, now):
                continue
            before, since = self._settling.get(file, (None, now))
            since = since if before == state else now
            if before is not None and now - since >= SETTLED:
                self._given[file] = state
                yield source
            else:
                settling[file] = state, since
        self._settling = settling
        self._tell_unreachable(unreachable)
        self._find_away(present, folders)
        if self._forget and not self.away:
            self._forget_all_but(present)

    def _needs_row(self, file: str, state: State, now: float) -> bool:
        if file in self._given:
            return False
        last = self.seen.get(file)
        return last is None or last.is_outdated(state, now)

    def _forget_all_but(self, present: set[str]) -> None:
        hidden = [absolute_path(path, self._folder) for path in self._unreachable]
        for file in list(self.seen):
            below = any(file == path or file.startswith(f"{path}/") for path in hidden)
            if file not in present and not below:
                del self.seen[file]

    def _tell_unreachable(self, unreachable: dict[str, str]) -> None:
        for path in unreachable.keys() - self._unreachable.keys():
            log.warning("cannot look at %s: %s", path, unreachable[path])
        self._unreachable = unreachable

    def _find_away(self, present: set[str], before: Mapping[str, _Identity | None]) -> None:
        """Find out which roots are away, and say so once for each time."""
        away = [root for root in self._roots if self._is_away(root, present, before[root])]
        for root in away:
            if root not in self.away:
                log.warning("%s is away, or is another folder and empty: waiting for it; is its disk mounted?", root)
        for root in self.away:
            if root not in away:
                log.warning("%s is there again", root)
        self.away = away

    def _is_away(self, root: str, present: set[str], before: _Identity | None) -> bool:
        """Whether a root is no folder; or has no images, and is not the folder in which they were.

        Args:
            root: a root.
            present: the images that this look has found.
            before: which folder it was when the look began.
        """
        prefix = self._roots[root]
        identity = _identity(prefix)
        if identity is None:
            return True
        if any(path.startswith(prefix) for path in present):
            if identity == before:
                self._identities[root] = identity
            return False
        if root in self._identities:
            return identity != self._identities[root]
        if any(path.startswith(prefix) for path in list(self.seen)):
            return True  # there were some, in an earlier run
        self._identities[root] = identity
        return False


def _identity(folder: str) -> _Identity | None:
    """Which folder this is; None if it is none, or out of reach."""
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _state(path: str, *, ask_server: bool) -> State | None:
    """What a regular file is like; None of what is none, or is not there.

    ``ask_server``: open it, because a network file system asks its server only then.

    Raises:
        OSError: it is out of reach, or a folder, which is only found where it cannot be read.
    """
    try:
        status = os.stat(path)
        if ask_server and stat.S_ISREG(status.st_mode):
            with suppress(PermissionError), open(path, "rb") as file:
                status = os.fstat(file.fileno())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None
        raise
    if stat.S_ISDIR(status.st_mode):
        raise PermissionError(errno.EACCES, "its content cannot be read")
    if not stat.S_ISREG(status.st_mode):
        return None
    return State(status.st_size, status.st_mtime_ns, status.st_ctime_ns)
