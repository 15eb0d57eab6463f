"""The cache keeps itself small: what is no longer used goes, without a word and without waiting for any process.

Only what dinoclassify has made there is ever counted or removed.
"""

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from secrets import token_hex
from typing import Literal
from urllib.parse import quote

from dinoclassify.storage.atomic import is_temporary
from dinoclassify.storage.cache.manifest import DAY, MANIFEST, Stamp, has_manifest, read_stamp
from dinoclassify.storage.lock import NO_LOCKS, flocked
from dinoclassify.system.processor import cpu_identity
from dinoclassify.version import __version__

UNUSED = 90 * DAY
# What this installation cannot use, another environment or another machine with the same home may: if each removed
# what the other needs at once, both would prepare their models over and over. Who needs it uses it within a week.
UNUSABLE = 7 * DAY

_MARKER = "last-sweep"  # its time is that of the last sweep
_PACKAGES = frozenset({"dinoclassify", "nncf", "openvino", "torch", "transformers"})  # keys of a stamp with a version

_Kind = Literal["folder", "leftover", "lock", "features", "file", "temporary"]

_KEPT = r"(?P<folder>.+-[0-9a-f]{8})"
_KINDS: dict[_Kind, re.Pattern[str]] = {
    "folder": re.compile(_KEPT),
    "leftover": re.compile(rf"{_KEPT}\.[^.]+\.new"),  # of a process that was killed
    "lock": re.compile(rf"{_KEPT}\.lock"),
    "features": re.compile(r"features-[0-9a-f]{32}\.sqlite"),
    "file": re.compile(r"digests-[0-9a-f]{32}\.json|" + re.escape(_MARKER)),
}

_SURELY_OURS = re.compile(r".+-[0-9a-f]{32}(-[0-9a-f]{8})+")  # even without a manifest


@dataclass(frozen=True, slots=True)
class Usage:
    """A part of the cache: how many entries, and their bytes."""

    entries: int
    size: int


@dataclass(frozen=True, slots=True)
class Cleared:
    """The entries that were removed, those that other processes are using, and the errors of others."""

    removed: Usage
    in_use: int
    errors: tuple[OSError, ...]


@dataclass(frozen=True, slots=True)
class _Entry:
    """A file or folder in the cache."""

    path: str
    kind: _Kind
    folder: str | None  # the kept folder that it belongs to, whose lock guards it

    @property
    def counts(self) -> bool:
        """Whether it is more than a trace of other entries."""
        return self.kind != "lock" and not self.path.endswith(_MARKER)


def measure(root: Path) -> Usage:
    """The size of the whole cache. Raises OSError if it cannot be read."""
    sizes = [_size(entry.path) for entry in _entries(root) if entry.counts]
    return Usage(len(sizes), sum(sizes))


def clear(root: Path) -> Cleared:
    """Remove every entry that no other process is making or writing. Raises OSError if the cache cannot be read."""
    sizes: list[int] = []
    errors: list[OSError] = []
    in_use = 0
    for entry in sorted(_entries(root), key=lambda entry: entry.kind == "lock"):  # most locks go with their folders
        size = _size(entry.path)
        try:
            is_removed = _remove(entry)
        except FileNotFoundError:  # another process was faster, or it was a lock
            continue
        except OSError as error:
            errors.append(error)
            continue
        if entry.counts and is_removed:
            sizes.append(size)
        elif entry.counts:
            in_use += 1
    return Cleared(Usage(len(sizes), sum(sizes)), in_use, tuple(errors))


def sweep(root: Path) -> None:
    """Remove what was not used for long, at most once a day. Raises nothing.

    An entry goes only if the sweep before would have removed it too. Who comes back after months, or starts a
    container whose image is months old, still finds what is about to be used.
    """
    marker = root / _MARKER
    with suppress(OSError):
        now = time.time()
        try:
            before = os.stat(marker).st_mtime
        except FileNotFoundError:
            before = None
        if before is not None and abs(now - before) < DAY:
            return
        marker.touch()
        for entry in _entries(root):
            with suppress(OSError, ImportError):  # a Python without SQLite
                if _is_over(entry, now=now, before=min(now, before or 0)):
                    _remove(entry)


