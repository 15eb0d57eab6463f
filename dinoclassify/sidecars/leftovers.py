"""Temporaries that killed runs have left beside sidecars.

Another run may be writing at the same time. What it writes is there for a moment only, so that what stays is of no run.
"""

import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache

from dinoclassify.files import is_temporary, temporary_prefix

log = logging.getLogger(__name__)

_LONG = 10.0  # seconds in which a sidecar is written, on a slow disk too
_FOLDERS = 8  # whose temporaries are in memory


class Leftovers:
    """Those beside the sidecars of a run.

    A folder is listed once, as long as no more than eight others come between.
    """

    def __init__(self) -> None:
        self._seen: dict[str, float] = {}  # paths, with the time at which they were seen first
        self._in: Callable[[str], Mapping[str, Sequence[str]]] = lru_cache(_FOLDERS)(_by_prefix)

    def look(self, sidecar: str) -> None:
        """Look for those of a sidecar, whose name is free of links."""
        found = self._in(os.path.dirname(sidecar))
        for path in found.get(temporary_prefix(sidecar), ()) if found else ():
            self._seen.setdefault(path, time.monotonic())

    def remove(self) -> list[str]:
        """Remove those that are still there after so long as no run needs, and give them."""
        removed, waited = [], False
        for path, seen in self._seen.items():
            while os.path.lexists(path) and (rest := seen + _LONG - time.monotonic()) > 0:
                if not waited:
                    log.warning("waiting for some seconds, in case another run is writing %s", path)
                waited = True
                time.sleep(min(rest, 0.1))
            with suppress(OSError):
                os.unlink(path)
                log.info("removed %s, which a killed run has left", path)
                removed.append(path)
        return removed


def _by_prefix(folder: str) -> Mapping[str, Sequence[str]]:
    """The temporaries in a folder, by how the names of those of one file begin."""
    found = defaultdict(list)
    with suppress(OSError, ValueError), os.scandir(folder) as entries:
        for entry in entries:
            if is_temporary(entry.name) and entry.is_file(follow_symlinks=False):
                found[f"{entry.name.partition('-')[0]}-"].append(entry.path)
    return found
