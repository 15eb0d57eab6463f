"""Temporary files that killed runs have left beside sidecars.

Another run may be writing at the same time. It keeps a temporary file for a moment only, so an old one is a leftover.
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

_LONGEST = 60.0  # seconds to write a sidecar, even on a slow disk
_FOLDERS = 8  # listings in memory


def leftover_remover() -> Callable[[str], bool]:
    """A function that removes the old temporary files of a sidecar, and returns whether there were any.

    The path of the sidecar must be free of links. A folder is listed again only after eight others.
    """
    by_prefix = lru_cache(_FOLDERS)(_old_by_prefix)

    def remove(sidecar: str) -> bool:
        """Remove the old temporary files of one sidecar."""
        removed = False
        if leftovers := by_prefix(os.path.dirname(sidecar)):  # rarely any
            for path in leftovers.get(temporary_prefix(sidecar), ()):
                with suppress(OSError):
                    os.unlink(path)
                    log.info("removed %s, which a killed run has left", path)
                    removed = True
        return removed

    return remove


def _old_by_prefix(folder: str) -> Mapping[str, Sequence[str]]:
    """The old temporary files in a folder, by the prefix that those of one file share."""
    leftovers = defaultdict(list)
    with suppress(OSError, ValueError), os.scandir(folder) as entries:
        for entry in entries:
            if is_temporary(entry.name) and _is_old(entry.path):
                leftovers[f"{entry.name.partition('-')[0]}-"].append(entry.path)
    return leftovers


def _is_old(path: str) -> bool:
    try:
        status = os.lstat(path)
    except OSError:  # another run has just renamed it
        return False
    return stat.S_ISREG(status.st_mode) and time.time() - status.st_mtime > _LONGEST
