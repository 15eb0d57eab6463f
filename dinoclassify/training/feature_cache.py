"""Features that were made before, kept in a database under the user's cache directory, one for each way to make them.

An image is known by its real path, size and modification time, so that one that has changed is embedded again, and a
run that was stopped goes on where it was.
"""

import hashlib
import json
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from dinoclassify.discovery.path_list import listed_source
from dinoclassify.encoder import Encoder
from dinoclassify.storage.cache import cache_root
from dinoclassify.storage.signature import file_signature
from dinoclassify.types.embedding import Embedding
from dinoclassify.types.run_options import RunOptions
from dinoclassify.writers.provenance import versions

T = TypeVar("T")
log = logging.getLogger(__name__)

_TABLE = """
CREATE TABLE IF NOT EXISTS features (path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, features BLOB)
"""
_BUSY = 60  # seconds to wait for another run that writes
_AT_ONCE = 64  # rows that are written together: what a kill can cost


def embed_once(encoder: Encoder, paths: Sequence[str], options: RunOptions) -> Iterator[tuple[int, Embedding, bool]]:
    """One embedding for each path, with the number of the path, and whether it was kept: those that were come first."""
    with closing(_Kept(_place(encoder, options), encoder.width)) as kept:
        missing = []
        for number, path in enumerate(paths):
            if (known := kept.find(path)) is not None:
                yield number, known, True
            else:
                missing.append(number)
        found = len(paths) - len(missing)
        log.info("the features of %s images are there, those of %s are made", f"{found:,}", f"{len(missing):,}")
        if missing:
            sources = (listed_source(paths[number]) for number in missing)
            made = encoder.embed_batches(encoder.decoded(sources, options), options=options)
            for number, embedding in zip(missing, made, strict=False):  # fewer, if it is stopped
                kept.add(embedding)
                yield number, embedding, False


class _Kept:
    """Features in a database. When something is wrong with that, it is said, once, and nothing is kept any more.

    What is added is written some at a time, so that another run which writes too need not wait for an image.
    """

    def __init__(self, place: Path, width: int) -> None:
        self._place, self._width = place, width
        self._added: list[tuple[bytes, int | None, int | None, bytes]] = []
        self._database: sqlite3.Connection | None = None
        self._database = self._trying(self._open)

    def find(self, path: str) -> Embedding | None:
        """The embedding of a file, if it is still what it was."""
        size, mtime_ns = file_signature(path)
        key = (os.fsencode(os.path.realpath(path)), size, mtime_ns)
        found = self._trying(lambda: self._find(key))
        return Embedding(path, found, None, size, mtime_ns) if found is not None else None

    def add(self, embedding: Embedding) -> None:
        """Keep an embedding, if it has features."""
        if embedding.features is not None and self._database is not None:
            path = os.fsencode(os.path.realpath(embedding.path))
            content = embedding.features.astype("<f4").tobytes()
            self._added.append((path, embedding.size, embedding.mtime_ns, content))
        if len(self._added) >= _AT_ONCE:
            self._trying(self._write)

    def close(self) -> None:
        """Write what is left."""
        self._trying(self._write)
        if self._database is not None:
            self._database.close()

    def _trying(self, action: Callable[[], T]) -> T | None:
        try:
            return action()
        except (OSError, sqlite3.Error) as error:
            log.warning("features cannot be kept in %s (%s): make room there, or remove it", self._place, error)
            if self._database is not None:
                self._database.close()
            self._database, self._added = None, []
            return None

    def _open(self) -> sqlite3.Connection:
        self._place.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(self._place, timeout=_BUSY)
        try:
            database.execute(_TABLE)
        except sqlite3.Error:
            database.close()
            raise
        return database

    def _find(self, key: tuple[bytes, int | None, int | None]) -> npt.NDArray[np.float32] | None:
        if self._database is None:
            return None
        query = "SELECT features FROM features WHERE path = ? AND size = ? AND mtime_ns = ?"
        found = self._database.execute(query, key).fetchone()
        if found is None or not isinstance(found[0], bytes) or len(found[0]) != 4 * self._width:
            return None
        features = np.frombuffer(found[0], "<f4").astype(np.float32)
        return features if np.isfinite(features).all() else None

    def _write(self) -> None:
        if self._database is not None:
            with self._database:  # a transaction
                self._database.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?, ?)", self._added)
            self._added.clear()


def _place(encoder: Encoder, options: RunOptions) -> Path:
    """The database of what is made in this way."""
    made_with = {
        "model": encoder.digest(),
        "runtime": encoder.runtime,
        "precision": encoder.precision,
        "exact": options.exact,
        "max_pixels": options.max_pixels,
        "versions": versions(encoder.runtime),
    }
    digest = hashlib.sha256(json.dumps(made_with, sort_keys=True).encode()).hexdigest()
    return cache_root() / f"features-{digest[:32]}.sqlite"
