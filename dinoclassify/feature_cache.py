"""Features that were made before, kept in a database under the user's cache directory, one for each way to make them.

A picture is known by its real path, size and modification time, so that one that has changed is embedded again, and a
run that was stopped goes on where it was.
"""

import hashlib
import json
import logging
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from platformdirs import user_cache_path

import dinoclassify
from dinoclassify.discover import Source
from dinoclassify.earlier import signature
from dinoclassify.embeddings import Embedding
from dinoclassify.encoder import Encoder
from dinoclassify.errors import OutputError
from dinoclassify.loaded import Run

log = logging.getLogger(__name__)

_TABLE = """
CREATE TABLE IF NOT EXISTS features (path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, features BLOB)
"""
_BUSY = 60  # seconds to wait for another run that writes
_AT_ONCE = 64  # rows that are written together: what a kill can cost

_Row = tuple[bytes, int | None, int | None, bytes]  # real path, size, mtime_ns, little-endian float32


def embed_once(encoder: Encoder, paths: Sequence[str], run: Run) -> Iterator[tuple[int, Embedding, bool]]:
    """One embedding for each path, with the number of the path, and whether it was kept: those that were come first.

    Where nothing can be kept, all are made.
    """
    with closing(_open(_place(encoder, run))) as database:
        missing = []
        for number, path in enumerate(paths):
            if (known := _find(database, path)) is not None:
                yield number, known, True
            else:
                missing.append(number)
        kept = len(paths) - len(missing)
        log.info("the features of %s pictures are there, those of %s are made", f"{kept:,}", f"{len(missing):,}")
        if missing:
            made = encoder.embed((Source(paths[number]) for number in missing), **run)
            for number, embedding in zip(missing, _keeping(made, database), strict=False):  # fewer, if it is stopped
                yield number, embedding, False


def _keeping(made: Iterator[Embedding], database: sqlite3.Connection) -> Iterator[Embedding]:
    """The same embeddings; those that succeed are kept."""
    rows: list[_Row] = []
    try:
        for embedding in made:
            if embedding.features is not None:
                path = os.fsencode(os.path.realpath(embedding.path))
                rows.append((path, embedding.size, embedding.mtime_ns, embedding.features.astype("<f4").tobytes()))
            if len(rows) == _AT_ONCE:
                _keep(rows, database)
                rows.clear()
            yield embedding
    finally:
        _keep(rows, database)


def _keep(rows: Sequence[_Row], database: sqlite3.Connection) -> None:
    try:
        with database:  # a transaction, short enough that another run, which writes too, need not wait for a picture
            database.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?, ?)", rows)
    except sqlite3.Error as error:
        raise OutputError(f"cannot keep features in {_folder()} ({error}): make room there") from error


def _find(database: sqlite3.Connection, path: str) -> Embedding | None:
    size, mtime_ns = signature(path)
    row = (os.fsencode(os.path.realpath(path)), size, mtime_ns)
    found = database.execute(
        "SELECT features FROM features WHERE path = ? AND size = ? AND mtime_ns = ?", row
    ).fetchone()
    if found is None:
        return None
    return Embedding(path, np.frombuffer(found[0], "<f4").astype(np.float32), None, size, mtime_ns)


def _place(encoder: Encoder, run: Run) -> Path:
    """The database of what is made in this way."""
    made_with = {
        "dinoclassify": dinoclassify.__version__,
        "model": encoder.digest(),
        "runtime": encoder.runtime,
        "precision": encoder.precision,
        "exact": run.get("exact", False),
        "decoder": run.get("decoder", "cpu"),
    }
    digest = hashlib.sha256(json.dumps(made_with, sort_keys=True).encode()).hexdigest()
    return _folder() / f"features-{digest[:32]}.sqlite"


def _folder() -> Path:
    return user_cache_path("dinoclassify")


def _open(place: Path) -> sqlite3.Connection:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(place, timeout=_BUSY)
        database.execute(_TABLE)
        database.execute("SELECT path FROM features LIMIT 1")
    except (OSError, sqlite3.Error) as error:
        log.warning("features cannot be kept in %s (%s): they are made anew", place, error)
        database = sqlite3.connect("")
        database.execute(_TABLE)
    return database
