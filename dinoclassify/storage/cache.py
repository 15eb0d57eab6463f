"""What is costly to make is made once, and kept in folders under the user's cache directory."""

import atexit
import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from platformdirs import user_cache_path

from dinoclassify.storage.lock import NO_LOCKS, flocked
from dinoclassify.system.environment import NO_HOME

log = logging.getLogger(__name__)

_MANIFEST = "manifest.json"
_OF_A_RUN = re.compile(r"dinoclassify-[^.]+\.run")  # a folder among the temporary files

Stamp = Mapping[str, str]  # what a folder is made with, such as the versions of libraries

_of_this_process: dict[Path, Path] = {}  # where a folder belongs -> where it is, if it could not be kept there
_complained: set[Path] = set()  # of which directories


def cache_root() -> Path:
    """The directory under which everything is kept. It need not be there, nor be one that can be made."""
    with suppress(RuntimeError):  # there is no home
        if (root := user_cache_path("dinoclassify")).is_absolute():
            return root
    return Path(NO_HOME, ".cache", "dinoclassify")


def kept_folder(name: str, stamp: Stamp, make: Callable[[Path], None]) -> Path:
    """The folder that is kept under ``name`` and ``stamp``.

    It is made if it is not there or is not as it was written. Of several processes one makes it, while the others wait.
    Where nothing can be kept, it is made for this process alone, among the temporary files.

    Args:
        name: its name in the cache.
        stamp: what else it depends on.
        make: writes the files into an empty folder; what it raises is passed on. It may be called again after an
            OSError.

    Raises:
        OSError: it cannot be written among the temporary files either.
    """
    folder = _place(name, stamp)
    if folder in _of_this_process:
        return _of_this_process[folder]
    if _is_intact(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder) as alone:
            if not _is_intact(folder):
                _make(folder, make, alone=alone)
        return folder
    except OSError as error:  # a cache that is full, or may not be written
        _complain(folder.parent, error)
        made = _folder_of_this_run()
        try:
            make(made)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
        _of_this_process[folder] = made
        return made


def find_kept(name: str, stamp: Stamp) -> Path | None:
    """The folder that `kept_folder` would find, as it was written; None if it would have to be made."""
    folder = _place(name, stamp)
    return _of_this_process.get(folder) or (folder if _is_intact(folder) else None)


def sha256(paths: Iterable[str | os.PathLike[str]]) -> str:
    """One digest of the contents of some files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _place(name: str, stamp: Stamp) -> Path:
    made_with = hashlib.sha256(json.dumps(dict(stamp), sort_keys=True).encode()).hexdigest()
    return cache_root() / f"{name}-{made_with[:8]}"


def _complain(root: Path, error: OSError) -> None:
    """Warn, once, that nothing can be kept."""
    if root not in _complained:
        _complained.add(root)
        reason = error.strerror or error
        cure = "set XDG_CACHE_HOME to a folder that can be written and has room"
        log.warning(
            "nothing can be kept in %s (%s), so that every run prepares its model again: %s", root, reason, cure
        )


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Keep other processes from making the folder, if its file system has locks; says whether it has."""
    try:
        descriptor: int | None = flocked(f"{folder}.lock", wait=True)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        descriptor = None
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _make(folder: Path, make: Callable[[Path], None], *, alone: bool) -> None:
    """Fill a folder beside it, and give that the name when it is whole."""
    for left in folder.parent.glob(f"{folder.name}.*.new") if alone else ():  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=".new", dir=folder.parent))
    try:
        make(made)
        (made / _MANIFEST).write_text(json.dumps(_digests(made)), encoding="utf-8")
        if alone or not _is_intact(folder):  # else another process was faster, and may be using it
            shutil.rmtree(folder, ignore_errors=True)
            made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _folder_of_this_run() -> Path:
    """A new folder among the temporary files, which is gone when this process has ended.

    If it is killed the next process that needs such a folder removes it: a lock tells that nobody uses it any more.
    """
    _sweep()
    while True:
        folder = Path(tempfile.mkdtemp(prefix="dinoclassify-", suffix=".run"))
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)  # for as long as this process lives
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # another process, which is sweeping, was faster
            pass
        except OSError:  # there are no locks, and so nobody sweeps
            break
        else:
            if folder.exists():
                break
        os.close(descriptor)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _sweep() -> None:
    """Remove what killed processes of this user have left among the temporary files."""
    with suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            if _OF_A_RUN.fullmatch(entry.name) and entry.stat(follow_symlinks=False).st_uid == os.geteuid():
                with suppress(OSError):
                    _remove_if_unused(entry.path)


def _remove_if_unused(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)


def _is_intact(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / _MANIFEST).read_text(encoding="utf-8")) == _digests(folder))
    except (OSError, ValueError):
        return False


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: sha256([path]) for path in sorted(folder.iterdir()) if path.name != _MANIFEST}
