"""How one image gets another place: by a copy, a move or a link, and never in the place of something else.

Whatever moment a run is killed at, the target is whole or it is not there, and the image is somewhere. Until a copy
is whole it has a name that nobody else gives, and that stands in the journal.
"""

import errno
import filecmp
import os
import re
import secrets
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Literal

from dinoclassify.storage.atomic import fsync_path
from dinoclassify.storage.rename import rename_to_free

Mode = Literal["copy", "move", "symlink", "hardlink"]
Identity = tuple[int, int]  # inode of a file, and when it or its rights last changed (ctime_ns)

_UNFINISHED = re.compile(r"\.dinoclassify-[0-9a-f]{16}\.new")
_NOTHING = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}  # there is no file, and cannot be


def copy(source: str, target: str, made: str) -> None:
    """Copy a file, with its times and rights."""
    _copy(source, target, os.path.join(os.path.dirname(target), made), for_good=False)


def move(source: str, target: str, made: str, amend: Callable[[str], None] | None = None) -> None:
    """Move a file. To another file system it is copied, forced onto the disk, compared, and only then removed.

    ``amend`` is given the file, or such a copy of it, before it has its new name.
    """
    if amend is not None:
        amend(source)
    try:
        rename_to_free(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        before = identity(source)
        _copy(source, target, os.path.join(os.path.dirname(target), made), for_good=True, amend=amend)
        try:
            if identity(source) != before:
                raise OSError(errno.EBUSY, "it has changed just now", source) from None
            os.unlink(source)
        except OSError:
            os.unlink(target)
            raise


def symlink(source: str, target: str, _made: str) -> None:
    """Make a symbolic link to a file."""
    os.symlink(source, target)


def hardlink(source: str, target: str, _made: str) -> None:
    """Give a file another name."""
    os.link(os.path.realpath(source), target)


TRANSFERS: Mapping[Mode, Callable[[str, str, str], None]] = {
    "copy": copy,
    "move": move,
    "symlink": symlink,
    "hardlink": hardlink,
}
"""Each takes a source, a target, and the name that an unfinished copy has beside the target, see `unfinished_name`.

They raise FileExistsError if there is something at the target, and OSError if it cannot be done.
"""


def unfinished_name() -> str:
    """A name for a copy that is not whole: hidden, and not to be guessed, so that no image is called so."""
    return f".dinoclassify-{secrets.token_hex(8)}.new"


def is_unfinished(name: str) -> bool:
    """Whether `unfinished_name` may have made the name."""
    return _UNFINISHED.fullmatch(name) is not None


def is_same(one: str, other: str) -> bool:
    """Whether two files have the same content. What is no file, or cannot be read, is not the same as anything."""
    try:
        if not (os.path.isfile(one) and os.path.isfile(other)):
            return False
        return os.path.samefile(one, other) or filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


def identity(path: str) -> Identity:
    """What no other file has that comes to the same path later.

    Raises:
        OSError: there is no such file.
    """
    status = os.lstat(path)
    return status.st_ino, status.st_ctime_ns


def remove(path: str) -> None:
    """Remove a file, if it is there."""
    try:
        os.unlink(path)
    except OSError as error:
        if error.errno not in _NOTHING:
            raise


def _copy(source: str, target: str, made: str, *, for_good: bool, amend: Callable[[str], None] | None = None) -> None:
    os.close(os.open(made, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))  # nobody else's
    try:
        shutil.copy2(source, made)
        if for_good:
            _settle(source, made, amend)
        rename_to_free(made, target)
        if for_good:
            fsync_path(os.path.dirname(target))
    except OSError:
        remove(made)
        raise


def _settle(source: str, made: str, amend: Callable[[str], None] | None) -> None:
    """Have a copy on the disk, with its owner, and see that it is the same there."""
    status = os.stat(source)
    with suppress(PermissionError):  # only root may give files away
        os.chown(made, status.st_uid, status.st_gid)
    if amend is not None:
        amend(made)
    fsync_path(made)
    _forget_cached(made)
    filecmp.clear_cache()
    if not filecmp.cmp(source, made, shallow=False):
        raise OSError(errno.EIO, "the copy is not the same", made)


def _forget_cached(path: str) -> None:
    """Have the next who reads a file read it from the disk, where the system can."""
    if hasattr(os, "posix_fadvise"):
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
