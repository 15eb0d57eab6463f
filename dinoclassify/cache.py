"""What is costly to make is made once, and kept in folders under the user's cache directory."""

import atexit
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path

_MANIFEST = "manifest.json"

Stamp = Mapping[str, str]  # what a folder is made with, such as the versions of libraries

_of_this_process: dict[Path, Path] = {}  # where a folder belongs -> where it is, if it could not be kept there


def kept_folder(name: str, stamp: Stamp, make: Callable[[Path], None]) -> Path:
    """The folder that is kept under ``name`` and ``stamp``.

    It is made if it is not there or is not as it was written. Of several processes one makes it, while the others wait.
    Where nothing can be kept it is made for this process alone.

    Args:
        name: its name in the cache.
        stamp: what else it depends on.
        make: writes the files into an empty folder; what it raises is passed on, but for OSError.
    """
    root = user_cache_path("dinoclassify")
    folder = _place(name, stamp)
    if folder in _of_this_process:
        return _of_this_process[folder]
    if _is_intact(folder):
        return folder
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not _is_intact(folder):
                _make(folder, make)
        return folder
    except OSError:  # a cache that is full, or may not be written
        made = Path(tempfile.mkdtemp(prefix="dinoclassify."))
        atexit.register(shutil.rmtree, made, ignore_errors=True)
        make(made)
        _of_this_process[folder] = made
        return made


def is_kept(name: str, stamp: Stamp) -> bool:
    """Whether `kept_folder` would find the folder, as it was written."""
    folder = _place(name, stamp)
    return folder in _of_this_process or _is_intact(folder)


def sha256(paths: Iterable[str | os.PathLike[str]]) -> str:
    """One digest of the contents of some files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _place(name: str, stamp: Stamp) -> Path:
    made_with = hashlib.sha256(json.dumps(dict(stamp), sort_keys=True).encode()).hexdigest()
    return user_cache_path("dinoclassify") / f"{name}-{made_with[:8]}"


def _make(folder: Path, make: Callable[[Path], None]) -> None:
    """Fill a folder beside it, and give that the name when it is whole."""
    for left in folder.parent.glob(f"{folder.name}.*.new"):  # by a process that was killed: we hold the lock
        shutil.rmtree(left, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=".new", dir=folder.parent))
    try:
        make(made)
        (made / _MANIFEST).write_text(json.dumps(_digests(made)), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def _is_intact(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / _MANIFEST).read_text(encoding="utf-8")) == _digests(folder))
    except (OSError, ValueError):
        return False


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: sha256([path]) for path in sorted(folder.iterdir()) if path.name != _MANIFEST}
