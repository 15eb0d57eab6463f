"""One file -> its target, by a copy, a move or a link that never replaces another file.

Whenever a run is killed, the target is complete or missing, and no file is lost. A copy has a temporary name, which is
in the journal, until it is complete. Some file systems do not keep the exact time, mode and owner of a file that is
moved there: these attributes are restored when it is moved back.
"""

import errno
import filecmp
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Literal

from dinoclassify.storage.atomic import fsync_path
from dinoclassify.storage.rename import rename_to_free
from dinoclassify.types.source import Signature

Mode = Literal["copy", "move", "symlink", "hardlink"]
FileIdentity = tuple[int, int]  # inode and ctime_ns of a file
Rights = tuple[int, int, int]  # mode, owner and group of a file

_UNFINISHED = re.compile(r"\.dinoclassify-[0-9a-f]{16}\.new")
_NO_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}
_ACCESS = stat.S_IRWXU | stat.S_IRWXG | stat.S_IRWXO  # the only bits of a mode that are restored: never setuid
_COARSEST = 2_000_000_000  # ns; FAT stores even seconds only


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


TRANSFERS: Mapping[Mode, Callable[[str, str, str], None]] = {
    "copy": copy,
    "move": move,
    "symlink": lambda source, target, _: os.symlink(source, target),
    "hardlink": lambda source, target, _: os.link(os.path.realpath(source), target),
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
        return os.path.samefile(path, other) or _equal(path, other)
    except OSError:
        return False


def _equal(path: str, other: str) -> bool:
    """Whether two files have the same content now. filecmp remembers results as long as sizes and times stay."""
    filecmp.clear_cache()
    return filecmp.cmp(path, other, shallow=False)


def identity(path: str) -> FileIdentity:
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
    if not _equal(source, temp_path):
        raise OSError(errno.EIO, "the copy is not the same", temp_path)


def _forget_cached(path: str) -> None:
    """Drop a file from the cache of the system, where possible, so that it is read from the disk next."""
    if hasattr(os, "posix_fadvise"):
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def rights_of(path: str) -> Rights:
    """The mode, owner and group of a file; raises OSError if there is none."""
    status = os.lstat(path)
    return stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid


def restore(path: str, signature: Signature, rights: Rights | None, *, is_own: bool = True) -> None:
    """Give a file its earlier time and rights, as far as this user and the file system can; links stay as they are.

    A file that was edited since keeps its time. Unless ``is_own``, others recorded its rights: then it keeps its owner,
    and its mode only gets stricter.
    """
    with suppress(OSError):
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            _restore(file, signature, rights, is_own=is_own)
        finally:
            os.close(file)


def _restore(file: int, signature: Signature, rights: Rights | None, *, is_own: bool) -> None:
    status = os.fstat(file)
    missing = _missing(status, signature, rights)
    if not stat.S_ISREG(status.st_mode):
        return
    if rights is not None and "owners" in missing and is_own:
        for owner in (rights[1], -1):  # only root may give files away
            with suppress(OSError):
                os.fchown(file, owner, rights[2])
                break
    if rights is not None and "modes" in missing:
        with suppress(OSError):
            os.fchmod(file, rights[0] & (_ACCESS if is_own else status.st_mode & _ACCESS))
    if "exact times" in missing and signature[1] is not None:
        with suppress(OSError):
            os.utime(file, ns=(status.st_atime_ns, signature[1]))


def lost(path: str, signature: Signature, rights: Rights | None) -> list[str]:
    """Which attributes of a file are no longer what they were: ``exact times``, ``modes``, ``owners``."""
    try:
        return _missing(os.lstat(path), signature, rights)
    except OSError:  # the file is gone
        return []


def _missing(status: os.stat_result, signature: Signature, rights: Rights | None) -> list[str]:
    missing = ["exact times"] if _is_rounded(status, signature) else []
    if rights is not None:
        mode, *owner_and_group = rights
        missing += ["modes"] if (status.st_mode ^ mode) & _ACCESS else []
        missing += ["owners"] if [status.st_uid, status.st_gid] != owner_and_group else []
    return missing


def _is_rounded(status: os.stat_result, signature: Signature) -> bool:
    """Whether the time of a file differs by so little that a file system must have rounded it."""
    size, mtime_ns = signature
    return mtime_ns is not None and status.st_size == size and 0 < abs(status.st_mtime_ns - mtime_ns) <= _COARSEST
