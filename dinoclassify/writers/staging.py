"""An output object: a file on this machine, with its journal and metadata, until it is finished and sent whole."""

import filecmp
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import platformdirs

from dinoclassify.errors import OutputError, UsageError
from dinoclassify.storage.atomic import as_output_errors
from dinoclassify.storage.remote.errors import failure
from dinoclassify.storage.remote.object_store import stat_object
from dinoclassify.storage.remote.transfer import check_output, download, upload
from dinoclassify.storage.signature import file_signature
from dinoclassify.writers.fingerprint import META, PARTIAL, write_meta

log = logging.getLogger(__name__)

_ORIGIN = ".origin.json"  # the object as it was when the work on the file began


def stage_of(url: str) -> str:
    """The file of this machine that is to be an object.

    Raises:
        UsageError: the name is that of a prefix.
    """
    if url.endswith("/"):
        raise UsageError(f"{url} is no name of an object: add one")
    digest = hashlib.sha256(url.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    folder = os.path.join(platformdirs.user_state_dir("dinoclassify"), "outputs")
    with as_output_errors(folder):
        os.makedirs(folder, exist_ok=True)
    return os.path.join(folder, f"{digest}-{os.path.basename(url)}")


@contextmanager
def published(url: str, file: str, *, resume: bool = False, fresh: bool = False) -> Iterator[None]:
    """Make an object of ``file``, and one of its metadata, when the block ends well.

    With ``resume`` the file is first what the object is now. A file that could not be sent stays for the next run.

    Raises:
        OutputError: the object cannot be read or written; or, with ``resume``, another machine has written it since.
        UsageError: nothing can be written there; or a file waits to be sent, without ``resume`` or ``fresh``.
    """
    check_output(url)
    if not (resume or fresh) and _is_unsent(file):
        raise UsageError(
            f"{file} is finished, but not sent to {url}: the command that made it sends it with --resume, "
            "and discards it with --fresh"
        )
    if fresh or not (os.path.exists(file + PARTIAL) or _is_unsent(file)):
        _remove(file)  # without --fresh: left by a run that downloaded the object and made no row
    elif resume and _is_behind(url, file):
        aside = tempfile.mkdtemp(prefix=f"{os.path.basename(file)}.superseded-", dir=os.path.dirname(file))
        for name in filter(os.path.exists, _names(file)):
            os.rename(name, os.path.join(aside, os.path.basename(name)))
        log.warning("%s is newer than the interrupted run of this machine, whose rows are now in %s", url, aside)
    found = _signature(url)  # before the download: whatever is written from here on is newer
    if resume and not os.path.exists(file):
        download(url + META, file + META)  # first: with the file there is all
        download(url, file)
    if not os.path.exists(file + _ORIGIN):
        _note_origin(file, found)
    yield
    if resume and _is_behind(url, file):
        raise OutputError(
            f"{url} was written by another machine during this run, and stays as it is; "
            f"the rows of this run are in {file}, and --resume starts from the new object"
        )
    _send(file, url)


def _is_behind(url: str, file: str) -> bool:
    """Whether the object has been written since the work on the file began, and not by this machine."""
    now = _signature(url)
    if now is None or _origin(file).get("signature") == now:
        return False
    with tempfile.NamedTemporaryFile() as other:  # the last run may have been killed right after its upload
        return not (os.path.exists(file) and download(url, other.name) and filecmp.cmp(file, other.name, shallow=False))


def _send(file: str, url: str) -> None:
    try:
        upload(file, url)
        if os.path.exists(file + META):
            upload(file + META, url + META)
        _note_origin(file, _signature(url))
    except OutputError as error:
        raise OutputError(f"{error}; the rows are in {file}, and --resume sends them") from error
    _remove(file)


def _remove(file: str) -> None:
    for name in _names(file):
        with suppress(FileNotFoundError):
            os.unlink(name)


def _is_unsent(file: str) -> bool:
    """Whether there is a file that is not what the object was."""
    return os.path.exists(file) and _origin(file).get("file") != list(file_signature(file))


def _note_origin(file: str, found: list[int | None] | None) -> None:
    write_meta(file + _ORIGIN, {"signature": found, "file": file_signature(file)})


def _origin(file: str) -> dict[str, object]:
    with suppress(OSError, ValueError), open(file + _ORIGIN, encoding="utf-8") as origin:
        return dict(json.load(origin))
    return {}


def _signature(url: str) -> list[int | None] | None:
    try:
        source = stat_object(url)
    except PermissionError:  # who may write may not be one who may look
        return None
    except OSError as error:
        raise OutputError(f"cannot read {url}: {failure(error).message}") from error
    return list(source.signature) if source is not None and source.signature is not None else None


def _names(file: str) -> list[str]:
    """The file, and all that may stand beside it."""
    return [file + end for end in ("", META, PARTIAL, PARTIAL + META, _ORIGIN)]
