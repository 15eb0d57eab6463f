"""Files that are written so that what is on the disk is whole, and what goes wrong is one line."""

import errno
import fcntl
import hashlib
import os
import re
import secrets
import select
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, Literal

from dinoclassify.errors import OutputClosedError, OutputError
from dinoclassify.storage.output_paths import output_of

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})  # what goes wrong with one file will with all others

_OPEN = re.compile(rf"/dev/(stdout|stderr)|/(?:dev|proc/self|proc/{os.getpid()})/fd/(\d+)")
_STANDARD = {"stdout": 1, "stderr": 2}
_TEMPORARY = ".dinoclassify.tmp"
_ACCESS_LIST = "system.posix_acl_access"


def free_of_links(path: str) -> str:
    """The absolute path of a file, with no links in it but itself."""
    folder, name = os.path.split(path)
    return os.path.join(os.path.realpath(folder), name)


def is_regular(output: str) -> bool:
    """Whether ``output`` is a regular file, or will be: not a device, a pipe, a folder or a name for an open file."""
    if output.startswith(("/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/")):
        return False
    return os.path.isfile(output) or not os.path.exists(output)


def descriptor_of(output: str) -> int | None:
    """The number of the open file that ``output`` names, such as ``/dev/stdout``; None of any other name."""
    found = _OPEN.fullmatch(output)
    return None if found is None else _STANDARD[found[1]] if found[1] else int(found[2])


def open_in_place(output: str, mode: Literal["ab", "wb"]) -> BinaryIO:
    """Open an output that is written to in place. An open file is shared, and goes on where others have written.

    Raises:
        OSError: it cannot be opened.
    """
    descriptor = descriptor_of(output)
    return open(output, mode) if descriptor is None else open(os.dup(descriptor), "wb")  # "ab" would move its end


def why_not_open(descriptor: int) -> str | None:
    """What keeps an open file from being written to, and the cure; None if nothing does."""
    try:
        inherited = os.get_inheritable(descriptor)  # unlike files that this process has opened
        access = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
    except (OSError, OverflowError):
        inherited, access = False, os.O_RDONLY
    if not inherited:
        return f"no file is open there; open one in the shell ({descriptor}>FILE), or name a file"
    return "it is open for reading alone; name a file" if access == os.O_RDONLY else None


def append(descriptor: int, line: bytes) -> None:
    """Write a line at the end of a file: all of it or, of a regular file, nothing.

    Raises:
        OSError: it cannot be written.
    """
    rest = memoryview(line)
    try:
        while rest:
            try:
                rest = rest[os.write(descriptor, rest) :]
            except BlockingIOError:  # a pipe that another program has made so
                select.select([], [descriptor], [])
    except OSError:
        written, size = len(line) - len(rest), os.fstat(descriptor).st_size
        if written and stat.S_ISREG(os.fstat(descriptor).st_mode) and os.lseek(descriptor, 0, os.SEEK_CUR) == size:
            os.ftruncate(descriptor, size - written)
        raise