def set_aside(folder: str) -> str:
    """Give a kept folder the name of a leftover, so that no process can find it half-removed; returns the name."""
    aside = f"{folder}.{token_hex(4)}.new"
    os.rename(folder, aside)
    return aside


def _entries(root: Path) -> Iterator[_Entry]:
    """What dinoclassify has made in the cache."""
    if not root.is_dir():
        return
    with os.scandir(root) as found:
        for entry in found:
            if is_temporary(entry.name):
                yield _Entry(entry.path, "temporary", None)
                continue
            for kind, pattern in _KINDS.items():
                if (match := pattern.fullmatch(entry.name)) is None:
                    continue
                if entry.is_dir(follow_symlinks=False) != (kind in ("folder", "leftover")):
                    continue
                name = match.groupdict().get("folder")
                if kind == "folder" and not (_SURELY_OURS.fullmatch(entry.name) or has_manifest(entry.path)):
                    continue
                if kind == "lock" and _size(entry.path):  # a lock of ours is empty
                    continue
                yield _Entry(entry.path, kind, str(root / name) if name is not None else None)


def _is_over(entry: _Entry, *, now: float, before: float) -> bool:
    """Whether a sweep removes an entry; the last one was at the time ``before``."""
    if entry.kind == "lock":
        return not os.path.lexists(entry.folder or "") and os.stat(entry.path).st_mtime + DAY < now
    if entry.kind in ("leftover", "temporary"):
        return os.stat(entry.path).st_mtime + DAY < now
    used = _last_use(entry)
    if used + UNUSED < before:
        return True
    return entry.kind == "folder" and used + UNUSABLE < before and not _is_usable(read_stamp(entry.path))


def _last_use(entry: _Entry) -> float:
    manifest = os.path.join(entry.path, MANIFEST)
    is_sealed = entry.kind == "folder" and os.path.isfile(manifest)
    return os.stat(manifest if is_sealed else entry.path).st_mtime


def _is_usable(stamp: Stamp | None) -> bool:
    """Whether this installation may use a folder, on this processor; one of an earlier version has no stamp."""
    if stamp is None or stamp.get("processor", cpu_identity()) != cpu_identity():
        return False
    return all(stamp[name] == _installed(name) for name in stamp.keys() & _PACKAGES)


@cache
def _installed(package: str) -> str | None:
    try:
        return __version__ if package == "dinoclassify" else version(package)
    except PackageNotFoundError:
        return None


def _remove(entry: _Entry) -> bool:
    """Remove an entry; False if another process is using it. Raises OSError."""
    if entry.kind == "features":
        return _remove_database(entry.path)
    if entry.folder is None:
        os.unlink(entry.path)
        return True
    with _locked(lock := f"{entry.folder}.lock") as is_free:
        if not is_free:
            return False
        if entry.kind != "lock":
            shutil.rmtree(set_aside(entry.path) if entry.kind == "folder" else entry.path)
        if not os.path.lexists(entry.folder):
            with suppress(FileNotFoundError):
                os.unlink(lock)  # while locked; waiting processes notice the removal
    return True


@contextmanager
def _locked(lock: str) -> Iterator[bool]:
    """Hold a lock without waiting for it; yields False if another process has it, and True where there are no locks."""
    descriptor, is_free = None, True
    try:
        descriptor = flocked(lock, wait=False)
    except BlockingIOError:
        is_free = False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    try:
        yield is_free
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _remove_database(path: str) -> bool:
    """Remove a database; False if another process is writing it. One that reads goes on, and writes no more."""
    import sqlite3  # slow to import, and seldom needed

    try:
        with closing(sqlite3.connect(f"file:{quote(path)}?mode=rw", uri=True, timeout=0)) as database:
            # This plays back the journal of a killed process, which would damage a new database of the same name.
            database.execute("BEGIN EXCLUSIVE")
            os.unlink(path)
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            return False
        with suppress(FileNotFoundError):  # it is damaged, or not ours to read
            os.unlink(f"{path}-journal")
        os.unlink(path)
    return True


def _size(path: str) -> int:
    """The bytes of a file, or of the files in a folder; 0 for what has gone or cannot be read."""
    try:
        if not os.path.isdir(path) or os.path.islink(path):
            return os.lstat(path).st_size
        with os.scandir(path) as entries:
            return sum(_size(entry.path) for entry in entries)
    except OSError:
        return 0
