"""A cache of features in the user's cache directory: one SQLite database for each model and way to run it.

The key is an image's real path, size and modification time: a changed image is embedded again, and an interrupted run
continues where it stopped.
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
from dinoclassify.storage.cache.folder import cache_root
from dinoclassify.storage.cache.manifest import note_use
from dinoclassify.storage.signature import file_signature
from dinoclassify.types.embedding import Embedding
from dinoclassify.types.run_options import RunOptions
from dinoclassify.writers.provenance import versions

T = TypeVar("T")
log = logging.getLogger(__name__)

_TABLE = """
CREATE TABLE IF NOT EXISTS features (path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, features BLOB)
"""
_BUSY = 60  # seconds to wait while another run writes
_AT_ONCE = 64  # rows a transaction: the most that a kill can lose


def embed_once(encoder: Encoder, paths: Sequence[str], options: RunOptions) -> Iterator[tuple[int, Embedding, bool]]:
    """Yield the index of each path, its embedding, and whether that was cached; cached ones come first."""
    with closing(_FeatureCache(_place(encoder, options), encoder.width)) as cache:
        missing = []
        for number, path in enumerate(paths):
            if (cached := cache.find(path)) is not None:
                yield number, cached, True
            else:
                missing.append(number)
        hits = len(paths) - len(missing)
        log.info("%s images have features from an earlier run, %s are computed", f"{hits:,}", f"{len(missing):,}")
        if missing:
            sources = (listed_source(paths[number]) for number in missing)
            embeddings = encoder.embed_batches(encoder.decoded(sources, options), options=options)
            for number, embedding in zip(missing, embeddings, strict=False):  # fewer if the run is interrupted
                cache.add(embedding)
                yield number, embedding, False


class _FeatureCache:
    """Features in a database. The first error is logged as a warning, and turns the cache off.

    Rows are written in batches: no transaction stays open during inference, so two runs can write to the cache.
    """

    def __init__(self, place: Path, width: int) -> None:
        self._place, self._width = place, width
        self._added: list[tuple[bytes, int | None, int | None, bytes]] = []
        self._database: sqlite3.Connection | None = None
        self._database = self._trying(self._open)

    def find(self, path: str) -> Embedding | None:
        """The cached embedding of a file; None if there is none or the file has changed."""
        size, mtime_ns = file_signature(path)
        key = (os.fsencode(os.path.realpath(path)), size, mtime_ns)
        features = self._trying(lambda: self._find(key))
        return Embedding(path, features, None, size, mtime_ns) if features is not None else None

    def add(self, embedding: Embedding) -> None:
        """Add an embedding unless it has failed."""
        if embedding.features is not None and self._database is not None:
            path = os.fsencode(os.path.realpath(embedding.path))
            content = embedding.features.astype("<f4").tobytes()
            self._added.append((path, embedding.size, embedding.mtime_ns, content))
        if len(self._added) >= _AT_ONCE:
            self._trying(self._write)

    def close(self) -> None:
        """Write the pending rows and close the database."""
        self._trying(self._write)
        if self._database is not None:
            self._database.close()

    def _trying(self, action: Callable[[], T]) -> T | None:
        """The result of ``action``; None if it fails, and then the cache is off."""
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
            note_use(self._place, self._place.stat().st_mtime)  # reading does not change the time of a file
        except sqlite3.Error:
            database.close()
            raise
        return database

    def _find(self, key: tuple[bytes, int | None, int | None]) -> npt.NDArray[np.float32] | None:
        if self._database is None:
            return None
        query = "SELECT features FROM features WHERE path = ? AND size = ? AND mtime_ns = ?"
        row = self._database.execute(query, key).fetchone()
        if row is None or not isinstance(row[0], bytes) or len(row[0]) != 4 * self._width:
            return None
        features = np.frombuffer(row[0], "<f4").astype(np.float32)
        return features if np.isfinite(features).all() else None

    def _write(self) -> None:
        if self._database is not None:
            with self._database:  # a transaction
                self._database.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?, ?)", self._added)
            self._added.clear()


def _place(encoder: Encoder, options: RunOptions) -> Path:
    """The database for the features of this model, run in this way."""
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
