"""Codes that only this user on this machine can give: they are made with a key that nobody else can read."""

import errno
import hmac
import os
import secrets
import stat

import platformdirs

from dinoclassify.results.sort.transfer import remove
from dinoclassify.storage.rename import rename_to_free

_SIZE = 32  # bytes


def read_key() -> bytes | None:
    """The key of this user on this machine; None if there is none that others can neither read nor write."""
    try:
        descriptor = os.open(_key_file(), os.O_RDONLY | os.O_NOFOLLOW)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            is_private = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077
            key = file.read(_SIZE + 1) if is_private else b""
    except OSError:
        return None
    return key if len(key) == _SIZE else None


def make_key() -> bytes:
    """The same key, which is made at first need.

    Raises:
        OSError: there is none, and none can be made.
    """
    if (known := read_key()) is not None:
        return known
    path = _key_file()
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    key, new = secrets.token_bytes(_SIZE), f"{path}.{secrets.token_hex(8)}"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(descriptor)
        rename_to_free(new, path)
    except FileExistsError:  # another run was faster
        if (known := read_key()) is None:
            raise PermissionError(errno.EPERM, "others can read it, or it is no key", path) from None
        return known
    finally:
        remove(new)
    return key


def code_of(key: bytes, *parts: bytes) -> bytes:
    """64 hexadecimal digits that only who has the key can give for these parts, none of which has a NUL."""
    return hmac.digest(key, b"\0".join(parts), "sha256").hex().encode("ascii")


def _key_file() -> str:
    folder = platformdirs.user_state_dir("dinoclassify")
    if not os.path.isabs(folder):  # of a user without a home
        raise FileNotFoundError(errno.ENOENT, "there is no home folder", folder)
    return os.path.join(folder, "journal.key")
