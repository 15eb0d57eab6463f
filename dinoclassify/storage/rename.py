"""Renames that Python does not offer: exchange two names, take only a free name, replace a whole folder at once."""

import ctypes
import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from dinoclassify.storage.atomic import as_output_errors, fsync_path, sweep, temporary_name

_AT_FDCWD = -100  # from linux/fcntl.h
_NOREPLACE, _EXCHANGE = 1, 2  # of renameat2, from linux/fs.h
# The system or the file system cannot.
_UNSUPPORTED = {errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.ENOTSUP, errno.EMLINK}


def exchange(first: str, second: str) -> bool:
    """Exchange two names atomically; False if the system or the file system cannot."""
    return _renameat2(first, second, _EXCHANGE) == 0


def rename_to_free(path: str, target: str) -> None:
    """Rename a file, or raise FileExistsError: atomically if the system can, else it has both names for a moment.

    Other errors are an OSError, with ``EXDEV`` if ``target`` is on another file system.
    """
    error = _renameat2(path, target, _NOREPLACE)
    if error in _UNSUPPORTED:
        try:
            os.link(path, target, follow_symlinks=False)
        except OSError as link_error:
            if link_error.errno not in _UNSUPPORTED:
                raise
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from link_error
            os.rename(path, target)  # on file systems without links: not safe from a concurrent rename
        else:
            try:
                os.unlink(path)
            except OSError:
                os.unlink(target)
                raise
    elif error:
        raise OSError(error, os.strerror(error), path, None, target)


@contextmanager
def replacing_folder(folder: str) -> Iterator[str]:
    """Yield a new folder, which takes the name ``folder`` if the block succeeds; otherwise ``folder`` does not change.

    Until then it has an unguessable name beside ``folder``. Only one process may do this at a time. Raises OutputError
    if it cannot be written.
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

    Where the system cannot exchange two names, that folder has the name ``aside`` for a moment, and keeps it if the
    process is killed then: rename it back to ``path``, if nothing has that name. After an OSError ``path`` is as it
    was.
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


def _renameat2(path: str, target: str, flag: int) -> int:
    """0, or the number of the error; `errno.ENOSYS` on systems other than Linux."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return errno.ENOSYS
    done: int = rename(_AT_FDCWD, os.fsencode(path), _AT_FDCWD, os.fsencode(target), flag)
    return 0 if done == 0 else ctypes.get_errno()
