"""Codes that only this user on this machine can compute, with a key that nobody else can read."""

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
    """The key of this user on this machine; None if it does not exist, or others can read or write it."""
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
    """The key of this user on this machine, made if it does not exist; raises OSError if it cannot be made."""
    if (existing := read_key()) is not None:
        return existing
    path = _key_file()
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    key, temp_name = secrets.token_bytes(_SIZE), f"{path}.{secrets.token_hex(8)}"
    descriptor = os.open(temp_name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(descriptor)
        rename_to_free(temp_name, path)
    except FileExistsError:  # another run was faster
        if (existing := read_key()) is None:
            raise PermissionError(errno.EPERM, "others can read it, or it is no key", path) from None
        return existing
    finally:
        remove(temp_name)
    return key


def code_of(key: bytes, *parts: bytes) -> bytes:
    """The HMAC-SHA-256 of parts, as 64 hexadecimal digits. No part may hold a NUL, which separates them."""
    return hmac.digest(key, b"\0".join(parts), "sha256").hex().encode("ascii")


def _key_file() -> str:
    folder = platformdirs.user_state_dir("dinoclassify")
    if not os.path.isabs(folder):  # the user has no home
        raise FileNotFoundError(errno.ENOENT, "there is no home folder", folder)
    return os.path.join(folder, "journal.key")
