"""Updates of rows from archives and folders that cannot be read for a while."""

import json
import os
import shutil
import signal
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.crash import ended_by
from tests.helpers.resumed import Predict, read_rows


@pytest.mark.parametrize("broken", [None, b"PK"])
def test_the_failed_row_of_an_archive_goes_once_it_can_be_read(
    here: Path, predict: Predict, broken: bytes | None
) -> None:
    if broken is not None:
        Path("a.zip").write_bytes(broken)
    assert predict("a.zip", "-o", "out.csv")[0] == 3
    with zipfile.ZipFile("a.zip", "w") as archive:
        archive.write("photos/coffee.jpg", "b.jpg")
    os.utime("a.zip", (1, 1))
    code, err = predict("a.zip", "-o", "out.csv", "--resume", "--strict")
    assert (code, "1 image: 1 ok in" in err) == (0, True), err
    assert [row["path"] for row in read_rows("out.csv")] == ["a.zip!b.jpg"]


def test_the_failed_row_of_a_folder_goes_once_it_can_be_read(here: Path, predict: Predict) -> None:
    """For instance if a disk is mounted late; otherwise --strict would end every later run."""
    Path("list.txt").write_text("album\n")
    assert predict("--files-from", "list.txt", "-o", "out.csv")[0] == 3
    Path("album").mkdir()
    shutil.copy("photos/coffee.jpg", "album")
    code, err = predict("album", "-o", "out.csv", "--resume", "--strict")
    assert (code, "1 image: 1 ok in" in err) == (0, True), err
    assert [row["path"] for row in read_rows("out.csv")] == ["album/coffee.jpg"]


def test_a_list_of_members_keeps_the_row_of_their_archive(here: Path, predict: Predict) -> None:
    with tarfile.open("a.tar", "w") as archive:
        archive.add("photos/coffee.jpg", "b.jpg")
        archive.add("photos/chelsea.jpg", "c.jpg")
    os.truncate("a.tar", os.path.getsize("photos/coffee.jpg") + 10_000)
    assert predict("a.tar", "-o", "out.csv")[0] == 3
    before = read_rows("out.csv")
    assert [row["path"] for row in before][-1:] == ["a.tar"]
    Path("list.txt").write_text("a.tar!b.jpg\n")
    assert predict("--files-from", "list.txt", "-o", "out.csv", "--resume")[0] == 0
    assert sorted(map(str, read_rows("out.csv"))) == sorted(map(str, before))


@pytest.mark.parametrize("name", ["out/", "out.csv"])
@pytest.mark.parametrize("archive", ["a.tar.gz", "a.zip"])
def test_rows_of_a_missing_archive_stay_unless_pruned(here: Path, predict: Predict, name: str, archive: str) -> None:
    kind = "zip" if archive.endswith("zip") else "gztar"
    shutil.make_archive("a", kind, "photos")
    common = ("photos", archive, "-o", name, "--resume", *(("-f", "csv") if name.endswith("/") else ()), "-q")
    assert predict(*common)[0] == 3
    rows = [row["path"] for row in read_rows(f"{name}part-00000.csv" if name.endswith("/") else name)]
    assert len(rows) == 12
    os.rename(archive, "away")
    for prune in ((), ("--prune",)):
        assert predict(*common, *prune)[0] == 3
        found = [row["path"] for row in read_rows(f"{name}part-00000.csv" if name.endswith("/") else name)]
        assert (set(found), len(found)) == ({*rows, archive}, 13) if not prune else (set(rows[:6]) | {archive}, 7)


def test_rows_of_a_compressed_tar_are_kept_every_256_images(here: Path, predict: Predict, tiny: str) -> None:
    Path("small").mkdir()
    for number in range(600):
        Image.new("L", (9, 9), number % 250).save(f"small/{number:05}.png")
    shutil.make_archive("a", "gztar", "small")
    common = ("a.tar.gz", "-o", "out/", "-f", "csv", "--resume", "-q")
    assert ended_by("SIGKILL", 550, "predict", "-m", tiny, "--batch-size", "4", *common, piece=256) == -signal.SIGKILL
    assert predict(*common) == (0, "")
    meta = json.loads(Path("out/_manifest.json").read_text())
    assert (meta["kept"], sum(meta["counts"].values())) == (512, 600)
    assert [row["path"] for row in read_rows("out/part-00000.csv")] == [f"a.tar.gz!{n:05}.png" for n in range(600)]
