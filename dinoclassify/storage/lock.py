"""A lock for an output, so that only one run at a time writes it.

The kernel locks a file beside the output, and releases the lock if the process dies. Some file systems have no such
locks, or not for every host. There a claim replaces the lock: a second file that names the process. Each run writes its
name into the one file and then looks for the other, so that runs with a lock and runs with a claim exclude each other.
"""

import errno
import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from dinoclassify.errors import LockedError, OutputError
from dinoclassify.storage.atomic import as_output_errors, sweep

log = logging.getLogger(__name__)

NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP})  # errors of flock without locks

_GUIDE = " (dinoclassify guide resume)"
_LONGEST = 1024  # characters to read of a lock
_POLL = 0.2  # seconds between two tries to take a lock
_WORKERS_END = 10.0  # seconds for the workers of a killed run to end: they share its lock


@dataclass(frozen=True, slots=True)
class _Holder:
    """The process that holds a lock, if known, and the claim to remove if that process is dead.

    ``dead``: the process has ended, but its workers still hold the lock.
    """

    process: str | None
    claim: str | None = None
    dead: bool = False

    def __str__(self) -> str:
        ended = ", which has ended; a process that it started has not" if self.dead else ""
        return f" ({self.process}{ended})" if self.process is not None else ""


def lock_of(path: str) -> str:
    """The file to lock while ``path`` is written: a hidden file beside it, with a name that no other program uses."""
    folder, name = os.path.split(os.path.realpath(path))
    return os.path.join(folder, f".{name}.dinoclassify.lock")


@contextmanager
def locked(path: str, *, wait: bool) -> Iterator[None]:
    """Keep other runs from writing ``path``, and remove the temporary files that killed runs left.

    If another run writes it, ``wait`` for it or raise LockedError. Raises OutputError if the lock cannot be created.
    """
    name = lock_of(path)
    with ExitStack() as held:
        with as_output_errors(name):
            if os.path.islink(name):
                raise OutputError(f"cannot lock {path}: {name} is a link; remove it")
            if (holder := _take_after_workers_end(name, held)) is not None:
                cure = f"; if that run is dead, remove {holder.claim}{_GUIDE}" if holder.claim is not None else ""
                if not wait:
                    raise LockedError(f"another run is writing {path}{holder}: --wait waits for it{cure}")
                log.warning("waiting for another run%s, which is writing %s%s", holder, path, cure)
                while _take(name, held) is not None:
                    time.sleep(_POLL)
        sweep(path)
        yield


def flocked(name: str, *, wait: bool) -> int:
    """Lock a file; returns its descriptor. Closing that releases the lock.

    Raises BlockingIOError if another process holds the lock, unless ``wait``, and OSError if the file system has no
    locks, see `NO_LOCKS`, or the file cannot be opened.
    """
    while True:
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            _flock(descriptor, wait=wait)
            with suppress(FileNotFoundError):  # the file was removed meanwhile, and may have been replaced
                if os.path.samestat(os.fstat(descriptor), os.lstat(name)):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _flock(descriptor: int, *, wait: bool) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except PermissionError as error:  # NFS raises it on some systems
        raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK)) from error


def _take_after_workers_end(name: str, held: ExitStack) -> _Holder | None:
    """Like `_take`, but wait for the workers of a killed run to end, since it may be restarted at once."""
    end = time.monotonic() + _WORKERS_END
    while (holder := _take(name, held)) is not None and holder.dead and time.monotonic() < end:
        time.sleep(_POLL)
    return holder


def _take(name: str, held: ExitStack) -> _Holder | None:
    """Hold the lock until ``held`` is closed; returns the holder if another process has it."""
    claim = f"{name.removesuffix('.lock')}.claim"
    with ExitStack() as taken:
        try:
            descriptor = flocked(name, wait=False)
        except BlockingIOError:
            record = _record(name)
            return _Holder(_process_in(name), dead=record is not None and _is_dead(*record))
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            if (holder := _take_claim(name, claim, taken)) is not None:
                return holder
        else:
            taken.callback(os.close, descriptor)
            taken.callback(_remove, name)  # while locked; waiting processes notice the removal
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n{socket.gethostname()}\n".encode(), 0)
            if os.path.lexists(claim):
                with ExitStack() as probe:
                    if (holder := _make_claim(claim, probe)) is not None:
                        return holder
        held.enter_context(taken.pop_all())
    return None


def _take_claim(name: str, claim: str, taken: ExitStack) -> _Holder | None:
    """Claim a file that cannot be locked here, unless a process elsewhere may be alive and hold the lock."""
    if (holder := _make_claim(claim, taken)) is not None:
        return holder
    if (record := _record(name)) is not None and not _is_dead(*record):
        return _Holder(_process_in(name), name)
    _remove(name)  # no process holds it
    return None


def _make_claim(claim: str, taken: ExitStack) -> _Holder | None:
    """Create the claim, replacing one of a dead process of this host; returns the holder if another process has it."""
    from filelock import SoftFileLock, Timeout  # slow to import, and seldom needed

    lock = SoftFileLock(claim, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return _Holder(_process_in(claim), claim)
    taken.callback(lock.release)
    return None


def _process_in(name: str) -> str | None:
    """The text that names the process of a lock or a claim."""
    record = _record(name)
    return f"process {record[0]} on {record[1]}" if record is not None else None


def _record(name: str) -> tuple[int, str] | None:
    """The process number and host in a lock or a claim; None if it cannot be read."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, encoding="utf-8", errors="replace") as file:
            number, host = file.read(_LONGEST).splitlines()[:2]
            return int(number), host
    except (OSError, ValueError):
        return None


def _is_dead(number: int, host: str) -> bool:
    """Whether a process of this host has ended; False for other hosts, whose processes cannot be seen."""
    if host != socket.gethostname():
        return False
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    except OSError:  # the process belongs to another user
        return False
    try:
        with open(f"/proc/{number}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] == b"Z"  # a zombie, not yet reaped
    except OSError:
        return False


def _remove(name: str) -> None:
    with suppress(OSError):
        os.unlink(name)
