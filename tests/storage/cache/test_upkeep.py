"""The cache keeps itself small, and loses nothing that a run needs."""

import errno
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import pytest

from dinoclassify.storage.cache.folder import find_kept, kept_folder
from dinoclassify.storage.cache.manifest import Stamp
from dinoclassify.storage.cache.upkeep import UNUSABLE, UNUSED, clear, measure, sweep
from dinoclassify.storage.lock import flocked
from dinoclassify.system.processor import cpu_identity
from dinoclassify.version import __version__
from tests.conftest import Refuse

DAY = 86_400
MINE = {"dinoclassify": __version__, "torch": version("torch"), "processor": cpu_identity()}
OTHER_VERSION = {**MINE, "torch": "0.1"}
OTHER_PROCESSOR = {**MINE, "processor": "an abacus"}
HEX = "0123456789abcdef" * 2


def age(path: Path, days: float) -> None:
    moment = time.time() - days * DAY
    os.utime(path, (moment, moment))


def write_made(folder: Path) -> None:
    (folder / "made").write_bytes(bytes(1000))


def keep(name: str, stamp: Stamp = MINE, *, unused: float) -> Path:
    """A kept folder of 1,000 bytes that was last used so many days ago."""
    folder = kept_folder(name, stamp, write_made)
    age(folder / "manifest.json", unused)
    return folder


def swept(root: Path, days_ago: float) -> None:
    """The last sweep was so many days ago."""
    (root / "last-sweep").touch()
    age(root / "last-sweep", days_ago)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "last-sweep")


def test_what_was_not_used_for_90_days_goes(cache_folder: Path) -> None:
    old, young = keep("old", unused=93), keep("young", unused=85)
    for name, days in (("features-" + HEX + ".sqlite", 93), ("digests-" + HEX + ".json", 93)):
        (cache_folder / name).touch()
        age(cache_folder / name, days)
    (cache_folder / f"digests-{HEX[::-1]}.json").touch()
    swept(cache_folder, 2)
    sweep(cache_folder)
    assert not old.exists()
    assert names_in(cache_folder) == [f"digests-{HEX[::-1]}.json", young.name, f"{young.name}.lock"]


@pytest.mark.parametrize(
    "stamp", [OTHER_VERSION, {**MINE, "dinoclassify": "0.0"}, {**MINE, "nncf": "0.1"}, OTHER_PROCESSOR]
)
def test_what_others_made_goes_a_week_after_its_last_use(stamp: Stamp, cache_folder: Path) -> None:
    old, recent, mine = keep("old", stamp, unused=10), keep("recent", stamp, unused=6), keep("mine", unused=80)
    swept(cache_folder, 2)
    sweep(cache_folder)
    assert [folder.exists() for folder in (old, recent, mine)] == [False, True, True]


@pytest.mark.parametrize("manifest", ['{"made": "0123"}', "{", None])
def test_a_folder_of_an_earlier_or_damaged_cache_goes_after_a_week(manifest: str | None, cache_folder: Path) -> None:
    folder = keep(f"openvino-{HEX}", unused=0)
    if manifest is None:
        (folder / "manifest.json").unlink()
        age(folder, 10)
    else:
        (folder / "manifest.json").write_text(manifest)
        age(folder / "manifest.json", 10)
    swept(cache_folder, 2)
    sweep(cache_folder)
    assert names_in(cache_folder) == []


@pytest.mark.parametrize("last_sweep", [None, 200])
def test_who_comes_back_after_months_finds_the_cache_as_it_was(last_sweep: int | None, cache_folder: Path) -> None:
    needed, needless = keep("needed", unused=200), keep("needless", OTHER_VERSION, unused=200)
    if last_sweep is None:
        (cache_folder / "last-sweep").unlink()
    else:
        swept(cache_folder, last_sweep)
    sweep(cache_folder)
    assert needless.exists()
    assert find_kept("needed", MINE) == needed
    swept(cache_folder, 1.5)  # tomorrow
    sweep(cache_folder)
    assert [needed.exists(), needless.exists()] == [True, False]


def test_a_clock_that_is_years_ahead_for_a_day_costs_nothing(
    cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = keep("kept", unused=3)
    swept(cache_folder, 2)
    now = time.time()
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: now + 9000 * DAY)
        sweep(cache_folder)
    swept(cache_folder, -9000)
    sweep(cache_folder)
    assert kept.exists()


