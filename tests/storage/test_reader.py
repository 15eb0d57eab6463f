"""How a file is read: at once if it is small, else only as far as its decoder asks."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dinoclassify.storage.reader import ImageBytes, LocalImage, RefusedError, open_image
from dinoclassify.types.source import Source

MIB = 1 << 20


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("size", [0, 1, 8192, MIB])
def test_a_small_file_is_in_memory_and_closed(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "x").write_bytes(content)
    before = open_files()
    image, signature = open_image(Source(str(tmp_path / "x")))
    assert isinstance(image, ImageBytes)
    assert open_files() == before
    assert image.read() == content
    assert signature == (size, (tmp_path / "x").stat().st_mtime_ns)
    assert 0 <= image.seconds < 10


def test_of_a_large_file_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"%PDF" + bytes(MIB))
    image, signature = open_image(Source(str(tmp_path / "x")))
    with image:
        assert isinstance(image, LocalImage)
        assert image.read(4) == b"%PDF"
        assert image.raw.tell() < 2 * 65536
        assert image.seconds > 0
    assert signature == (MIB + 4, (tmp_path / "x").stat().st_mtime_ns)


@pytest.mark.parametrize("said", [3, 100], ids=["grows", "shrinks"])
def test_a_file_that_changes_while_it_is_opened_is_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: int
) -> None:
    (tmp_path / "x").write_bytes(b"0123456789")
    status = os.stat_result([0o100644, 0, 0, 1, 0, 0, said, 0, 0, 0])
    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", lambda _: status)
        image, signature = open_image(Source(str(tmp_path / "x")))
    with image:
        assert image.read() == b"0123456789"
    assert signature[0] == said, "it differs from that of the file, so the next run reads the file again"


@pytest.mark.parametrize(("make", "message"), [(os.mkdir, "is a folder"), (os.mkfifo, "is not a regular file")])
def test_what_is_no_file_is_refused_and_closed(tmp_path: Path, make: Callable[[Path], None], message: str) -> None:
    make(tmp_path / "x")
    before = open_files()
    with pytest.raises(RefusedError, match=message):
        open_image(Source(str(tmp_path / "x")))
    assert open_files() == before
