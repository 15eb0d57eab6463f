"""Digests that are remembered: never those of other content, and never a reason to fail."""

import hashlib
import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dinoclassify.storage.cache import digests
from dinoclassify.storage.cache.digests import known_sha256
from dinoclassify.storage.cache.manifest import sha256


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache_folder: Path) -> list[str]:
    """Two files of weights, which count as old enough to be remembered."""
    monkeypatch.setattr(digests, "_RACY", 0)
    paths = [tmp_path / "model-1.safetensors", tmp_path / "model-2.safetensors"]
    for path in paths:
        path.write_bytes(path.name.encode())
    time.sleep(0.02)  # longer than the ticks of the clock of a file system
    return list(map(str, paths))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read."""
    names: list[str] = []
    real = hashlib.file_digest

    def file_digest(file: Any, name: str) -> Any:
        names.append(os.path.basename(file.name))
        return real(file, name)

    monkeypatch.setattr(hashlib, "file_digest", file_digest)
    return names


def memory_in(cache_folder: Path) -> Path:
    (memory,) = cache_folder.glob("digests-*.json")
    return memory


def test_weights_are_read_once(weights: list[str], read: list[str]) -> None:
    expected = sha256(weights)
    assert known_sha256(weights) == expected
    read.clear()
    assert known_sha256(weights) == expected
    assert read == []


def test_other_content_of_the_same_size_and_time_is_noticed(weights: list[str], read: list[str]) -> None:
    before, status = known_sha256(weights), os.stat(weights[1])
    read.clear()
    with open(weights[1], "r+b") as file:
        file.write(b"MODEL")
    os.utime(weights[1], ns=(status.st_atime_ns, status.st_mtime_ns))
    assert known_sha256(weights) != before
    assert read == ["model-2.safetensors"], "the other one is known"
    assert known_sha256(weights) == sha256(weights)


def test_a_file_that_replaces_another_is_noticed(weights: list[str]) -> None:
    known_sha256(weights)
    shutil.copy2(weights[1], f"{weights[0]}.new")
    os.replace(f"{weights[0]}.new", weights[0])
    assert known_sha256(weights) == sha256(weights)


def test_a_link_to_another_file_is_noticed(weights: list[str], tmp_path: Path, read: list[str]) -> None:
    link = tmp_path / "model.safetensors"
    link.symlink_to(weights[0])
    first = known_sha256([str(link)])
    link.unlink()
    link.symlink_to(weights[1])
    assert known_sha256([str(link)]) == sha256([weights[1]]) != first
    read.clear()
    assert known_sha256([str(link)]) != known_sha256([weights[0]]) == first
    assert read == []


def test_a_file_that_has_just_changed_is_not_remembered(
    weights: list[str], read: list[str], cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "_RACY", 2 * 10**9)
    assert known_sha256(weights) == known_sha256(weights) == sha256(weights)
    assert len(read) == 6
    assert list(cache_folder.iterdir()) == []


def test_a_file_that_changes_while_it_is_read_is_not_remembered(
    weights: list[str], monkeypatch: pytest.MonkeyPatch, cache_folder: Path
) -> None:
    real = hashlib.file_digest

    def file_digest(file: Any, name: str) -> Any:
        digest = real(file, name)
        if file.name == weights[0]:
            with open(weights[0], "r+b") as changed:
                changed.write(b"MODEL")
        return digest

    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", file_digest)
        known_sha256(weights)
    assert list(json.loads(memory_in(cache_folder).read_text())) == [weights[1]]
    assert known_sha256(weights) == sha256(weights)


@pytest.mark.parametrize("content", ["", "[]", "null", "{", '{"a": 1}', "cut", "no digest", "short digest"])
def test_a_damaged_memory_means_reading_again(content: str, weights: list[str], cache_folder: Path) -> None:
    expected = known_sha256(weights)
    memory = memory_in(cache_folder)
    whole = memory.read_text()
    known = json.loads(whole)
    if content == "cut":
        content = whole[:-20]
    elif content.endswith("digest"):
        known[weights[0]][1] = {"no digest": 7, "short digest": "00"}[content]
        content = json.dumps(known)
    memory.write_text(content)
    assert known_sha256(weights) == expected
    assert memory.read_text() == whole, "mended"


def test_a_cache_that_cannot_be_written_means_reading_again(
    weights: list[str], read: list[str], no_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert known_sha256(weights) == known_sha256(weights) == sha256(weights)
    assert len(read) == 6
    assert caplog.messages == []


def test_many_at_once_agree(weights: list[str], cache_folder: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: known_sha256(weights), range(64))) == {sha256(weights)}
    assert list(cache_folder.iterdir()) == [memory_in(cache_folder)]


def test_the_memory_of_a_model_in_use_stays_young(weights: list[str], cache_folder: Path) -> None:
    known_sha256(weights)
    os.utime(memory_in(cache_folder), (0, 0))
    known_sha256(weights)
    assert memory_in(cache_folder).stat().st_mtime > time.time() - 60


def test_a_lost_file_is_an_error(weights: list[str]) -> None:
    known_sha256(weights)
    os.unlink(weights[0])
    with pytest.raises(FileNotFoundError):
        known_sha256(weights)