@contextmanager
def replacing(path: str, *, rights_of: str | None = None) -> Iterator[BinaryIO]:
    """A new file, which takes the name ``path`` when the block ends well; otherwise ``path`` stays as it was.

    Until then it has a name that nobody can guess, in the same folder. A link is replaced, not what it names.

    Args:
        path: the file; resolve it first where a link that a user named shall stay one.
        rights_of: the file whose rights it gets; by default those of the file it replaces.

    Raises:
        OutputError: it cannot be written.
    """
    path = os.path.abspath(path)
    temporary, model = temporary_name(path), rights_of or path
    with as_output_errors(path):
        file = _create(temporary, private=_regular_file(model) is not None)
    try:
        with close_checked(file, path):
            yield file
            with as_output_errors(path):
                file.flush()
                keep_rights(model, file.fileno())
                os.fsync(file.fileno())
        _rename(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def put_in_place(temporary: str, path: str) -> None:
    """Give a file its final name, so that this outlives a power cut. It keeps the rights of the file it replaces.

    Raises:
        OutputError: it cannot be done.
    """
    with as_output_errors(path):
        descriptor = os.open(temporary, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            keep_rights(path, descriptor)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    _rename(temporary, path)


def keep_rights(path: str | int, descriptor: int) -> None:
    """Give an open file the owner, group, mode and access list of ``path``, or of another, if that is a regular file.

    Only root may give files away: where the group cannot be kept, the new group may do no more than all others.
    """
    before = _regular_file(path)
    if before is None:
        return
    mode = before.st_mode & (stat.S_IRWXU | stat.S_IRWXG | stat.S_IRWXO)
    for owner in (before.st_uid, -1):
        with suppress(OSError):
            os.fchown(descriptor, owner, before.st_gid)
            break
    if os.fstat(descriptor).st_gid != before.st_gid:
        mode = mode & ~stat.S_IRWXG | (mode & stat.S_IRWXO) << 3
    else:
        with suppress(OSError, AttributeError):  # only Linux has access lists, and few files have one
            os.setxattr(descriptor, _ACCESS_LIST, os.getxattr(path, _ACCESS_LIST))
    with suppress(OSError):
        os.fchmod(descriptor, mode)


def temporary_name(path: str) -> str:
    """A hidden name beside ``path``, short and impossible to guess, by which `sweep` knows it again."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f"{temporary_prefix(name)}{secrets.token_hex(8)}{_TEMPORARY}")


def temporary_prefix(path: str) -> str:
    """How all names of `temporary_name` for a file begin, up to their first hyphen."""
    return f".{_tag(os.path.basename(path))}-"


def sweep(path: str) -> None:
    """Remove the temporaries that killed runs have left of ``path``, its journal and its metadata.

    Only who holds the lock of ``path`` may do so: otherwise they may be of a run that is still writing.
    """
    folder, name = os.path.split(os.path.realpath(path))
    prefix = temporary_prefix(name)
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(prefix) and is_temporary(entry.name):
                shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)


def is_temporary(name: str) -> bool:
    """Whether `temporary_name` may have made the name of a file."""
    return re.fullmatch(rf"\.[0-9a-f]{{8}}-[0-9a-f]{{16}}{re.escape(_TEMPORARY)}", name) is not None


def _regular_file(path: str | int) -> os.stat_result | None:
    """The status of a file; None if there is none, or something else, such as a link."""
    with suppress(FileNotFoundError):
        status = os.stat(path, follow_symlinks=False) if isinstance(path, str) else os.fstat(path)
        return status if stat.S_ISREG(status.st_mode) else None
    return None


def _tag(name: str) -> str:
    """Eight digits that are the same for an output, its journal and their metadata."""
    return hashlib.blake2b(os.fsencode(output_of(name)), digest_size=4).hexdigest()


def _create(path: str, *, private: bool) -> BinaryIO:
    """A new file, which nobody else may read if it is ``private``. Never one that exists, nor what a link names."""

    def opener(path: str, flags: int) -> int:
        return os.open(path, flags | os.O_NOFOLLOW, 0o600 if private else 0o666)

    return open(path, "xb", opener=opener)


def _rename(temporary: str, path: str) -> None:
    with as_output_errors(path):
        os.replace(temporary, path)
        fsync_path(os.path.dirname(path))


def fsync_path(path: str) -> None:
    """Have the content of a file, or the names in a folder, on the disk.

    Raises:
        OSError: it cannot be put there.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def close_checked(file: BinaryIO, name: str) -> Iterator[None]:
    """Close the file in the end: what goes wrong with that counts, unless the block has failed already."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            file.close()
        raise
    with as_output_errors(name):
        file.close()


@contextmanager
def as_output_errors(name: str) -> Iterator[None]:
    """Raise what goes wrong with the file ``name`` as the errors of an output."""
    try:
        yield
    except BrokenPipeError as error:
        raise OutputClosedError from error
    except OSError as error:
        raise OutputError(f"cannot write {name}: {error.strerror or error}") from error
