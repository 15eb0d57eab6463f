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
from dataclasses import dataclass

from dinoclassify.discovery.location import absolute_path
from dinoclassify.discovery.seen import Seen, seen_in
from dinoclassify.storage.signature import Identity, folder_identity, same_signature
from dinoclassify.types.prediction import Row
from dinoclassify.types.source import Signature, Source

log = logging.getLogger(__name__)

PAUSE = 1.0  # seconds between two looks, at least
SETTLED = 2.0  # seconds for which a file has not changed when it is taken for complete
FIRST_RETRY, LAST_RETRY = 10.0, 3600.0  # seconds until an image is tried again, which double each time
_IDLE = 4  # times as long as a look takes nothing is done after it: a large tree costs a fifth of a processor
_PASSING = frozenset({"unreadable", "timeout", "out_of_memory"})  # failures that may pass by themselves


@dataclass(frozen=True, slots=True)
class _State:
    """What a file is like: its size in bytes, and when its content, or anything about it, has changed last."""

    size: int
    mtime_ns: int
    ctime_ns: int

    @property
    def signature(self) -> Signature:
        return self.size, self.mtime_ns


@dataclass(frozen=True, slots=True)
class _Retry:
    """When an image that has failed is tried again: after a pause in seconds, at a time of the monotonic clock.

    ``ctime_ns`` is that of the file when it was tried last, if that is known.
    """

    ctime_ns: int | None = None
    pause: float = 0.0
    at: float = 0.0


class _UnreadableFolderError(PermissionError):
    """A folder cannot be listed."""


