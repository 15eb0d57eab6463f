"""Limits of failed rows, and lists of failed images."""

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.helpers.resumed import Predict, content_of, make_images


def test_too_many_failures_leave_the_file_as_it_was(here: Path, predict: Predict) -> None:
    Path("out.csv").write_text("old")
    for options, limit in ((("--strict",), "0"), (("--max-failures", "0"), "0"), (("--max-failures", "10%"), "10%")):
        code, err = predict("photos", "-o", "out.csv", "--fresh", *options)
        assert (code, f"1 of 6 rows failed, --max-failures is {limit}" in err) == (7, True), err
        assert Path("out.csv").read_text() == "old"
    assert predict("photos", "-o", "out.csv", "--fresh", "--max-failures", "17%", "-q") == (0, "")
    assert Path("out.csv").read_text() != "old"


@pytest.mark.parametrize("name", ["out.csv", "out/"])
def test_failures_of_earlier_runs_count_towards_the_limit(here: Path, predict: Predict, name: str) -> None:
    Path("bad").mkdir()
    for number in range(40):
        Path(f"bad/{number:02}.png").write_text("not an image")
    assert predict("photos", "-o", name, "--max-failures", "5", "-q") == (0, "")
    before = sorted(path.read_bytes() for path in here.rglob("out*") if path.is_file())
    for _ in range(4):
        code, err = predict("photos", "bad", "-o", name, "--resume", "--max-failures", "5")
        assert code == 7
        assert re.search(
            r"\d+ of \d+ rows failed, --max-failures is 5: out.* stays as it was; .*, --resume goes on\n", err
        )
        assert sorted(path.read_bytes() for path in here.glob(name) if path.is_file()) == before[: len(before) - 1]
    assert predict("photos", "bad", "-o", name, "--resume", "--max-failures", "41", "-q") == (0, "")


def test_a_share_of_failures_counts_all_rows_of_the_file(here: Path, predict: Predict) -> None:
    make_images(here / "many", 110)
    for folder, count in (("few", 4), ("more", 8)):
        Path(folder).mkdir()
        for number in range(count):
            Path(f"{folder}/{number}.png").write_text("not an image")
    common = ("-o", "out.csv", "--resume", "--max-failures", "5%", "-q")
    assert predict("many", *common) == (0, "")
    assert predict("many", "few", *common) == (0, "")
    before = content_of("out.csv")
    for _ in range(3):
        code, err = predict("more", *common)
        assert (code, "dinoclassify: 7 of 121 rows failed, --max-failures is 5%: out.csv" in err) == (7, True)
        assert content_of("out.csv") == before
    assert predict("more", *common[:-3], "--max-failures", "11%", "-q") == (0, "")
    assert Path("out.csv").read_text().count(",failed,") == 13


def test_errors_to_writes_a_list_of_failed_images(here: Path, predict: Predict) -> None:
    Path("photos/new\nline.png").write_text("x")
    assert (
        "has a line break, which the list failed.txt cannot hold: use -0"
        in predict("photos", "-o", "out.csv", "--errors-to", "failed.txt")[1]
    )
    shutil.copy("photos/coffee.jpg", "photos/text.png")
    os.unlink("photos/new\nline.png")
    assert predict("photos", "-o", "out.csv", "--errors-to", "failed.txt", "-q")[0] == 0
    assert Path("failed.txt").read_bytes() == b""
    Path("photos/text.png").write_text("x")
    assert predict("photos", "-o", "out.csv", "--errors-to", "failed.txt", "-q")[0] == 3
    assert Path("failed.txt").read_bytes() == b"photos/text.png\n"
    assert predict("--files-from", "failed.txt", "-o", "again.csv", "-q")[0] == 3


def test_errors_to_never_replaces_the_output(here: Path, predict: Predict) -> None:
    assert predict("photos", "-o", "out.csv", "-q")[0] == 3
    before = content_of("out.csv")
    for name in ("out.csv", "./out.csv", "out.csv.partial", "out.csv.meta.json"):
        code, err = predict("photos", "-o", "out.csv", "--resume", "--errors-to", name)
        assert (code, "is a file of the output: choose another name" in err) == (2, True)
    Path("bad.txt").write_text("old\n")
    assert predict("photos", "-o", "out.csv", "--resume", "-k", "2", "--errors-to", "bad.txt")[0] == 2
    assert Path("bad.txt").read_text() == "old\n", "a run that is refused writes nothing"
    assert content_of("out.csv") == before
