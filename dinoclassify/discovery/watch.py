"""Folders into which images are dropped -> an endless stream of `Source`.

The folders are polled, which works on every file system, also when another machine writes to it.
"""

import errno
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from dinoclassify.discovery.location import absolute_path
from dinoclassify.discovery.seen import Seen, seen_in
from dinoclassify.storage.signature import FolderIdentity, folder_identity, same_signature
from dinoclassify.types.prediction import Row
from dinoclassify.types.source import Signature, Source

log = logging.getLogger(__name__)

PAUSE = 1.0  # seconds between two polls, at least
SETTLED = 2.0  # seconds without a change after which a file counts as complete
FIRST_RETRY, LAST_RETRY = 10.0, 3600.0  # seconds until a failed image is tried again; they double each time
_IDLE = 4  # the pause after a poll is this many times as long as the poll: a large tree uses a fifth of a processor
_PASSING = frozenset({"unreadable", "timeout", "out_of_memory"})  # failures that may pass by themselves


@dataclass(frozen=True, slots=True)
class _State:
    """The state of a file: its size in bytes, and when its content, or anything about it, last changed."""

    size: int
    mtime_ns: int
    ctime_ns: int

    @property
    def signature(self) -> Signature:
        return self.size, self.mtime_ns


@dataclass(frozen=True, slots=True)
class _Retry:
    """The next try of a failed image: ``pause`` seconds after the last one, ``at`` a time of the monotonic clock."""

    ctime_ns: int | None = None
    pause: float = 0.0
    at: float = 0.0


class _UnreadableFolderError(PermissionError):
    """A folder cannot be listed."""


