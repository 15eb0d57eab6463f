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

from dinoclassify.earlier import Signature, signature
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
        _remove(made)
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


def finish_move(source: str, target: str) -> None:
    """Remove what a move that was killed has left: what is not whole, or the source, if the target is the same."""
    _remove(unfinished(target))
    if os.path.lexists(source) and os.path.lexists(target) and is_same(source, target):
        os.unlink(source)


def undo(mode: Mode, source: str, target: str, was: Signature) -> str | None:
    """Take a transfer back, wherever it was stopped; gives the reason if that would lose something.

    Args:
        mode: what it was.
        source: where the picture was.
        target: where it was put.
        was: the signature that it had.

    Raises:
        OSError: it cannot be done.
    """
    _remove(unfinished(target))
    if not os.path.lexists(target):
        return None if mode != "move" or os.path.lexists(source) else "neither it nor its picture is there any more"
    if mode == "move" and not os.path.lexists(source):
        os.makedirs(os.path.dirname(source), exist_ok=True)
        move(target, source)
        return None
    if mode == "move" and signature(source) == was and not is_same(source, target):
        return None  # it never came to be: the name was taken
    if mode == "symlink":
        ours = os.path.islink(target) and os.readlink(target) == source
    elif mode == "hardlink":
        ours = os.path.exists(source) and os.path.samefile(source, target)
    else:
        ours = os.path.exists(source) and is_same(source, target)
    if not ours:
        return f"it is not the same as {source} any more"
    os.unlink(target)
    return None


def is_same(one: str, other: str) -> bool:
    """Whether two files have the same content. What is no file, or cannot be read, is not the same as anything."""
    try:
        if not (os.path.isfile(one) and os.path.isfile(other)):
            return False
        return os.path.samefile(one, other) or filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


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
        _remove(made)
        raise


def _forget_cached(path: str) -> None:
    """Have the next who reads a file read it from the disk, where the system can."""
    if hasattr(os, "posix_fadvise"):
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
