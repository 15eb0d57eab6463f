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

Stamp = Mapping[str, str]  # what a folder was made with, such as the versions of libraries


def kept_folder(name: str, stamp: Stamp, make: Callable[[Path], None]) -> Path:
    """The folder that is kept under ``name``.

    It is made anew if it is not there, was made under another stamp or is not as it was written. Of several processes
    one makes it, while the others wait. Where nothing can be kept it is made for this process alone.

    Args:
        name: its name in the cache.
        stamp: what else it depends on.
        make: writes the files into an empty folder; what it raises is passed on.
    """
    root = user_cache_path("dinoclassify")
    folder = root / name
    if _is_intact(folder, stamp):
        return folder
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(root / f"{name}.lock").acquire()
    except OSError:  # a cache that may not be written
        return _for_this_process(make)
    with lock:
        if _is_intact(folder, stamp):
            return folder
        made = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=root))
        try:
            make(made)
            manifest = {"stamp": dict(stamp), "sha256": _digests(made)}
            (made / _MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
            shutil.rmtree(folder, ignore_errors=True)
            made.rename(folder)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
    return folder


def is_kept(name: str, stamp: Stamp) -> bool:
    """Whether `kept_folder` would find the folder as it was written."""
    return _is_intact(user_cache_path("dinoclassify") / name, stamp)


def sha256(paths: Iterable[str | os.PathLike[str]]) -> str:
    """One digest of the contents of some files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _is_intact(folder: Path, stamp: Stamp) -> bool:
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        return bool(manifest == {"stamp": dict(stamp), "sha256": _digests(folder)})
    except (OSError, ValueError):
        return False


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: sha256([path]) for path in sorted(folder.iterdir()) if path.name != _MANIFEST}


def _for_this_process(make: Callable[[Path], None]) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="dinoclassify."))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    make(folder)
    return folder
