"""Temporaries that killed runs have left beside sidecars.

Another run may be writing at the same time. What it writes is there for a moment only, so that an old one is of no run.
"""

import logging
import os
import stat
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache

from dinoclassify.storage.atomic import is_temporary, temporary_prefix

log = logging.getLogger(__name__)

_LONG = 60.0  # seconds in which a sidecar is written, on a slow disk too
_FOLDERS = 8  # whose temporaries are in memory


def leftover_remover() -> Callable[[str], bool]:
    """A function that removes the old temporaries of a sidecar, and tells whether there were any.

    The name of the sidecar is free of links. A folder is listed once, if no more than eight others come between.
    """
    by_prefix = lru_cache(_FOLDERS)(_old_by_prefix)

    def remove(sidecar: str) -> bool:
        removed = False
        if found := by_prefix(os.path.dirname(sidecar)):  # as is seldom
            for path in found.get(temporary_prefix(sidecar), ()):
                with suppress(OSError):
                    os.unlink(path)
                    log.info("removed %s, which a killed run has left", path)
                    removed = True
        return removed

    return remove


def _old_by_prefix(folder: str) -> Mapping[str, Sequence[str]]:
    """The old temporaries in a folder, by how the names of those of one file begin."""
    found = defaultdict(list)
    with suppress(OSError, ValueError), os.scandir(folder) as entries:
        for entry in entries:
            if is_temporary(entry.name) and _is_old(entry.path):
                found[f"{entry.name.partition('-')[0]}-"].append(entry.path)
    return found


def _is_old(path: str) -> bool:
    try:
        status = os.lstat(path)
    except OSError:  # another run has put it in its place
        return False
    return stat.S_ISREG(status.st_mode) and time.time() - status.st_mtime > _LONG
