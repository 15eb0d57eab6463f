"""One file -> its target, by a copy, a move or a link that never replaces another file.

Whenever a run is killed, the target is complete or missing, and no file is lost. A copy has a temporary name, which is
in the journal, until it is complete.
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
Identity = tuple[int, int]  # inode and ctime_ns of a file

_UNFINISHED = re.compile(r"\.dinoclassify-[0-9a-f]{16}\.new")
_NO_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}


def copy(source: str, target: str, temp_name: str) -> None:
    """Copy a file, with its times and rights."""
    _copy(source, target, os.path.join(os.path.dirname(target), temp_name), verify=False)


def move(source: str, target: str, temp_name: str, amend: Callable[[str], None] | None = None) -> None:
    """Move a file. To another file system it is copied, forced onto the disk and compared, and only then removed.

    ``amend`` is called with the path of the file, or of its copy on another file system, before it gets its new name.
    """
    if amend is not None:
        amend(source)
    try:
        rename_to_free(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        before = identity(source)
        _copy(source, target, os.path.join(os.path.dirname(target), temp_name), verify=True, amend=amend)
        try:
            if identity(source) != before:
                raise OSError(errno.EBUSY, "it has changed just now", source) from None
            os.unlink(source)
        except OSError:
            os.unlink(target)
            raise


def symlink(source: str, target: str, _temp_name: str) -> None:
    """Make a symbolic link to a file."""
    os.symlink(source, target)


def hardlink(source: str, target: str, _temp_name: str) -> None:
    """Give a file another name."""
    os.link(os.path.realpath(source), target)


TRANSFERS: Mapping[Mode, Callable[[str, str, str], None]] = {
    "copy": copy,
    "move": move,
    "symlink": symlink,
    "hardlink": hardlink,
}
"""Each takes a source, a target, and the name of an unfinished copy beside the target, see `unfinished_name`.

They raise FileExistsError if the target exists, and OSError if it cannot be made.
"""


def unfinished_name() -> str:
    """A name for an unfinished copy: hidden and random, so that no image has it."""
    return f".dinoclassify-{secrets.token_hex(8)}.new"


def is_unfinished(name: str) -> bool:
    """Whether `unfinished_name` may have given this name."""
    return _UNFINISHED.fullmatch(name) is not None


def same_content(path: str, other: str) -> bool:
    """Whether both paths are regular files with the same content; False if one cannot be read."""
    try:
        if not (os.path.isfile(path) and os.path.isfile(other)):
            return False
        return os.path.samefile(path, other) or filecmp.cmp(path, other, shallow=False)
    except OSError:
        return False


def identity(path: str) -> Identity:
    """What tells a file from another that gets the same path later; raises OSError if there is none."""
    status = os.lstat(path)
    return status.st_ino, status.st_ctime_ns


def remove(path: str) -> None:
    """Remove a file if it exists."""
    try:
        os.unlink(path)
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise


def _copy(
    source: str, target: str, temp_path: str, *, verify: bool, amend: Callable[[str], None] | None = None
) -> None:
    """Copy a file to a temporary path, and rename it. ``verify``: the content is on the disk, and the same there."""
    os.close(os.open(temp_path, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))  # readable by this user alone
    try:
        shutil.copy2(source, temp_path)
        if verify:
            _verify(source, temp_path, amend)
        rename_to_free(temp_path, target)
        if verify:
            fsync_path(os.path.dirname(target))
    except OSError:
        remove(temp_path)
        raise


def _verify(source: str, temp_path: str, amend: Callable[[str], None] | None) -> None:
    """Keep the owner of a copy, force it onto the disk, and check that it is the same there."""
    status = os.stat(source)
    with suppress(PermissionError):  # only root may give files away
        os.chown(temp_path, status.st_uid, status.st_gid)
    if amend is not None:
        amend(temp_path)
    fsync_path(temp_path)
    _forget_cached(temp_path)
    filecmp.clear_cache()
    if not filecmp.cmp(source, temp_path, shallow=False):
        raise OSError(errno.EIO, "the copy is not the same", temp_path)


def _forget_cached(path: str) -> None:
    """Drop a file from the cache of the system, where possible, so that it is read from the disk next."""
    if hasattr(os, "posix_fadvise"):
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
