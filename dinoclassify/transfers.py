"""How one picture gets another place: by a copy, a move or a link, and never in the place of something else.

Whatever moment a run is killed at, the target is whole or it is not there, and the picture is somewhere. What was not
done by then under a name of our own is found, because that name follows from the target's.
"""

import errno
import filecmp
import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Literal

from dinoclassify.files import settle
from dinoclassify.renames import rename_to_free

Mode = Literal["copy", "move", "symlink", "hardlink"]


def copy(source: str, target: str) -> None:
    """Copy a file, with its times and rights."""
    made = unfinished(target)
    try:
        shutil.copy2(source, made)
        rename_to_free(made, target)
    except OSError:
        remove(made)
        raise


def move(source: str, target: str) -> None:
    """Move a file. To another file system it is copied, forced onto the disk, compared, and only then removed."""
    try:
        rename_to_free(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy_for_good(source, target)
        try:
            os.unlink(source)
        except OSError:
            os.unlink(target)
            raise


def symlink(source: str, target: str) -> None:
    """Make a symbolic link to a file."""
    os.symlink(source, target)


def hardlink(source: str, target: str) -> None:
    """Give a file another name."""
    os.link(os.path.realpath(source), target)


TRANSFERS: Mapping[Mode, Callable[[str, str], None]] = {
    "copy": copy,
    "move": move,
    "symlink": symlink,
    "hardlink": hardlink,
}
"""Each raises FileExistsError if there is something at the target, and OSError if it cannot be done."""


def unfinished(target: str) -> str:
    """What a target is called until it is whole."""
    digest = hashlib.blake2b(os.fsencode(target), digest_size=8).hexdigest()
    return os.path.join(os.path.dirname(target), f".dinoclassify-{digest}.new")


def is_same(one: str, other: str) -> bool:
    """Whether two files have the same content. What is no file, or cannot be read, is not the same as anything."""
    try:
        if not (os.path.isfile(one) and os.path.isfile(other)):
            return False
        return os.path.samefile(one, other) or filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


def remove(path: str) -> None:
    """Remove a file, if it is there."""
    with suppress(FileNotFoundError):
        os.unlink(path)


def _copy_for_good(source: str, target: str) -> None:
    made = unfinished(target)
    try:
        shutil.copy2(source, made)
        status = os.stat(source)
        with suppress(PermissionError):
            os.chown(made, status.st_uid, status.st_gid)
        settle(made)
        _forget_cached(made)
        filecmp.clear_cache()
        if not filecmp.cmp(source, made, shallow=False):
            raise OSError(errno.EIO, "the copy is not the same", target)
        rename_to_free(made, target)
        settle(os.path.dirname(target))
    except OSError:
        remove(made)
        raise


def _forget_cached(path: str) -> None:
    """Have the next who reads a file read it from the disk, where the system can."""
    if hasattr(os, "posix_fadvise"):
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
