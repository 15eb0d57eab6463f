"""Files and folders on any file system that fsspec knows, also the local one; files are written atomically."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

from dinoclassify.errors import OutputError, UsageError
from dinoclassify.storage.atomic import replacing
from dinoclassify.storage.remote import s3
from dinoclassify.storage.remote.block_file import BLOCK
from dinoclassify.storage.remote.errors import failure, os_errors
from dinoclassify.storage.remote.object_store import open_stream
from dinoclassify.storage.remote.opening import filesystem
from dinoclassify.storage.remote.url import is_s3

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


def open_place(folder: str) -> "tuple[AbstractFileSystem, str]":
    """The file system of a folder, and its path there."""
    fs, path = filesystem(folder)
    return fs, (os.path.realpath(path) if is_local(fs) else path.rstrip("/"))  # a link to the folder is kept


def is_local(fs: "AbstractFileSystem") -> bool:
    """Whether a file system is the local one."""
    return "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)


@os_errors()
def names_in(fs: "AbstractFileSystem", folder: str) -> list[str]:
    """The names in a folder, sorted; none if the folder does not exist."""
    try:
        paths = fs.ls(folder, detail=False, refresh=True)
    except FileNotFoundError:
        return []
    return sorted(name for name in (path.rstrip("/").rpartition("/")[2] for path in paths if path != folder) if name)


def read_file(fs: "AbstractFileSystem", path: str) -> bytes | None:
    """The content of a file; None if the file does not exist."""
    try:
        with os_errors():
            content: bytes = fs.cat_file(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    return content


def write_file(fs: "AbstractFileSystem", path: str, content: bytes) -> None:
    """Write a file atomically."""
    if is_local(fs):
        with writing_file(fs, path) as file:
            file.write(content)
    else:
        with os_errors():
            fs.pipe_file(path, content)


@contextmanager
def writing_file(fs: "AbstractFileSystem", path: str) -> Iterator[BinaryIO]:
    """A file to write, which gets its name when it is closed."""
    if is_local(fs):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with replacing(path) as file:
            yield file
    else:
        with os_errors(), fs.open(path, "wb") as file:
            yield file


@contextmanager
def local_copy(fs: "AbstractFileSystem", path: str) -> Iterator[str]:
    """The name of a local file with the content of ``path``; a copy is removed at the end."""
    if is_local(fs):
        yield path
    else:
        with tempfile.NamedTemporaryFile() as file:
            with os_errors():
                fs.get_file(path, file.name)
            yield file.name


@os_errors()
def remove(fs: "AbstractFileSystem", work: str) -> None:
    """Remove a work folder; first its metadata, so that half of it is not taken for a whole one."""
    with suppress(FileNotFoundError):
        fs.rm_file(f"{work}/meta.json")
    with suppress(FileNotFoundError):
        if is_local(fs):
            shutil.rmtree(work)
        else:
            fs.rm(work, recursive=True)


def check_output(url: str) -> None:
    """Check, as far as possible before anything is written, that an object can be created; raises OutputError."""
    fs, _ = filesystem(url)
    if is_s3(url):
        with _output_errors("write", url), suppress(PermissionError):  # some may write to a bucket but not look at it
            s3.check_bucket(fs, url)


def upload(file: str, url: str) -> None:
    """Make an object of a local file. On an error, an OutputError, nothing changes."""
    fs, path = filesystem(url)
    with _output_errors("write", url):
        fs.put_file(file, path)


def download(url: str, file: str) -> bool:
    """Make a local file of an object; False if there is no such object. Raises OutputError if one fails."""
    with _output_errors("read", url):
        try:
            stream = open_stream(url)
        except FileNotFoundError:
            return False
        with stream, replacing(file) as local:
            shutil.copyfileobj(stream, local, BLOCK)
    return True


@contextmanager
def _output_errors(verb: str, url: str) -> Iterator[None]:
    try:
        with os_errors():
            yield
    except OSError as error:
        raise OutputError(f"cannot {verb} {url}: {failure(error).message}") from error
