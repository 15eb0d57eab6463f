"""One run at a time writes a file."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from filelock import FileLock, Timeout

from dinoclassify.errors import LockedError, OutputError
from dinoclassify.files import reporting, sweep

log = logging.getLogger(__name__)


def lock_of(path: str) -> str:
    """The file that is locked while ``path`` is written: hidden beside it, under a name that nobody else gives."""
    folder, name = os.path.split(os.path.realpath(path))
    return os.path.join(folder, f".{name}.dinoclassify.lock")


@contextmanager
def locked(path: str, *, wait: bool) -> Iterator[None]:
    """Keep other runs from writing ``path``, and remove what killed ones have left of it.

    The kernel gives the lock back if this process dies.

    Raises:
        LockedError: another run writes it; with ``wait`` it is waited for instead.
        OutputError: the lock cannot be made.
    """
    name = lock_of(path)
    lock = FileLock(name)
    with reporting(name):
        if os.path.islink(name):
            raise OutputError(f"cannot lock {path}: {name} is a link; remove it")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not wait:
                raise LockedError(f"another run is writing {path}: --wait waits for it") from None
            log.warning("waiting for another run, which is writing %s", path)
            lock.acquire()
    try:
        sweep(path)
        yield
    finally:
        with suppress(OSError):
            os.unlink(name)  # while it is held; whoever waits for it sees that it has gone
        lock.release()
