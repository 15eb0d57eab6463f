"""Attributes that some file systems do not keep when a file is moved there: its exact time, mode and owner."""

import os
import stat
from contextlib import suppress

from dinoclassify.types.source import Signature

Rights = tuple[int, int, int]  # mode, owner and group of a file

_ACCESS = stat.S_IRWXU | stat.S_IRWXG | stat.S_IRWXO  # the only bits of a mode that are restored: never setuid
_COARSEST = 2_000_000_000  # ns; FAT stores even seconds only


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
