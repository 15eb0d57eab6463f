"""Features that are kept between runs."""

import os
import shutil
import sqlite3
from pathlib import Path

import pytest
import torch

from dinoclassify import Encoder
from dinoclassify.types.run_options import RunOptions
from tests.helpers.colours import COLOURS, paint
from tests.helpers.invoke import Invoke
from tests.helpers.trained import weights


def test_features_are_computed_once(here: Path, train: Invoke, tiny: str) -> None:
    train("labelled", "-o", "one")
    paint(Path("labelled/red/0.png"), COLOURS["red"], 1234)
    paint(Path("labelled/red/new.png"), COLOURS["red"], 5)
    code, _, err = train("labelled", "-o", "one", "--force")
    assert code == 0
    assert "25 images: 25 ok; 23 kept" in err
    train("labelled", "-o", "two", "--exact")  # other features
    assert "24 kept" not in err
    assert len(list((here / "cache" / "dinoclassify").glob("features-*.sqlite"))) == 2
    fresh = weights("one")
    shutil.rmtree(here / "cache")
    train("labelled", "-o", "one", "--force")
    kept, anew = (
        torch.frombuffer(bytearray(content[-4 * 64 * 3 :]), dtype=torch.float32) for content in (fresh, weights("one"))
    )
    assert torch.allclose(kept, anew, atol=1e-4)


def test_reading_kept_features_counts_as_their_use(here: Path, train: Invoke) -> None:
    train("labelled", "-o", "one")
    (database,) = (here / "cache" / "dinoclassify").glob("features-*.sqlite")
    os.utime(database, (0, 0))
    train("labelled", "-o", "one", "--force")
    assert database.stat().st_mtime > 0


def test_unwritable_cache_does_not_stop_training(here: Path, train: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "file"))
    code, _, err = train("labelled", "-o", "model")
    assert code == 0
    assert "features cannot be kept in" in err


@pytest.mark.slow
def test_damaged_or_full_cache_does_not_stop_training(
    here: Path, train: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    train("labelled", "-o", "model")
    expected = weights("model")
    (database,) = (here / "cache" / "dinoclassify").glob("features-*.sqlite")
    content = bytearray(database.read_bytes())
    content[4096:] = b"x" * (len(content) - 4096)
    database.write_bytes(content)
    code, _, err = train("labelled", "-o", "model", "--force")
    assert (code, err.count("features cannot be kept in")) == (0, 1)
    assert "malformed" in err
    assert weights("model") == expected

    database.unlink()
    train("labelled", "-o", "model", "--force")
    with sqlite3.connect(database) as connection:
        for number, blob in enumerate((b"", b"abcd", b"\xff" * 256, None)):  # the third is NaN
            connection.execute("UPDATE features SET features = ? WHERE rowid % 4 = ?", (blob, number))
    connection.close()
    code, _, err = train("labelled", "-o", "model", "--force")
    assert (code, "Traceback" in err) == (0, False)
    assert weights("model") == expected

    class Full(sqlite3.Connection):
        def executemany(self, *_: object) -> sqlite3.Cursor:
            raise sqlite3.OperationalError("database or disk is full")

    database.unlink()
    connect = sqlite3.connect
    monkeypatch.setattr("sqlite3.connect", lambda *arguments, **named: connect(*arguments, **named, factory=Full))
    code, _, err = train("labelled", "-o", "model", "--force")
    assert (code, err.count("features cannot be kept in")) == (0, 1)
    assert "disk is full" in err
    assert "Traceback" not in err


def test_cached_features_are_not_used_with_other_limits(here: Path, train: Invoke) -> None:
    train("labelled", "-o", "model")
    code, _, err = train("labelled", "-o", "model", "--force", "--max-pixels", "100")
    assert code == 4
    assert "none of the 24 images can be read, such as labelled/blue/0.png: check where the paths start" in err


def test_stopped_run_keeps_the_features_it_made(here: Path, tiny: str) -> None:
    """The run stops after some batches, whose features are kept."""
    from dinoclassify.training.feature_cache import embed_once

    paths = sorted(str(path) for path in Path("labelled").rglob("*.png"))
    encoder = Encoder(tiny, runtime="torch")
    seen: list[int] = []
    options = RunOptions(batch_size=4, stop=lambda: len(seen) >= 8)
    for number, _, kept in embed_once(encoder, paths, options):
        assert not kept
        seen.append(number)
    assert 8 <= len(seen) < len(paths)
    again = [kept for _, _, kept in embed_once(encoder, paths, RunOptions(batch_size=4))]
    assert again == [True] * len(seen) + [False] * (len(paths) - len(seen))
