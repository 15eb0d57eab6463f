"""The local stage of an output object: a file, with its journal and metadata, that is uploaded when it is finished."""

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
from dinoclassify.storage.output_paths import OutputPaths
from dinoclassify.storage.remote.errors import failure
from dinoclassify.storage.remote.filesystem import check_output, download, upload
from dinoclassify.storage.remote.object_store import stat_object
from dinoclassify.storage.signature import file_signature
from dinoclassify.writers.fingerprint import write_meta

log = logging.getLogger(__name__)


def stage_of(url: str) -> str:
    """Return the local stage of an object.

    Raises:
        UsageError: the URL is that of a prefix.
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
    """Upload ``file``, the local stage of an object, and its metadata when the block ends well.

    With ``resume`` the file is first downloaded. A file that could not be uploaded stays for the next run.

    Raises:
        OutputError: the object cannot be read or written; or, with ``resume``, another machine has written it since.
        UsageError: nothing can be written there; or, without ``resume`` or ``fresh``, an earlier file waits for upload.
    """
    check_output(url)
    paths = OutputPaths(file)
    if not (resume or fresh) and _is_unsent(paths):
        raise UsageError(
            f"{file} is finished, but not sent to {url}: the command that made it sends it with --resume, "
            "and discards it with --fresh"
        )
    if fresh or not (os.path.exists(paths.journal) or _is_unsent(paths)):
        _remove(paths)  # without --fresh: left by a run that downloaded the object and made no row
    elif resume and _is_outdated(paths, url):
        aside = tempfile.mkdtemp(prefix=f"{os.path.basename(file)}.superseded-", dir=os.path.dirname(file))
        for name in filter(os.path.exists, (*paths.files, paths.origin)):
            os.rename(name, os.path.join(aside, os.path.basename(name)))
        log.warning("%s has changed since the interrupted run on this machine, whose rows are now in %s", url, aside)
    signature = _signature(url)  # before the download, so that any later write of another machine counts as newer
    if resume and not os.path.exists(file):
        download(OutputPaths(url).meta, paths.meta)  # before the file, which then shows that all is downloaded
        download(url, file)
    if not os.path.exists(paths.origin):
        _note_origin(paths, signature)
    yield
    if resume and _is_outdated(paths, url):
        raise OutputError(
            f"{url} was written by another machine during this run, and stays as it is; "
            f"the rows of this run are in {file}, and --resume starts from the new object"
        )
    _send(paths, url)


def _is_outdated(paths: OutputPaths, url: str) -> bool:
    """Whether another machine wrote the object after the work on the file began."""
    now, file = _signature(url), paths.output
    if now is None or _origin(paths).get("signature") == now:
        return False
    with tempfile.NamedTemporaryFile() as other:  # a run of this machine may have been killed right after its upload
        return not (os.path.exists(file) and download(url, other.name) and filecmp.cmp(file, other.name, shallow=False))


def _send(paths: OutputPaths, url: str) -> None:
    """Upload the file and its metadata, then remove the stage."""
    try:
        upload(paths.output, url)
        if os.path.exists(paths.meta):
            upload(paths.meta, OutputPaths(url).meta)
        _note_origin(paths, _signature(url))
    except OutputError as error:
        raise OutputError(f"{error}; the rows are in {paths.output}, and --resume sends them") from error
    _remove(paths)


def _remove(paths: OutputPaths) -> None:
    for name in (*paths.files, paths.origin):
        with suppress(FileNotFoundError):
            os.unlink(name)


def _is_unsent(paths: OutputPaths) -> bool:
    """Whether the file differs from the object that it was downloaded from."""
    return os.path.exists(paths.output) and _origin(paths).get("file") != list(file_signature(paths.output))


def _note_origin(paths: OutputPaths, signature: list[int | None] | None) -> None:
    """Record the object that the file is a copy of: the signatures of both."""
    write_meta(paths.origin, {"signature": signature, "file": file_signature(paths.output)})


def _origin(paths: OutputPaths) -> dict[str, object]:
    with suppress(OSError, ValueError), open(paths.origin, encoding="utf-8") as origin:
        return dict(json.load(origin))
    return {}


def _signature(url: str) -> list[int | None] | None:
    """Return the signature of an object; None if there is no object, or it cannot be known."""
    try:
        source = stat_object(url)
    except PermissionError:  # a credential may allow writing but not reading
        return None
    except OSError as error:
        raise OutputError(f"cannot read {url}: {failure(error).message}") from error
    return list(source.signature) if source is not None and source.signature is not None else None
