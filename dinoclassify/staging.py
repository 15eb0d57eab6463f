"""An object that is written as a file is, here, with all that a run needs to go on; and sent off when it is whole."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import platformdirs

from dinoclassify.errors import NoInputsError, OutputError, UsageError
from dinoclassify.files import reporting
from dinoclassify.stores import check_output, download, exists, upload

_META = ".meta.json"


def stage_of(url: str) -> str:
    """The file of this machine that an object is written to before it is one.

    Raises:
        UsageError: the name is that of a prefix.
    """
    if url.endswith("/"):
        raise UsageError(f"{url} is no name of an object: add one")
    digest = hashlib.sha256(url.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    folder = os.path.join(platformdirs.user_state_dir("dinoclassify"), "outputs", digest)
    with reporting(folder):
        os.makedirs(folder, exist_ok=True)
    return os.path.join(folder, os.path.basename(url))


@contextmanager
def published(url: str, file: str, *, resume: bool) -> Iterator[None]:
    """Make an object of ``file``, with its meta beside it, when the block ends well.

    With ``resume`` the file is first what the object is now. A file that could not be sent stays, for the next run to
    go on with.

    Raises:
        OutputError: it cannot be read or written.
        UsageError: nothing can be written there.
    """
    check_output(url)
    if not resume:
        for old in (file, file + _META):
            with suppress(FileNotFoundError):
                os.unlink(old)
    elif not os.path.exists(file) and download(url, file):  # one that is here was to be sent, and is newer
        download(url + _META, file + _META)
    try:
        yield
    except NoInputsError:
        with suppress(OSError):
            if os.path.exists(file) and not exists(url):
                _send(file, url)
        raise
    _send(file, url)


def _send(file: str, url: str) -> None:
    try:
        upload(file, url)
        if os.path.exists(file + _META):
            upload(file + _META, url + _META)
    except OutputError as error:
        raise OutputError(f"{error}; the rows are in {file}, and --resume sends them") from error
    shutil.rmtree(os.path.dirname(file), ignore_errors=True)
