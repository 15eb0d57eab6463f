"""Renames that Python has no function for: of two names at once, and only to a name that is free."""

import ctypes
import errno
import os

_AT_FDCWD = -100  # from linux/fcntl.h
_NOREPLACE, _EXCHANGE = 1, 2  # of renameat2, from linux/fs.h
_UNABLE = {errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.ENOTSUP, errno.EMLINK}  # of a system, or a file system


def exchange(one: str, other: str) -> bool:
    """Exchange two names at once, where the system and the file system can; gives whether it is done."""
    return _renameat2(one, other, _EXCHANGE) == 0


def rename_to_free(path: str, target: str) -> None:
    """Rename a file, unless there is something under that name: at once, where the system and the file system can.

    Elsewhere it has both names for a moment.

    Raises:
        FileExistsError: there is something.
        OSError: it cannot be done; with ``EXDEV`` if ``target`` is on another file system.
    """
    error = _renameat2(path, target, _NOREPLACE)
    if error in _UNABLE:
        try:
            os.link(path, target, follow_symlinks=False)
        except OSError as unable:
            if unable.errno not in _UNABLE:
                raise
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from unable
            os.rename(path, target)  # of file systems without links, and not safe from others who are as fast
        else:
            try:
                os.unlink(path)
            except OSError:
                os.unlink(target)
                raise
    elif error:
        raise OSError(error, os.strerror(error), path, None, target)


def _renameat2(path: str, target: str, flag: int) -> int:
    """0, or the number of the error; `errno.ENOSYS` where there is no such function."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)  # of Linux
    if rename is None:
        return errno.ENOSYS
    done: int = rename(_AT_FDCWD, os.fsencode(path), _AT_FDCWD, os.fsencode(target), flag)
    return 0 if done == 0 else ctypes.get_errno()
