"""Whether an input is certainly gone, so that its row may be removed."""

import errno
import os
import zipfile
from pathlib import Path

import pytest

from dinoclassify.discovery.existence import is_gone
from tests.helpers.image_tree import ALL


def test_a_file_is_gone_if_its_folder_lists_other_files(tree: Path) -> None:
    assert all(map(is_gone, ["photos/x.jpg", f"{tree}/photos/x.jpg", "x.jpg", "photos/2025/a/b.jpg", "gone/x.jpg"]))
    assert is_gone("photos/b.jpg/x.jpg"), "a file has taken the place of its folder"
    assert is_gone("photos/2024"), "which had a row while it could not be read"
    Path("photos/broken.jpg").symlink_to("gone")
    assert not any(map(is_gone, [*ALL, "photos/.hidden.jpg", "photos/broken.jpg"]))
    os.unlink("photos/b.jpg")
    assert is_gone("photos/b.jpg")


def test_a_name_that_is_not_utf8_is_found_as_its_row_shows_it(tree: Path) -> None:
    Path("photos/bad\udcff.jpg").touch()
    assert not is_gone("photos/bad\\xff.jpg")
    assert is_gone("photos/bad\\xfe.jpg")


def test_a_file_is_not_gone_if_a_mount_may_be_missing(tree: Path) -> None:
    Path("photos/mnt").mkdir()
    Path("photos/link").symlink_to("/nowhere/at/all")
    Path("photos/hidden").mkdir()
    Path("photos/hidden/.keep").touch()
    for folder in ("mnt", "link", "hidden"):
        assert not is_gone(f"photos/{folder}/x.jpg")
        assert not is_gone(f"photos/{folder}/2024/x.jpg")
    Path("photos/mnt").rmdir()
    assert is_gone("photos/mnt/2024/x.jpg"), "its folder is gone, too"


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ELOOP])
@pytest.mark.parametrize("call", ["lstat", "scandir"])
def test_a_file_is_not_gone_if_the_system_reports_another_error(
    tree: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    assert is_gone("photos/x.jpg")
    monkeypatch.setattr(os, call, fail)
    assert not is_gone("photos/x.jpg")


def test_a_name_that_is_too_long_is_not_gone(tree: Path) -> None:
    assert not is_gone(f"photos/{'x' * 300}.jpg")


def test_a_member_is_gone_if_its_archive_can_be_read_without_it(tree: Path) -> None:
    for name in ("a.zip", "damaged.zip"):
        with zipfile.ZipFile(name, "w") as archive:
            archive.writestr("in.jpg", b"x")
    Path("damaged.zip").write_bytes(Path("damaged.zip").read_bytes()[:40])
    Path("a.tar.gz").touch()
    Path("mnt").mkdir()
    assert is_gone("a.zip!out.jpg")
    assert is_gone("gone.zip!in.jpg")
    assert is_gone("gone.tar.gz!in.jpg")
    assert is_gone("gone.parquet!17")
    kept = ["a.zip!in.jpg", "damaged.zip!in.jpg", "damaged.zip!out.jpg", "a.tar.gz!out.jpg", "mnt/gone.zip!in.jpg"]
    assert not any(map(is_gone, kept))


def test_nothing_is_gone_where_nothing_can_be_listed(tree: Path) -> None:
    assert not is_gone("https://127.0.0.1:1/x.jpg")
    assert not is_gone("nosuch://x/y.jpg")
