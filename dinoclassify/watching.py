"""A folder into which pictures are dropped -> a stream of `Source` that does not end.

The folder is looked at again and again: that works on every file system, also where another machine writes.
"""

import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping

from dinoclassify.discover import Source
from dinoclassify.files import Signature

PAUSE = 1.0  # seconds between two looks, at least
SETTLED = 2.0  # seconds for which a file has not changed when it is taken for complete
_IDLE = 4  # times as long as a look takes nothing is done after it: a large tree costs a fifth of a processor


def watch(look: Callable[[], Iterator[Source]], known: Mapping[str, Signature]) -> Iterator[Source]:
    """The pictures that are there and those that come, each as soon as it seems complete; and again if it changes.

    Args:
        look: finds what is there now.
        known: pictures that are not given unless they have changed, with the signatures that they had.
    """
    given = dict(known)
    growing: dict[str, tuple[Signature, float]] = {}  # what may not be complete, and since when it has not changed
    while True:
        started = time.monotonic()
        present: dict[str, Signature] = {}
        waiting: dict[str, tuple[Signature, float]] = {}
        out_of_reach = False
        for source in look():
            path = source.path
            now = _signature_on_server(path) if path in growing else _signature(path)
            if now is None:
                out_of_reach = True
            elif given.get(path) == now:
                present[path] = now
            elif path in growing and growing[path][0] == now and started - growing[path][1] >= SETTLED:
                present[path] = now
                yield source
            else:
                waiting[path] = growing[path] if path in growing and growing[path][0] == now else (now, started)
        # What has gone is forgotten, so that it is given if it comes again; but a server may only be out of reach.
        given = given | present if out_of_reach else present
        growing = waiting
        time.sleep(max(PAUSE, _IDLE * (time.monotonic() - started)))


def _signature(path: str) -> Signature | None:
    """Of a regular file; None of anything else, and of what is not there."""
    try:
        return _of(os.stat(path))
    except OSError:
        return None


def _signature_on_server(path: str) -> Signature | None:
    """The same, as the server of a network file system has it: that is asked when a file is opened, not before."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except PermissionError:
        return _signature(path)
    except OSError:
        return None
    try:
        return _of(os.fstat(descriptor))
    finally:
        os.close(descriptor)


def _of(status: os.stat_result) -> Signature | None:
    return (status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None
