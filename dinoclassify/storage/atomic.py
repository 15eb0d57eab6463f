"""Writing files atomically, so that the disk only ever has whole files, and each error is one line."""

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

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})  # errors that every file in the folder would have

_OPEN = re.compile(rf"/dev/(stdout|stderr)|/(?:dev|proc/self|proc/{os.getpid()})/fd/(\d+)")
_STANDARD = {"stdout": 1, "stderr": 2}
_TEMPORARY = ".dinoclassify.tmp"
_ACCESS_LIST = "system.posix_acl_access"


def resolve_folder(path: str) -> str:
    """The absolute path of a file with the links in its folder resolved; a link to the file itself stays."""
    folder, name = os.path.split(path)
    return os.path.join(os.path.realpath(folder), name)


def is_regular(output: str) -> bool:
    """Whether ``output`` is or will be a regular file: not a device, a pipe, a folder or a name of an open file."""
    if output.startswith(("/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/")):
        return False
    return os.path.isfile(output) or not os.path.exists(output)


def descriptor_of(output: str) -> int | None:
    """The descriptor of the open file that ``output`` names, such as ``/dev/stdout``; None for any other name."""
    match = _OPEN.fullmatch(output)
    return None if match is None else _STANDARD[match[1]] if match[1] else int(match[2])


def open_in_place(output: str, mode: Literal["ab", "wb"]) -> BinaryIO:
    """Open an output to write in place. The name of an open file shares its position with other writers."""
    descriptor = descriptor_of(output)
    return open(output, mode) if descriptor is None else open(os.dup(descriptor), "wb")  # "ab" would move the position


def why_not_open(descriptor: int) -> str | None:
    """Why an open file cannot be written, and the cure; None if it can."""
    try:
        inherited = os.get_inheritable(descriptor)  # unlike files that this process has opened
        access = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
    except (OSError, OverflowError):
        inherited, access = False, os.O_RDONLY
    if not inherited:
        return f"no file is open there; open one in the shell ({descriptor}>FILE), or name a file"
    return "it is open for reading alone; name a file" if access == os.O_RDONLY else None


def append(descriptor: int, line: bytes) -> None:
    """Write a line at the end of a file, or raise OSError: then nothing of it stays in a regular file."""
    rest = memoryview(line)
    try:
        while rest:
            try:
                rest = rest[os.write(descriptor, rest) :]
            except BlockingIOError:  # another program made the pipe non-blocking
                select.select([], [descriptor], [])
    except OSError:
        written, size = len(line) - len(rest), os.fstat(descriptor).st_size
        if written and stat.S_ISREG(os.fstat(descriptor).st_mode) and os.lseek(descriptor, 0, os.SEEK_CUR) == size:
            os.ftruncate(descriptor, size - written)
        raise


@contextmanager
def replacing(path: str, *, rights_of: str | None = None) -> Iterator[BinaryIO]:
    """A new file, which gets the name ``path`` if the block succeeds; otherwise ``path`` does not change.

    Until then it has an unguessable name in the same folder. A link is replaced, not its target: resolve ``path`` first
    if a link should stay one. It gets the permissions of ``rights_of``, by default those of the file it replaces.
    Raises OutputError if it cannot be written.
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
    """Give a file, whose content is on the disk, its final name, durably, with the permissions of the file it replaces.

    Raises OutputError.
    """
    with as_output_errors(path):
        descriptor = os.open(temporary, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            if keep_rights(path, descriptor):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
    _rename(temporary, path)


def keep_rights(path: str | int, descriptor: int) -> bool:
    """Give an open file the owner, group, mode and access list of ``path``, a name or descriptor.

    Returns False, and changes nothing, if ``path`` is missing or is no regular file. Only root may change owners. If
    the group cannot be kept, the group permissions are set to those of 'other'.
    """
    before = _regular_file(path)
    if before is None:
        return False
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
    return True


def temporary_name(path: str) -> str:
    """A hidden name beside ``path``, short, unguessable, and recognised by `sweep`."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f"{temporary_prefix(name)}{secrets.token_hex(8)}{_TEMPORARY}")


def temporary_prefix(path: str) -> str:
    """The common start of all names from `temporary_name` for a file, up to the first hyphen."""
    return f".{_tag(os.path.basename(path))}-"


def sweep(path: str) -> None:
    """Remove the temporary files that killed runs left of ``path``, its journal and its metadata.

    The caller must hold the lock of ``path``: otherwise the files may belong to a run that is still writing.
    """
    folder, name = os.path.split(os.path.realpath(path))
    prefix = temporary_prefix(name)
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):  # one that cannot be removed keeps none of the others
                if entry.name.startswith(prefix) and is_temporary(entry.name):
                    shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)


def is_temporary(name: str) -> bool:
    """Whether a name has the form of those from `temporary_name`."""
    return re.fullmatch(rf"\.[0-9a-f]{{8}}-[0-9a-f]{{16}}{re.escape(_TEMPORARY)}", name) is not None


def _regular_file(path: str | int) -> os.stat_result | None:
    """The status of a regular file; None if it does not exist or is something else, such as a link."""
    with suppress(FileNotFoundError):
        status = os.stat(path, follow_symlinks=False) if isinstance(path, str) else os.fstat(path)
        return status if stat.S_ISREG(status.st_mode) else None
    return None


def _tag(name: str) -> str:
    """Eight hexadecimal digits of a hash of the output's name: the same for it, its journal and their metadata."""
    return hashlib.blake2b(os.fsencode(output_of(name)), digest_size=4).hexdigest()


def _create(path: str, *, private: bool) -> BinaryIO:
    """A new file, readable only by its owner if ``private``. An existing file or a link is an error."""

    def opener(path: str, flags: int) -> int:
        return os.open(path, flags | os.O_NOFOLLOW, 0o600 if private else 0o666)

    return open(path, "xb", opener=opener)


def _rename(temporary: str, path: str) -> None:
    with as_output_errors(path):
        os.replace(temporary, path)
        fsync_path(os.path.dirname(path))


def fsync_path(path: str) -> None:
    """Flush the content of a file, or the names in a folder, to the disk; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def close_checked(file: BinaryIO, name: str) -> Iterator[None]:
    """Close the file at the end. An error in closing is raised, unless the block itself failed."""
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
    """Raise errors with the file ``name`` as an OutputError, or as an OutputClosedError for a closed pipe."""
    try:
        yield
    except BrokenPipeError as error:
        raise OutputClosedError from error
    except OSError as error:
        raise OutputError(f"cannot write {name}: {error.strerror or error}") from error
