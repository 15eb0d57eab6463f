"""Folders of costly files under the user's cache directory, each made once and reused."""

import errno
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from platformdirs import user_cache_path

from dinoclassify.storage.atomic import FULL, fsync_path
from dinoclassify.storage.cache.manifest import Stamp, is_intact, seal
from dinoclassify.storage.cache.upkeep import set_aside, sweep
from dinoclassify.storage.lock import NO_LOCKS, flocked
from dinoclassify.storage.run_folder import new_run_folder
from dinoclassify.system.environment import NO_HOME

log = logging.getLogger(__name__)

_AWAY = frozenset({errno.ESTALE, errno.ETIMEDOUT})  # errors of a disk on the network

_temporary_for: dict[Path, Path] = {}  # folder in the cache -> the temporary one used instead
_warned_about: set[Path] = set()  # directories that a warning was about
_swept: set[Path] = set()  # by this process


def cache_root() -> Path:
    """The directory of all cached folders. It may not exist, and it may be impossible to create."""
    with suppress(RuntimeError):  # the user has no home
        if (root := user_cache_path("dinoclassify")).is_absolute():
            return root
    return Path(NO_HOME, ".cache", "dinoclassify")


def kept_folder(name: str, stamp: Stamp, make: Callable[[Path], None]) -> Path:
    """The cached folder for ``name`` and ``stamp``.

    ``stamp`` holds whatever else its content depends on, such as versions.
    If it is missing or has changed, ``make`` writes the files into an empty folder, while other processes wait. If the
    cache cannot be written, ``make`` is called again for this process alone, with a temporary folder. Its other errors
    are raised here, and OSError if temporary files cannot be written either.
    """
    folder = _place(name, stamp)
    if folder in _temporary_for:
        return _temporary_for[folder]
    if is_intact(folder, stamp):
        _sweep_once(folder.parent)
        return folder
    other_errors: list[OSError] = []  # of `make`, such as that it cannot read a model

    def fill(new: Path) -> None:
        try:
            make(new)
        except OSError as error:
            if not _is_about(error, new):
                other_errors.append(error)
            raise

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder) as alone:
            if not is_intact(folder, stamp):
                _make(folder, stamp, fill, alone=alone)
        _sweep_once(folder.parent)
        return folder
    except OSError as error:
        if error in other_errors:
            raise
        # The cache is full, or read-only.
        _warn_once(folder.parent, error)
        temporary = new_run_folder()
        try:
            make(temporary)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        _temporary_for[folder] = temporary
        return temporary


def keep_if_possible(name: str, stamp: Stamp, make: Callable[[Path], None]) -> None:
    """Make the folder that `find_kept` finds, if it is missing and the cache can be written; see `kept_folder`."""
    folder = _place(name, stamp)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder) as alone:
            if not is_intact(folder, stamp):
                _make(folder, stamp, make, alone=alone)
    except OSError as error:
        log.info("%s cannot be kept: %s", folder, error)


def find_kept(name: str, stamp: Stamp) -> Path | None:
    """The unchanged folder that `kept_folder` would return; None if it would have to be made."""
    folder = _place(name, stamp)
    if folder in _temporary_for:
        return _temporary_for[folder]
    if not is_intact(folder, stamp):
        return None
    _sweep_once(folder.parent)
    return folder


def discard(folder: Path) -> None:
    """Remove a kept folder, whose content is of no use after all; nothing happens if that fails."""
    with suppress(OSError):
        shutil.rmtree(set_aside(str(folder)), ignore_errors=True)


def _place(name: str, stamp: Stamp) -> Path:
    digest = hashlib.sha256(json.dumps(dict(stamp), sort_keys=True).encode()).hexdigest()
    return cache_root() / f"{name}-{digest[:8]}"


def _sweep_once(root: Path) -> None:
    """Sweep the cache, after an entry of it was used."""
    if root not in _swept:
        _swept.add(root)
        sweep(root)


def _warn_once(root: Path, error: OSError) -> None:
    """Warn once that nothing can be cached."""
    if root not in _warned_about:
        _warned_about.add(root)
        trouble = f"nothing can be kept in {root} ({error.strerror or error})"
        cure = "set XDG_CACHE_HOME to a folder that can be written and has room"
        log.warning("%s, so every run prepares its model again: %s", trouble, cure)


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Keep other processes from making the folder; yields whether that works, which needs a file system with locks."""
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


def _is_about(error: OSError, folder: Path) -> bool:
    """Whether an error comes from writing to a folder; one that names no file does if a disk is full or away."""
    name = error.filename
    if name is None:
        return error.errno in FULL | _AWAY
    return isinstance(name, str | bytes | os.PathLike) and Path(os.fsdecode(name)).is_relative_to(folder)


def _make(folder: Path, stamp: Stamp, make: Callable[[Path], None], *, alone: bool) -> None:
    """Make a complete folder beside ``folder``, then rename it."""
    for leftover in folder.parent.glob(f"{folder.name}.*.new") if alone else ():  # of a process that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    new = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=".new", dir=folder.parent))
    try:
        make(new)
        seal(new, stamp)
        if alone or not is_intact(folder, stamp):  # else another process was faster, and may be using its folder
            discard(folder)
            new.rename(folder)
            with suppress(OSError):  # some file systems cannot flush names
                fsync_path(str(folder.parent))
    finally:
        shutil.rmtree(new, ignore_errors=True)
