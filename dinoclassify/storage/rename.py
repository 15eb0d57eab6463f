"""Renames that Python does not offer: exchange two names, and rename only to a free name."""

import ctypes
import errno
import os

_AT_FDCWD = -100  # from linux/fcntl.h
_NOREPLACE, _EXCHANGE = 1, 2  # of renameat2, from linux/fs.h
_UNABLE = {errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.ENOTSUP, errno.EMLINK}  # the system or file system cannot


def exchange(first: str, second: str) -> bool:
    """Exchange two names atomically; False if the system or the file system cannot."""
    return _renameat2(first, second, _EXCHANGE) == 0


def rename_to_free(path: str, target: str) -> None:
    """Rename a file, unless ``target`` exists: atomically if the system and the file system can.

    Otherwise the file has both names for a moment.

    Raises:
        FileExistsError: ``target`` exists.
        OSError: the file cannot be renamed; with ``EXDEV`` if ``target`` is on another file system.
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
            os.rename(path, target)  # on file systems without links: not safe from a concurrent rename
        else:
            try:
                os.unlink(path)
            except OSError:
                os.unlink(target)
                raise
    elif error:
        raise OSError(error, os.strerror(error), path, None, target)


def _renameat2(path: str, target: str, flag: int) -> int:
    """0, or the number of the error; `errno.ENOSYS` on systems other than Linux."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return errno.ENOSYS
    done: int = rename(_AT_FDCWD, os.fsencode(path), _AT_FDCWD, os.fsencode(target), flag)
    return 0 if done == 0 else ctypes.get_errno()
