"""Digests of large files, remembered, so that no start of the program hashes gigabytes that it has hashed before.

A file is known by its real path, size, times, inode and device. Its change time cannot be set back, so a file with new
content is never taken for the old one. Each list of files has a memory of its own, written whole: two processes at
once may only lose what the other remembers, and then it is hashed again.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from dinoclassify.errors import OutputError
from dinoclassify.storage.atomic import replacing
from dinoclassify.storage.cache.folder import cache_root
from dinoclassify.storage.cache.manifest import note_use

_RACY = 2 * 10**9  # ns: a file can change again at the same time, by the clock of its file system

_Facts = list[int]


def known_sha256(paths: Iterable[str]) -> str:
    """As `storage.cache.manifest.sha256`, but only files that are new or may have changed are read."""
    files = [os.path.realpath(path) for path in paths]
    memory = cache_root() / f"digests-{hashlib.sha256(json.dumps(files).encode()).hexdigest()[:32]}.json"
    known = _read(memory)
    kept: dict[str, tuple[_Facts, str]] = {}
    digest = hashlib.sha256()
    for path in files:
        started, facts = time.time_ns(), _facts(path)
        remembered = known.get(path)
        if remembered is not None and remembered[0] == facts:
            kept[path] = remembered
            digest.update(bytes.fromhex(remembered[1]))
            continue
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, "sha256")
        if started - max(facts[1:3]) >= _RACY and facts == _facts(path):
            kept[path] = facts, content.hexdigest()
        digest.update(content.digest())
    if kept != known:
        _write(memory, kept)
    return digest.hexdigest()


def _facts(path: str) -> _Facts:
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _read(memory: Path) -> dict[str, tuple[_Facts, str]]:
    """What is remembered; nothing if there is no memory, or it is damaged."""
    try:
        with open(memory, encoding="utf-8") as file:
            note_use(memory, os.fstat(file.fileno()).st_mtime)
            known = {path: (facts, digest) for path, (facts, digest) in json.load(file).items()}
            if all(len(bytes.fromhex(digest)) == hashlib.sha256().digest_size for _, digest in known.values()):
                return known
    except (OSError, ValueError, TypeError, AttributeError):
        pass
    return {}


def _write(memory: Path, known: Mapping[str, tuple[_Facts, str]]) -> None:
    with suppress(OSError, OutputError):  # the cache is full, or read-only
        memory.parent.mkdir(parents=True, exist_ok=True)
        with replacing(str(memory)) as file:
            file.write(json.dumps(known).encode())
