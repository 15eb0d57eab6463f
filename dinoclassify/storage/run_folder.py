"""Temporary folders that live as long as the process that made them, however it ends."""

import atexit
import fcntl
import os
import re
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

_NAME = re.compile(r"dinoclassify-[^.]+\.run")


def new_run_folder() -> Path:
    """A new temporary folder, removed when this process ends; if it is killed, by the next one that needs a folder."""
    _sweep()
    while True:
        folder = Path(tempfile.mkdtemp(prefix="dinoclassify-", suffix=".run"))
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)  # open until this process ends
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # another process is removing it
            pass
        except OSError:  # without locks no process removes folders
            break
        else:
            if folder.exists():
                break
        os.close(descriptor)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _sweep() -> None:
    """Remove the temporary folders that killed processes of this user left."""
    with suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            if _NAME.fullmatch(entry.name) and entry.stat(follow_symlinks=False).st_uid == os.geteuid():
                with suppress(OSError):
                    _remove_if_unused(entry.path)


def _remove_if_unused(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)