class Watch:
    """The images that are in some folders and those that come, each with its last row.

    One thread asks for `sources` while another tells of their rows, with `is_news` and `note`.

    Args:
        look: finds the images that are there now.
        roots: the folders in which ``look`` looks.
        seen: the last row of each image that has one, by absolute path; kept up to date.
        identities: which folders the roots were when images were last in them, by absolute path; kept up to date.
    """

    def __init__(
        self,
        look: Callable[[], Iterator[Source]],
        roots: Sequence[str] = (),
        seen: dict[str, Seen] | None = None,
        identities: dict[str, Identity] | None = None,
    ) -> None:
        self._look, self._folder = look, os.getcwd()
        self._roots = {root: absolute_path(root, self._folder) for root in roots}
        self._settling: dict[str, tuple[_State, float]] = {}  # what may not be complete, and since when it is so
        self._given: dict[str, _State] = {}  # what has no row yet, as it was when it was given
        self._retries: dict[str, _Retry] = {}  # of images that have failed in this run
        self.unreachable: dict[str, str] = {}  # folders, and why what is in them cannot be looked at
        self._present: set[str] | None = None  # the images that the last look has found; None before the first
        self._finding: set[str] = set()  # those that this look has found so far
        self.seen = {} if seen is None else seen
        self.identities = {} if identities is None else identities
        self.away: dict[str, str] = {}  # roots whose disk seems to be away, and what shows it

    @property
    def waiting(self) -> int:
        """How many images are to get a row: those that may not be complete, and those that are being labelled."""
        return len(self._settling.keys() | self._given.keys())

    @property
    def is_idle(self) -> bool:
        """Whether no image is being labelled."""
        return not self._given

    def sources(self, rest: Callable[[float], None], beat: Callable[[], None] = lambda: None) -> Iterator[Source]:
        """Each image that has no row as soon as it seems complete; and again if it changes, or may do better now.

        Args:
            rest: called after each look at the folders, with the seconds until the next.
            beat: called for each image in a look.
        """
        while True:
            started, busy = time.monotonic(), 0.0
            for source in self._find(started, beat):
                left = time.monotonic()
                yield source
                busy += time.monotonic() - left
            rest(max(PAUSE, _IDLE * (time.monotonic() - started - busy)))

    def key(self, path: str) -> str:
        """The absolute path of an image."""
        return absolute_path(path, self._folder)

    def is_news(self, row: Row) -> bool:
        """Whether a row says something that the last row of its image does not. An image that has gone needs no row."""
        if row.failure is not None and row.failure.code == "vanished":
            return False
        last, now = self.seen.get(self.key(row.path)), self.seen_in(row)
        if last is None or (last.status, last.error_code) != (now.status, now.error_code):
            return True
        return not same_signature(last.signature, now.signature)

    def note(self, row: Row) -> None:
        """Take a row that was written, or is no news, for the last one of its image."""
        file = self.key(row.path)
        last = self.seen.get(file)
        if self.is_news(row):
            self.seen[file] = self.seen_in(row)
        if row.failure is None or row.failure.code == "vanished":
            self._retries.pop(file, None)
        else:
            is_same = last is not None and last.error_code == row.failure.code and file in self._retries
            pause = min(2 * self._retries[file].pause, LAST_RETRY) if is_same else FIRST_RETRY
            state = self._given.get(file)
            self._retries[file] = _Retry(state.ctime_ns if state else None, pause, time.monotonic() + pause)
        self._given.pop(file, None)  # only now: a look in between must not give it again

    def is_retry(self, path: str) -> bool:
        """Whether an image that was given has a row already, and has not changed since."""
        last, state = self.seen.get(self.key(path)), self._given.get(self.key(path))
        return last is not None and state is not None and same_signature(last.signature, state.signature)

    def forget_absent(self) -> list[Seen]:
        """Forget the images that have gone, and give their last rows: if one comes again, it is a new one.

        What is below a root that is away, or cannot be looked at, has not gone.
        """
        if self._present is None:
            return []
        present = self._present | self._finding | self._given.keys()
        hidden = tuple(os.path.join(self.key(path), "") for path in (*self.away, *self.unreachable))
        absent = [file for file in list(self.seen) if file not in present and not file.startswith(hidden)]
        for file in absent:
            self._retries.pop(file, None)
        return [self.seen.pop(file) for file in absent]

    def seen_in(self, row: Row) -> Seen:
        """What a row says of its image, which was given."""
        state = self._given.get(self.key(row.path))
        return seen_in(row, state.signature if state is not None else (None, None))

    def _find(self, now: float, beat: Callable[[], None]) -> Iterator[Source]:
        """Look once: give what seems complete, and note what may not be, what is out of reach, and which roots are."""
        folders = {root: folder_identity(path) for root, path in self._roots.items()}
        settling: dict[str, tuple[_State, float]] = {}
        unreachable: dict[str, str] = {}
        present = self._finding = set()
        for source in self._look():
            beat()
            file = self.key(source.path)
            try:
                state = _state(file, ask_server=file in self._settling)
            except OSError as error:  # it, or what is in it, may be there all the same
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
                self._given[file] = state
                yield source
            else:
                settling[file] = state, since
        self._settling = settling
        self._note_unreachable(unreachable)
        self._note_away(folders)
        if all(folder_identity(path) == folders[root] for root, path in self._roots.items()):
            self._present = present  # else a disk has come or gone meanwhile, and some images were not found

    def _needs_row(self, file: str, state: _State, now: float) -> bool:
        """Whether an image has no row, or has changed since, or has failed in a way that may have passed.

        It may also have passed with a change of mode or owner, which shows in ctime alone.
        """
        if file in self._given:
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
        """Say once for each time that what is in a folder is out of reach; a root is told of elsewhere."""
        for folder in unreachable.keys() - self.unreachable.keys():
            log.warning("cannot look at what is in %s: %s", folder or ".", unreachable[folder])
        self.unreachable = unreachable

    def _note_away(self, before: Mapping[str, Identity | None]) -> None:
        """Find out which roots are away, and say so once for each time."""
        away = {root: why for root in self._roots if (why := self._why_away(root, before[root])) is not None}
        for root, why in away.items():
            if root not in self.away:
                log.warning("%s %s: waiting for its disk", root, why)
        for root in self.away:
            if root not in away:
                log.warning("%s is there again", root)
        self.away = away

    def _why_away(self, root: str, before: Identity | None) -> str | None:
        """What shows that the disk of a root is away; None if nothing does.

        Args:
            root: a root.
            before: which folder it was when this look began.
        """
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
        return "is empty, and not the folder that it was" if is_another else None


def _state(path: str, *, ask_server: bool) -> _State | None:
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
        raise _UnreadableFolderError(errno.EACCES, os.strerror(errno.EACCES))
    if not stat.S_ISREG(status.st_mode):
        return None
    return _State(status.st_size, status.st_mtime_ns, status.st_ctime_ns)