def test_a_run_sweeps_when_it_uses_the_cache_and_at_most_once_a_day(
    cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = keep("old", unused=93)
    for days_ago, is_swept in ((0.5, False), (1.5, True)):
        swept(cache_folder, days_ago)
        monkeypatch.setattr("dinoclassify.storage.cache.folder._swept", set())
        assert keep("used", unused=0).exists()
        assert old.exists() != is_swept


def test_remains_of_killed_processes_go_after_a_day_unless_their_lock_is_held(cache_folder: Path) -> None:
    left, held, fresh = (cache_folder / f"{name}-0123abcd.x_y.new" for name in ("left", "held", "fresh"))
    for folder in (left, held, fresh):
        folder.mkdir()
        (folder / "half").touch()
        age(folder, 0.5 if folder is fresh else 2)
    for name in ("gone-0123abcd.lock", f".0123abcd-{HEX[:16]}.dinoclassify.tmp"):
        (cache_folder / name).touch()
        age(cache_folder / name, 2)
    descriptor = flocked(str(cache_folder / "held-0123abcd.lock"), wait=False)
    sweep(cache_folder)
    os.close(descriptor)
    assert names_in(cache_folder) == [fresh.name, "held-0123abcd.lock", held.name]


def test_what_others_put_into_the_folder_stays(cache_folder: Path) -> None:
    for name in ("hf/model-0123abcd", "photos-20240101", f"features-{HEX}.sqlite", "notes-20240101.new"):
        (cache_folder / name).mkdir(parents=True)
        age(cache_folder / name, 400)
    for name in ("notes.txt", "digests.json", "a-20240101"):
        (cache_folder / name).touch()
        age(cache_folder / name, 400)
    for content in ("{}", '{"name": "a web app"}', "["):
        folder = cache_folder / f"app{len(content)}-20240101"
        folder.mkdir()
        (folder / "manifest.json").write_text(content)
        age(folder, 400)
    (cache_folder / "notes-20240101.lock").write_text("a note")
    before = names_in(cache_folder)
    swept(cache_folder, 2)
    sweep(cache_folder)
    assert clear(cache_folder).removed.entries == measure(cache_folder).entries == 0
    assert names_in(cache_folder) == before


def test_a_sweep_that_is_killed_leaves_no_half_folder_in_use(
    cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep("old", unused=93)
    swept(cache_folder, 2)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda path: None)  # killed before it
        sweep(cache_folder)
    (left,) = cache_folder.glob("*.new")
    assert find_kept("old", MINE) is None
    age(left, 2)
    swept(cache_folder, 2)
    sweep(cache_folder)
    assert names_in(cache_folder) == []


def test_a_folder_that_another_process_is_making_stays(cache_folder: Path) -> None:
    code = """
import sys, time
from dinoclassify.storage.cache.folder import kept_folder
def make(folder):
    (folder / "made").touch()
    print("making", flush=True)
    time.sleep(60)
kept_folder("slow", {}, make)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "making\n"
        (new,) = cache_folder.glob("*.new")
        age(new, 2)
        sweep(cache_folder)
        assert (clear(cache_folder).in_use, new.exists()) == (1, True)
        process.send_signal(signal.SIGKILL)
    assert clear(cache_folder).removed.entries == 1
    assert list(cache_folder.iterdir()) == []


def test_many_sweeps_at_once_end_well(cache_folder: Path) -> None:
    for number in range(20):
        keep(f"old-{number}", unused=93)
    swept(cache_folder, 2)
    with ThreadPoolExecutor(8) as pool:
        for task in [pool.submit(function, cache_folder) for function in (clear, sweep) * 8]:
            task.result()
    assert names_in(cache_folder) == []


def test_a_sweep_raises_nothing(no_cache: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep(no_cache.parent / "file" / "dinoclassify")
    sweep(cache_folder / "missing")
    keep("old", unused=93)
    swept(cache_folder, 2)
    monkeypatch.setattr(os, "rename", lambda *_: (_ for _ in ()).throw(PermissionError(errno.EACCES, "no")))
    sweep(cache_folder)


def test_files_without_locks_are_swept_too(cache_folder: Path, refuse_locks: Refuse) -> None:
    refuse_locks(errno.ENOLCK)
    old = keep("old", unused=93)
    swept(cache_folder, 2)
    sweep(cache_folder)
    assert not old.exists()


def test_clearing_removes_all_entries_and_counts_their_bytes(cache_folder: Path) -> None:
    for number in range(3):
        keep(str(number), unused=0)
    (cache_folder / f"digests-{HEX}.json").write_bytes(bytes(50))
    share = measure(cache_folder)
    assert share.entries == 4
    assert 3050 < share.size < 4500, "with the manifests"
    cleared = clear(cache_folder)
    assert (cleared.removed, cleared.in_use, cleared.errors) == (share, 0, ())
    assert list(cache_folder.iterdir()) == []
    assert measure(cache_folder).entries == clear(cache_folder).removed.entries == 0


def test_clearing_goes_on_after_an_error(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck, free = keep("stuck", unused=0), keep("free", unused=0)
    rename = os.rename

    def refuse(source: str, target: str) -> None:
        if "stuck" in source:
            raise PermissionError(errno.EACCES, "Permission denied", source)
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    cleared = clear(cache_folder)
    assert (cleared.removed.entries, [error.filename for error in cleared.errors]) == (1, [str(stuck)])
    assert [stuck.exists(), free.exists()] == [True, False]


def test_a_database_that_a_run_is_writing_stays(cache_folder: Path) -> None:
    place = cache_folder / f"features-{HEX}.sqlite"
    with closing(sqlite3.connect(place, isolation_level=None)) as database:
        database.execute("CREATE TABLE t (x)")
        database.execute("BEGIN IMMEDIATE")
        assert clear(cache_folder).in_use == 1
        assert place.exists()
        database.execute("COMMIT")
    assert clear(cache_folder).removed.entries == 1
    assert list(cache_folder.iterdir()) == []


def test_the_journal_of_a_killed_run_goes_with_its_database(cache_folder: Path) -> None:
    place = cache_folder / f"features-{HEX}.sqlite"
    code = """
import os, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA cache_size = 1")
database.execute("CREATE TABLE t (x)")
database.execute("BEGIN")
for _ in range(500):
    database.execute("INSERT INTO t VALUES (randomblob(1000))")
os._exit(1)
"""
    subprocess.run([sys.executable, "-c", code, str(place)])
    assert place.with_name(f"{place.name}-journal").exists()
    assert clear(cache_folder).removed.entries == 1
    assert list(cache_folder.iterdir()) == []


def test_a_damaged_database_is_removed(cache_folder: Path) -> None:
    place = cache_folder / f"features-{HEX}.sqlite"
    place.write_bytes(b"no database" * 1000)
    place.with_name(f"{place.name}-journal").touch()
    assert clear(cache_folder).errors == ()
    assert list(cache_folder.iterdir()) == []


def test_the_time_to_keep_is_that_of_the_guide() -> None:
    assert (UNUSED, UNUSABLE) == (90 * DAY, 7 * DAY)
