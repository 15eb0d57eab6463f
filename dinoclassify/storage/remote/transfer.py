"""Whole files to and from object stores."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from dinoclassify.errors import OutputError
from dinoclassify.storage.atomic import replacing
from dinoclassify.storage.remote import s3
from dinoclassify.storage.remote.block_file import BLOCK
from dinoclassify.storage.remote.errors import failure, os_errors
from dinoclassify.storage.remote.object_store import filesystem, open_stream
from dinoclassify.storage.remote.url import is_s3


def check_output(url: str) -> None:
    """Check, as far as possible before anything is written, that an object can be created.

    Raises:
        OutputError: it cannot.
        UsageError: nothing can be written there.
    """
    fs, _ = filesystem(url)
    if is_s3(url):
        with _output_errors("write", url), suppress(PermissionError):  # some may write to a bucket but not look at it
            s3.check_bucket(fs, url)


def upload(file: str, url: str) -> None:
    """Make an object of a local file. On an error nothing changes.

    Raises:
        OutputError: the object cannot be written.
        UsageError: nothing can be written there.
    """
    fs, path = filesystem(url)
    with _output_errors("write", url):
        fs.put_file(file, path)


def download(url: str, file: str) -> bool:
    """Make a local file of an object; False if there is no such object.

    Raises:
        OutputError: the object cannot be read, or the file cannot be written.
        UsageError: nothing can be read there.
    """
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