class Watch:
    """The images that ``list_images`` finds in the folders ``roots`` now and later, each with its last row.

    One thread iterates over `sources` while another reports their rows, with `is_new_result` and `note`. ``seen`` has
    the last row of each image that has one, ``identities`` the identity each root had when it last contained images.
    Both are by absolute path, and are updated.
    """

    def __init__(
        self,
        list_images: Callable[[], Iterator[Source]],
        roots: Sequence[str] = (),
        seen: dict[str, Seen] | None = None,
        identities: dict[str, FolderIdentity] | None = None,
    ) -> None:
        self._list_images, self._folder = list_images, os.getcwd()
        self._roots = {root: absolute_path(root, self._folder) for root in roots}
        self._settling: dict[str, tuple[_State, float]] = {}  # files that may be incomplete, and the time of that state
        self._pending: dict[str, _State] = {}  # images without a row yet, and their state when they were yielded
        self._retries: dict[str, _Retry] = {}  # of images that failed in this run
        self.unreachable: dict[str, str] = {}  # folders whose files cannot be looked at, and why
        self._present: set[str] | None = None  # the images of the last poll; None before the first
        self._finding: set[str] = set()  # the images of this poll so far
        self.seen = {} if seen is None else seen
        self.identities = {} if identities is None else identities
        self.away: dict[str, str] = {}  # roots whose disk seems unmounted -> why

    @property
    def waiting(self) -> int:
        """The number of images that will get a row: those that may be incomplete, and those being labelled."""
        return len(self._settling.keys() | self._pending.keys())

    @property
    def is_idle(self) -> bool:
        """Whether no image is being labelled."""
        return not self._pending

    def sources(self, sleep: Callable[[float], None], on_image: Callable[[], None] = lambda: None) -> Iterator[Source]:
        """Each image without a row once it seems complete; and again if it changes, or if a failure may have passed.

        ``sleep`` is called after each poll, with the seconds until the next, ``on_image`` for each image of a poll.
        """
        while True:
            started, busy = time.monotonic(), 0.0
            for source in self._find(started, on_image):
                yielded_at = time.monotonic()
                yield source
                busy += time.monotonic() - yielded_at
            sleep(max(PAUSE, _IDLE * (time.monotonic() - started - busy)))

    def key(self, path: str) -> str:
        """The absolute path of an image."""
        return absolute_path(path, self._folder)

    def is_new_result(self, row: Row) -> bool:
        """Whether a row differs from the last row of its image. An image that has vanished needs no row."""
        if row.failure is not None and row.failure.code == "vanished":
            return False
        last, new = self.seen.get(self.key(row.path)), self.seen_in(row)
        if last is None or (last.status, last.error_code) != (new.status, new.error_code):
            return True
        return not same_signature(last.signature, new.signature)

    def note(self, row: Row) -> None:
        """Remember a row as the last of its image, once it is written or found to be no new result."""
        file = self.key(row.path)
        last = self.seen.get(file)
        if self.is_new_result(row):
            self.seen[file] = self.seen_in(row)
        if row.failure is None or row.failure.code == "vanished":
            self._retries.pop(file, None)
        else:
            is_same = last is not None and last.error_code == row.failure.code and file in self._retries
            pause = min(2 * self._retries[file].pause, LAST_RETRY) if is_same else FIRST_RETRY
            state = self._pending.get(file)
            self._retries[file] = _Retry(state.ctime_ns if state else None, pause, time.monotonic() + pause)
        self._pending.pop(file, None)  # at the end: a poll in between must not yield the image again

    def is_retry(self, path: str) -> bool:
        """Whether a pending image has a row already, and has not changed since."""
        last, state = self.seen.get(self.key(path)), self._pending.get(self.key(path))
        return last is not None and state is not None and same_signature(last.signature, state.signature)

    def forget_absent(self) -> list[Seen]:
        """Forget the images that are gone; returns their last rows. If one of them returns, it is a new image.

        An image below an unmounted root or an unreachable folder is not gone.
        """
        if self._present is None:
            return []
        present = self._present | self._finding | self._pending.keys()
        hidden = tuple(os.path.join(self.key(path), "") for path in (*self.away, *self.unreachable))
        absent = [file for file in list(self.seen) if file not in present and not file.startswith(hidden)]
        for file in absent:
            self._retries.pop(file, None)
        return [self.seen.pop(file) for file in absent]

    def seen_in(self, row: Row) -> Seen:
        """The summary of the row of a pending image."""
        state = self._pending.get(self.key(row.path))
        return seen_in(row, state.signature if state is not None else (None, None))

    def _find(self, now: float, on_image: Callable[[], None]) -> Iterator[Source]:
        """Poll once: yield the complete images; note incomplete ones, unreachable folders and unmounted roots."""
        folders = {root: folder_identity(path) for root, path in self._roots.items()}
        settling: dict[str, tuple[_State, float]] = {}
        unreachable: dict[str, str] = {}
        present = self._finding = set()
        for source in self._list_images():
            on_image()
            file = self.key(source.path)
            try:
                state = _state(file, ask_server=file in self._settling)
            except OSError as error:  # the file, or the files in the folder, may exist all the same
                folder = source.path if isinstance(error, _UnreadableFolderError) else os.path.dirname(source.path)
                unreachable[folder] = error.strerror or str(error)
                continue
            if state is None:
                continue
            present.add(file)
            if not self._needs_row(file, state, now):
                continue
            before, since = self._settling.get(file, (None, now))
            since = since if before == state else now
            if before is not None and now - since >= SETTLED:
                self._settling.pop(file, None)
                self._pending[file] = state
                yield source
            else:
                settling[file] = state, since
        self._settling = settling
        self._note_unreachable(unreachable)
        self._note_away(folders)
        if all(folder_identity(path) == folders[root] for root, path in self._roots.items()):
            self._present = present  # else a disk was mounted or unmounted meanwhile, and images may be missing

    def _needs_row(self, file: str, state: _State, now: float) -> bool:
        """Whether an image has no row, or changed after its row, or failed in a way that may have passed."""
        if file in self._pending:
            return False
        last = self.seen.get(file)
        if last is None or not same_signature(last.signature, state.signature):
            return True
        if last.error_code is None:
            return False
        retry = self._retries.get(file, _Retry())
        is_touched = retry.ctime_ns not in (None, state.ctime_ns)
        return is_touched or (last.error_code in _PASSING and now >= retry.at)

    def _note_unreachable(self, unreachable: dict[str, str]) -> None:
        """Warn once each time a folder becomes unreachable; for roots see `_note_away`."""
        for folder in unreachable.keys() - self.unreachable.keys():
            log.warning("cannot list %s: %s; its images wait", folder or ".", unreachable[folder])
        self.unreachable = unreachable

    def _note_away(self, before: Mapping[str, FolderIdentity | None]) -> None:
        """Find the roots that are unmounted, and warn once each time."""
        away = {root: why for root in self._roots if (why := self._why_away(root, before[root])) is not None}
        for root, why in away.items():
            if root not in self.away:
                log.warning("%s %s: waiting for its disk (dinoclassify guide watch)", root, why)
        for root in self.away:
            if root not in away:
                log.warning("%s is there again", root)
        self.away = away

    def _why_away(self, root: str, before: FolderIdentity | None) -> str | None:
        """The evidence that the disk of a root is unmounted; ``before`` is its identity when this poll began."""
        path = self._roots[root]
        identity = folder_identity(path)
        if identity is None:
            return "is not there"
        prefix = os.path.join(path, "")
        if any(file.startswith(prefix) for file in self._finding):
            if identity == before:
                self.identities[path] = identity
            return None
        is_another = identity != self.identities.get(path, identity)
        return "is empty, and another folder than before" if is_another else None


def _state(path: str, *, ask_server: bool) -> _State | None:
    """The state of a regular file; None if it does not exist or is not a regular file.

    ``ask_server``: open the file, because only then a network file system asks its server. Raises OSError if the file
    is unreachable, or a folder: the search yields a folder only if it cannot be read.
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
        raise _UnreadableFolderError(errno.EACCES, os.strerror(errno.EACCES))
    if not stat.S_ISREG(status.st_mode):
        return None
    return _State(status.st_size, status.st_mtime_ns, status.st_ctime_ns)
