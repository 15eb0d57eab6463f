"""Runs that are killed, and runs that update an output: nothing is lost, and nothing is made twice."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import Cli
from tests.helpers.crash import ended_by
from tests.helpers.prepared import Program
from tests.helpers.resumed import FILES, Predict, content_of, make_images, read_rows


def in_folder(name: str) -> object:
    return content_of(f"{name}part-00000.csv") if name.endswith("/") else content_of(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_run_killed_three_times_and_resumed_writes_the_same_file(here: Path, tiny: str, cli: Cli, name: str) -> None:
    make_images(here / "many", 600)
    arguments = ["predict", "many", "many/00003.png", "-m", tiny, "-k", "2", "-q", "--batch-size", "8"]
    assert cli(*arguments, "-o", f"whole-{name}").returncode == 3
    for rows in (97, 150, 203):
        assert ended_by("SIGKILL", rows, *arguments, "-o", name, "--resume") == -signal.SIGKILL
        assert not Path(name).exists()
    assert cli(*arguments, "-o", name, "--resume").returncode == 3
    assert content_of(name) == content_of(f"whole-{name}")
    left = {path.name for path in here.glob(f"{name}*")}
    assert left == {name, f"{name}.meta.json"}


@pytest.mark.parametrize("name", FILES)
def test_an_update_labels_new_and_changed_images_and_prune_drops_removed_ones(
    here: Path, predict: Predict, name: str
) -> None:
    common = ("photos", "-o", name, "-q", "--resume")
    assert predict(*common)[0] == 3
    first = content_of(name)
    assert predict(*common)[0] == 3
    assert content_of(name) == first, "nothing is new"
    shutil.copy("photos/coffee.jpg", "photos/aaa.jpg")
    shutil.copy("photos/rocket.jpg", "photos/camera.jpg")
    os.unlink("photos/chelsea.jpg")
    assert predict(*common)[0] == 3
    meta = json.loads(Path(f"{name}.meta.json").read_text())
    assert (meta["kept"], sum(meta["counts"].values())) == (4, 6)
    rows = read_rows(name)
    assert [row["path"] for row in rows] == [
        "photos/chelsea.jpg",  # gone, and kept
        *(f"photos/{stem}" for stem in ("aaa.jpg", "camera.jpg", "coffee.jpg", "motorcycle_left.jpg", "rocket.jpg")),
        "photos/text.png",
    ]
    assert rows[2]["label"] == rows[5]["label"]
    assert predict(*common, "--prune")[0] == 3
    assert read_rows(name) == rows[1:]
    assert predict("photos", "-o", f"whole-{name}", "-q")[0] == 3
    assert [row["label"] for row in read_rows(f"whole-{name}")] == [row["label"] for row in rows[1:]]


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("out.csv", "strict"),
        ("out.parquet", "strict"),
        ("out/", "strict"),
        ("out.csv", "SIGKILL"),
        *(pytest.param(name, "strict", marks=pytest.mark.slow) for name in ("out.jsonl", "out.db")),
        *(pytest.param(name, "SIGKILL", marks=pytest.mark.slow) for name in [*FILES[1:], "out/"]),
        *(pytest.param(name, "SIGINT", marks=pytest.mark.slow) for name in [*FILES, "out/"]),
    ],
)
def test_an_interrupted_update_can_be_resumed(here: Path, predict: Predict, tiny: str, name: str, end: str) -> None:
    """The finished rows are kept, and the output is the same as without the interruption."""
    common = ("--resume", *(("-f", "csv") if name.endswith("/") else ()), "-q")
    os.unlink("photos/text.png")
    for output in (name, f"whole-{name}"):
        assert predict("photos", "-o", output, *common) == (0, "")
    Path("more").mkdir()
    for number in range(12):
        shutil.copy("photos/coffee.jpg", f"more/{number:02}.jpg")
    Path("more/06.jpg").write_text("not an image")
    shutil.copy("photos/rocket.jpg", "photos/camera.jpg")
    before = in_folder(name)
    update = ("photos", "more", "-o", name, *common)
    if end == "strict":
        code, err = predict(*update, "--strict")
        kept = f"{name} stays as it was; finished rows are in {name.rstrip('/')}.partial, --resume goes on"
        assert (code, err) == (7, f"dinoclassify: 1 of 12 rows failed, --max-failures is 0 (--strict): {kept}\n")
    else:
        code = ended_by(end, 9, "predict", "-m", tiny, "--batch-size", "4", *update)
        assert code == (130 if end == "SIGINT" else -signal.SIGKILL)
    assert in_folder(name) == before
    code, err = predict("photos", "more", "-o", name, *common[1:])
    assert (code, "finished rows of an interrupted run: --resume goes on, --fresh discards them" in err) == (2, True)
    assert predict(*update) == (3, "")
    meta = f"{name}_manifest.json" if name.endswith("/") else f"{name}.meta.json"
    assert json.loads(Path(meta).read_text())["kept"] >= 4 + 8
    assert predict("photos", "more", "-o", f"whole-{name}", *common) == (3, "")
    assert in_folder(name) == in_folder(f"whole-{name}")
    assert not list(here.glob("*.partial*"))


def test_a_run_without_inputs_leaves_an_interrupted_one_alone(here: Path, predict: Predict) -> None:
    Path("empty").mkdir()
    Path("out.csv.partial").write_text("rows of a run that was killed")
    Path("out.csv.partial.meta.json").write_text("its meta")
    assert predict("empty", "-o", "out.csv", "--resume")[0] == 4
    assert Path("out.csv.partial").read_text() == "rows of a run that was killed"
    assert Path("out.csv.partial.meta.json").read_text() == "its meta"
    assert not Path("out.csv").exists()


@pytest.mark.slow
def test_a_second_run_of_the_same_output_is_refused_or_waits(here: Path, tiny: str, cli: Cli) -> None:
    Path("list").write_text("photos/coffee.jpg\n" * 100_000)
    command = [sys.executable, "-m", "dinoclassify", "predict", "--files-from", "list", "-m", tiny, "-o", "out.csv"]
    with Program(command, stderr=subprocess.PIPE) as first:
        while not Path("out.csv.partial").exists():
            time.sleep(0.05)
        second = cli("predict", "photos", "-m", tiny, "-o", "out.csv")
        assert second.returncode == 11
        holder = f"process {first.pid} on {socket.gethostname()}"
        message = f"dinoclassify: another run is writing out.csv ({holder}): --wait waits for it\n"
        assert second.stderr.decode() == message
        arguments = ["predict", "photos", "-m", tiny, "-o", "out.csv", "--wait", "--fresh"]
        waiting = Program([sys.executable, "-m", "dinoclassify", *arguments])
        time.sleep(1)
        assert waiting.poll() is None
        first.kill()
    assert waiting.wait(timeout=200) == 3
    assert Path("out.csv").read_text().count("\n") == 7
    assert sorted(os.listdir()) == ["list", "out.csv", "out.csv.meta.json", "photos"]


def test_excel_safe_quotes_paths_that_begin_like_formulas(here: Path, predict: Predict) -> None:
    for name in ("=1+1.jpg", "-rf.jpg", "'quoted.jpg", "plain.jpg"):
        shutil.copy("photos/coffee.jpg", name)
    common = ("./=1+1.jpg", "=1+1.jpg", "'quoted.jpg", "plain.jpg", "-o", "out.csv", "-q", "--excel-safe")
    assert predict(*common)[0] == 0
    starts = [line.split(",")[0] for line in Path("out.csv").read_text().splitlines()[1:]]
    assert starts == ["./=1+1.jpg", "'=1+1.jpg", "''quoted.jpg", "plain.jpg"]
    before = Path("out.csv").read_bytes()
    assert predict(*common, "--resume")[0] == 0
    assert Path("out.csv").read_bytes() == before
    assert json.loads(Path("out.csv.meta.json").read_text())["kept"] == 4


def test_an_update_from_another_folder_finds_the_rows(here: Path, predict: Predict) -> None:
    assert predict("photos", "-o", "out.csv", "-q")[0] == 3
    Path("elsewhere").mkdir()
    os.chdir("elsewhere")
    code, err = predict("../photos", "-o", "../out.csv", "--resume")
    assert (code, " (1 not_image); 6 kept in " in err) == (3, True), err
    assert {row["path"] for row in read_rows("../out.csv")} == {
        str(path) for path in Path("../photos").glob("*.[jp]*g")
    }
