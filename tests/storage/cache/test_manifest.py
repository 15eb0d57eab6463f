"""The manifest of a cached folder: quick to check, and never wrong about its files."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dinoclassify.errors import OutputError
from dinoclassify.storage import atomic
from dinoclassify.storage.cache.folder import find_kept, kept_folder
from dinoclassify.storage.cache.manifest import read_stamp, sha256

STAMP = {"torch": "2.8"}
DAY = 86_400


@pytest.fixture
def kept(cache_folder: Path) -> Path:
    """A kept folder of two files."""
    return kept_folder("a", STAMP, write_two)


def write_two(folder: Path) -> None:
    (folder / "network.xml").write_text("<xml>")
    (folder / "network.bin").write_bytes(b"weights")


@pytest.fixture
def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read for their digest."""
    reads: list[str] = []

    def count_and_read(paths: list[Path]) -> str:
        reads.extend(path.name for path in paths)
        return sha256(paths)

    monkeypatch.setattr("dinoclassify.storage.cache.manifest.sha256", count_and_read)
    return reads


def test_a_folder_that_has_not_changed_is_used_without_reading_its_files(kept: Path, count_reads: list[str]) -> None:
    assert find_kept("a", STAMP) == kept
    assert kept_folder("a", STAMP, lambda _: pytest.fail("it is there")) == kept
    assert count_reads == []


def test_a_restored_folder_is_read_once_and_then_known(kept: Path, count_reads: list[str]) -> None:
    copy = shutil.copytree(kept, kept.parent / "copy", copy_function=shutil.copyfile)  # other inodes and times
    shutil.rmtree(kept)
    copy.rename(kept)
    assert find_kept("a", STAMP) == kept
    assert sorted(count_reads) == ["network.bin", "network.xml"]
    count_reads.clear()
    assert find_kept("a", STAMP) == kept
    assert count_reads == []
    assert sorted(os.listdir(kept)) == ["manifest.json", "network.bin", "network.xml"]


def test_a_restored_folder_that_cannot_be_written_is_used(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def refuse(path: str) -> Iterator[None]:
        raise OutputError(f"cannot write {path}")
        yield

    monkeypatch.setattr("dinoclassify.storage.cache.manifest.replacing", refuse)
    os.utime(kept / "network.bin", (0, 0))
    assert find_kept("a", STAMP) == kept


def test_a_file_of_another_size_is_damage_without_reading_it(kept: Path, count_reads: list[str]) -> None:
    (kept / "network.bin").write_bytes(b"weigh")
    assert find_kept("a", STAMP) is None
    assert count_reads == []


@pytest.mark.parametrize("damage", ["changed", "lost", "added"])
def test_a_damaged_folder_is_made_anew(damage: str, kept: Path) -> None:
    if damage == "changed":
        (kept / "network.bin").write_bytes(b"WEIGHTS")
    elif damage == "lost":
        (kept / "network.bin").unlink()
    else:
        (kept / "more").touch()
    assert find_kept("a", STAMP) is None
    assert kept_folder("a", STAMP, write_two) == kept
    assert (kept / "network.bin").read_bytes() == b"weights"
    assert find_kept("a", STAMP) == kept


@pytest.mark.parametrize(
    "manifest",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"files": 1, "stamp": {}}',
        '{"files": {"network.bin": "x", "network.xml": "y"}, "stamp": {}}',
        '{"files": {"network.bin": {}, "network.xml": {}}, "stamp": {}}',
        '{"files": {"network.bin": {"sha256": 1}, "network.xml": {"sha256": null}}, "stamp": 3}',
    ],
)
def test_a_damaged_manifest_vouches_for_nothing(manifest: str, kept: Path) -> None:
    (kept / "manifest.json").write_text(manifest)
    assert find_kept("a", STAMP) is None
    assert kept_folder("a", STAMP, write_two) == kept
    assert find_kept("a", STAMP) == kept


def test_a_manifest_of_an_earlier_version_counts_and_gets_a_stamp(kept: Path, count_reads: list[str]) -> None:
    digests = {path.name: sha256([path]) for path in kept.iterdir() if path.name != "manifest.json"}
    (kept / "manifest.json").write_text(json.dumps(digests))
    assert read_stamp(str(kept)) is None
    assert find_kept("a", STAMP) == kept
    assert read_stamp(str(kept)) == STAMP
    count_reads.clear()
    assert find_kept("a", STAMP) == kept
    assert count_reads == []


def test_files_are_on_the_disk_before_the_manifest_that_vouches_for_them(
    cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[tuple[str, bool]] = []

    def fsync_path(path: str) -> None:
        folder = path if os.path.isdir(path) else os.path.dirname(path)
        is_new = folder.endswith(".new")
        flushed.append((os.path.basename(path) if path != folder else "", "manifest.json" in os.listdir(folder)))
        assert is_new, "before the folder has its name"
        atomic.fsync_path(path)

    monkeypatch.setattr("dinoclassify.storage.cache.manifest.fsync_path", fsync_path)
    kept = kept_folder("a", STAMP, write_two)
    assert sorted(flushed[:2]) == [("network.bin", False), ("network.xml", False)]
    assert flushed[2:] == [("manifest.json", True), ("", True)]
    assert read_stamp(str(kept)) == STAMP


def test_a_full_disk_found_in_flushing_leaves_no_folder_behind(
    cache_folder: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dinoclassify.storage.cache.manifest.fsync_path", fail)
    kept = kept_folder("a", STAMP, write_two)
    assert kept.parent == temporary
    assert (kept / "network.bin").read_bytes() == b"weights"
    assert [name for name in os.listdir(cache_folder) if not name.endswith(".lock")] == []


def test_the_time_of_the_last_use_is_kept_to_the_day(kept: Path) -> None:
    manifest, now = kept / "manifest.json", time.time()
    for age, is_noted in ((0.9, False), (1.1, True), (400.0, True), (-400.0, True)):
        os.utime(manifest, (now - age * DAY,) * 2)
        assert find_kept("a", STAMP) == kept
        assert (abs(manifest.stat().st_mtime - now) < 60) == is_noted
