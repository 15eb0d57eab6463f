"""A folder into which pictures are dropped -> a stream of `Source` that does not end.

The folder is looked at again and again: that works on every file system, also where another machine writes.
"""

import errno
import logging
import os
import stat
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress

from dinoclassify.files import Signature
from dinoclassify.paths import absolute_path
from dinoclassify.sources import Source

log = logging.getLogger(__name__)

PAUSE = 1.0  # seconds between two looks, at least
SETTLED = 2.0  # seconds for which a file has not changed when it is taken for complete
_IDLE = 4  # times as long as a look takes nothing is done after it: a large tree costs a fifth of a processor


def watch(
    look: Callable[[], Iterator[Source]], known: Mapping[str, Signature], folders: Collection[str] = ()
) -> Iterator[Source]:
    """The pictures that are there and those that come, each as soon as it seems complete; and again if it changes.

    What has gone is forgotten, and is a new picture if it comes again.

    Args:
        look: finds what is there now.
        known: the signatures of pictures, by absolute path, that are not given unless they have changed.
        folders: where ``look`` looks: while one of them is away, as a server may be, nothing is forgotten.
    """
    given, folder = dict(known), os.getcwd()
    growing: dict[str, tuple[Signature, float]] = {}  # what may not be complete, and since when it has not changed
    while True:
        started, busy = time.monotonic(), 0.0
        if all(map(os.path.isdir, folders)):
            present: dict[str, Signature] = {}
            waiting: dict[str, tuple[Signature, float]] = {}
            for source in look():
                file = absolute_path(source.path, folder)
                try:
                    now = _signature(file, ask_server=file in growing)
                except OSError as error:  # it, or what is in it, may be there all the same
                    log.warning("cannot look at %s: %s", source.path, error.strerror)
                    present |= _at_or_below(file, given)
                    continue
                if now is None:
                    continue
                since = growing[file][1] if file in growing and growing[file][0] == now else started
                if given.get(file) == now:
                    present[file] = now
                elif file in growing and started - since >= SETTLED:
                    present[file] = now
                    left = time.monotonic()
                    yield source
                    busy += time.monotonic() - left
                else:
                    waiting[file] = now, since
            given, growing = present, waiting
        time.sleep(max(PAUSE, _IDLE * (time.monotonic() - started - busy)))


def _at_or_below(path: str, given: Mapping[str, Signature]) -> dict[str, Signature]:
    """What is known of a picture, or of those in a folder."""
    if path in given:
        return {path: given[path]}
    return {below: known for below, known in given.items() if below.startswith(f"{path}/")}


def _signature(path: str, *, ask_server: bool) -> Signature | None:
    """Of a regular file; None of what is none, or is not there.

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
    return (status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None
