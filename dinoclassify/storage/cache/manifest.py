"""The manifest of a cached folder: the files that it vouches for, and what their content depends on.

A file whose size, time and inode are those of the manifest is not read again: a network may have gigabytes. The time
of the manifest itself is that of the last use, true to the day.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from dinoclassify.errors import OutputError
from dinoclassify.storage.atomic import fsync_path, is_temporary, replacing

MANIFEST = "manifest.json"
DAY = 86_400.0  # seconds

Stamp = Mapping[str, str]  # what the content of a folder depends on, such as the versions of libraries

_DIGEST = re.compile("[0-9a-f]{64}")
_Record = dict[str, str | int]  # the digest of a file, and what shows that it has not changed


def sha256(paths: Iterable[str | os.PathLike[str]]) -> str:
    """One digest of the contents of several files, in this order."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def seal(folder: Path, stamp: Stamp) -> None:
    """Flush the files of a folder to the disk, and only then write its manifest, so that it never vouches for less."""
    for path in folder.iterdir():
        fsync_path(str(path))
    files = {name: {"sha256": sha256([folder / name]), **facts} for name, facts in _facts(folder).items()}
    (folder / MANIFEST).write_text(_to_json(files, stamp), encoding="utf-8")
    fsync_path(str(folder / MANIFEST))
    with suppress(OSError):  # some file systems cannot flush names; a manifest shows what is missing
        fsync_path(str(folder))


def is_intact(folder: Path, stamp: Stamp) -> bool:
    """Whether the files of a folder are those of its manifest. If so, its use is noted."""
    manifest = folder / MANIFEST
    try:
        with open(manifest, encoding="utf-8") as file:
            used = os.fstat(file.fileno()).st_mtime
            content = json.load(file)
        files, recorded_stamp = _parse(content)
        facts = _facts(folder)
        if files.keys() != facts.keys():
            return False
        changed = [name for name, record in files.items() if record != {"sha256": record["sha256"], **facts[name]}]
        if any(files[name].get("size", facts[name]["size"]) != facts[name]["size"] for name in changed):
            return False
        if any(files[name]["sha256"] != sha256([folder / name]) for name in changed):
            return False
    except (OSError, ValueError):
        return False
    if changed or recorded_stamp is None:  # copied or restored, or by an earlier version
        with suppress(OSError, OutputError), replacing(str(manifest)) as new:
            new.write(_to_json({name: files[name] | facts[name] for name in files}, stamp).encode())
    else:
        note_use(manifest, used)
    return True


def note_use(path: str | os.PathLike[str], last: float) -> None:
    """Give a file the present time if its ``last`` use was a day ago or more; nothing happens if that fails."""
    if abs(time.time() - last) >= DAY:
        with suppress(OSError):
            os.utime(path)


def read_stamp(folder: str) -> Stamp | None:
    """The stamp that a folder was made for; None if its manifest is damaged, or of an earlier version."""
    try:
        return _read(folder)[1]
    except (OSError, ValueError):
        return None


def recorded_digest(folder: Path) -> str:
    """One digest of the files of a folder, as its manifest has them: no file is read. Raises OSError or ValueError."""
    files, _ = _read(folder)
    digests = {name: record["sha256"] for name, record in files.items()}
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def has_manifest(folder: str) -> bool:
    """Whether a folder has a manifest of this module, and not another file of that name."""
    try:
        _read(folder)
    except (OSError, ValueError):
        return False
    return True


def _facts(folder: Path) -> dict[str, _Record]:
    """What shows, without reading a file, that it has not changed."""
    facts: dict[str, _Record] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name != MANIFEST and not is_temporary(entry.name):  # another process may write the manifest
                status = entry.stat()
                facts[entry.name] = {
                    "size": status.st_size,
                    "mtime_ns": status.st_mtime_ns,
                    "inode": status.st_ino,
                }
    return facts


def _read(folder: str | os.PathLike[str]) -> tuple[dict[str, _Record], Stamp | None]:
    """The files and the stamp in the manifest of a folder; raises OSError or ValueError."""
    with open(os.path.join(folder, MANIFEST), encoding="utf-8") as file:
        return _parse(json.load(file))


def _to_json(files: Mapping[str, _Record], stamp: Stamp) -> str:
    return json.dumps({"stamp": dict(stamp), "files": files})


def _parse(content: Any) -> tuple[dict[str, _Record], Stamp | None]:  # JSON has any type
    """The files and the stamp of a manifest; raises ValueError if it is damaged."""
    try:
        if content and all(_DIGEST.fullmatch(str(value)) for value in content.values()):  # of an earlier version
            return {name: {"sha256": digest} for name, digest in content.items()}, None
        files, stamp = content["files"], content["stamp"]
        if all("sha256" in record for record in files.values()) and isinstance(stamp, dict):
            return {name: dict(record) for name, record in files.items()}, stamp
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError("no manifest") from error
    raise ValueError("no manifest")
