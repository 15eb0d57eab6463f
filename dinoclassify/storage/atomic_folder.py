"""Folders that take their name at once, when they are whole."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from dinoclassify.storage.atomic import as_output_errors, fsync_path, sweep, temporary_name
from dinoclassify.storage.rename import exchange


@contextmanager
def replacing_folder(folder: str) -> Iterator[str]:
    """Yield a new folder, which takes the name ``folder`` when the block ends well; otherwise ``folder`` stays.

    Until then it stands beside ``folder``, under a name that nobody can guess. Only one process may do this at a time.

    Raises:
        OutputError: it cannot be written.
    """
    path = os.path.realpath(folder)  # a link stays one
    above, name = os.path.split(path)
    temporary, aside = temporary_name(path), os.path.join(above, f".{name}.dinoclassify.old")
    with as_output_errors(folder):
        if os.path.lexists(aside) and not os.path.lexists(path):  # left by a killed run, like all that `sweep` removes
            os.rename(aside, path)
        shutil.rmtree(aside, ignore_errors=True)
        sweep(path)
        try:
            os.mkdir(temporary)
            yield temporary
            for file in os.listdir(temporary):
                fsync_path(os.path.join(temporary, file))
            put_folder_in_place(temporary, path, aside)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)  # unfinished, or the replaced folder


def put_folder_in_place(new: str, path: str, aside: str) -> None:
    """Give the folder ``new`` the name ``path``. A folder of that name gets the name ``new``.

    Where the system cannot exchange two names, that folder is called ``aside`` for a moment, and is still so called
    after a kill: then rename it back to ``path``, if nothing has that name.

    Raises:
        OSError: a folder cannot be renamed; ``path`` stays as it was.
    """
    fsync_path(new)
    if not os.path.lexists(path):
        os.rename(new, path)
    elif not exchange(new, path):
        os.rename(path, aside)
        try:
            os.rename(new, path)
        finally:
            os.rename(aside, new if os.path.lexists(path) else path)
    fsync_path(os.path.dirname(path))
