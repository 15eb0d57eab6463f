"""Uploads to a store and downloads from it."""

from pathlib import Path

import pytest

from dinoclassify.errors import OutputError, UsageError
from dinoclassify.storage.remote import filesystem, object_store, opening
from tests.helpers.objects import write
from tests.helpers.servers import Store


def test_an_uploaded_file_can_be_downloaded(store: Store, tmp_path: Path) -> None:
    store.put("other", b"")
    local, url = tmp_path / "rows.csv", "s3://bucket/out/rows of today.csv"
    local.write_bytes(b"path,status\n")
    assert not object_store.exists(url)
    filesystem.upload(str(local), url)
    assert store.get("out/rows of today.csv") == b"path,status\n"
    assert object_store.exists(url)
    assert filesystem.download(url, str(tmp_path / "back.csv"))
    assert (tmp_path / "back.csv").read_bytes() == b"path,status\n"
    write(url, b"")
    assert filesystem.download(url, str(tmp_path / "back.csv"))
    assert (tmp_path / "back.csv").read_bytes() == b""
    fs, path = opening.filesystem(url)
    fs.rm_file(path)
    assert store.keys() == ["other"]
    assert not filesystem.download(url, str(tmp_path / "none.csv"))
    assert not (tmp_path / "none.csv").exists()


def test_a_failed_write_is_reported_in_one_line(store: Store, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"^cannot write s3://nowhere/a.csv: The specified bucket does not exist$"):
        write("s3://nowhere/a.csv", b"")
    with pytest.raises(OutputError, match=r"^cannot write s3://bucket/a.csv: No such file or directory$"):
        filesystem.upload(str(tmp_path / "none"), "s3://bucket/a.csv")
    store.faults.failing, store.faults.status = 99, "403 Forbidden"
    with pytest.raises(OutputError, match=r"^cannot read s3://bucket/a.csv: "):
        filesystem.download("s3://bucket/a.csv", str(tmp_path / "a.csv"))
    with pytest.raises(UsageError, match="can only be read"):
        write("https://example.org/a.csv", b"")


def test_a_failed_write_is_retried(store: Store) -> None:
    store.put("other", b"")
    store.faults.failing = 1
    write("s3://bucket/a.csv", b"rows")
    assert store.get("a.csv") == b"rows"
