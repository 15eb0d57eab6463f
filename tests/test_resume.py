"""Runs that are killed, and runs that go on with a file: nothing is lost, and nothing is made twice."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import PHOTOS, Cli
from PIL import Image

from dinoclassify.cli import run as run_command
from dinoclassify.errors import OutputError
from dinoclassify.rows import Failure, Label, Prediction
from dinoclassify.sources import Source
from dinoclassify.writers.jsonl import JSONLines
from dinoclassify.writers.previous_rows import PreviousRows

Predict = Callable[..., tuple[int, str]]
FILES = ["out.csv", "out.jsonl", "out.parquet", "out.db"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(PHOTOS, "photos")
    Path("photos/text.png").write_text("not a picture")
    return tmp_path


@pytest.fixture
def predict(tiny: str, capfd: pytest.CaptureFixture[str]) -> Predict:
    """Run the command in this process: (exit code, stderr)."""

    def call(*arguments: str) -> tuple[int, str]:
        code = run_command(["predict", "-m", tiny, "--batch-size", "4", *arguments])
        return code, capfd.readouterr().err

    return call


def content(name: str) -> object:
    """The rows of a file: its bytes, but for tables, which carry the time and other metadata of the run."""
    if name.endswith(".parquet"):
        return pq.read_table(name)
    if name.endswith(".db"):
        return sqlite3.connect(name).execute("SELECT * FROM predictions ORDER BY rowid").fetchall()
    return Path(name).read_bytes()


def many(folder: Path, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        Image.new("RGB", (60, 60), (number % 251, number * 7 % 256, 90)).save(folder / f"{number:05}.png")
    (folder / "00007.png").write_text("broken")


@pytest.mark.parametrize("name", [FILES[0], *(pytest.param(name, marks=pytest.mark.slow) for name in FILES[1:])])
def test_killed_again_and_again_and_resumed_the_file_is_the_same(here: Path, tiny: str, cli: Cli, name: str) -> None:
    many(here / "many", 600)
    arguments = ["predict", "many", "many/00003.png", "-m", tiny, "-k", "2", "-q", "--batch-size", "8"]
    assert cli(*arguments, "-o", f"whole-{name}").returncode == 3
    killed = 0
    for _ in range(40):
        with subprocess.Popen([sys.executable, "-m", "dinoclassify", *arguments, "-o", name, "--resume"]) as process:
            partial, before = Path(f"{name}.partial"), -1
            while process.poll() is None:
                now = partial.stat().st_size if partial.exists() else -1
                before = now if before < 0 else before
                if now > before + 20_000:
                    process.send_signal(signal.SIGKILL)
                    killed += 1
                    break
                time.sleep(0.002)
            code = process.wait(timeout=60)
        if code == 3:
            break
        assert code == -signal.SIGKILL
        assert not Path(name).exists()
    assert killed >= 2
    assert content(name) == content(f"whole-{name}")
    left = {path.name for path in here.glob(f"{name}*")}
    assert left == {name, f"{name}.meta.json"}


@pytest.mark.parametrize("name", FILES)
def test_what_is_new_has_changed_or_is_gone(here: Path, predict: Predict, name: str) -> None:
    common = ("photos", "-o", name, "-q", "--resume")
    assert predict(*common)[0] == 3
    first = content(name)
    assert predict(*common)[0] == 3
    assert content(name) == first, "nothing is new"
    shutil.copy("photos/coffee.jpg", "photos/aaa.jpg")
    shutil.copy("photos/rocket.jpg", "photos/camera.jpg")
    os.unlink("photos/chelsea.jpg")
    assert predict(*common)[0] == 3
    meta = json.loads(Path(f"{name}.meta.json").read_text())
    assert (meta["kept"], sum(meta["counts"].values())) == (4, 6)
    rows = read(name)
    assert [row["path"] for row in rows] == [
        "photos/chelsea.jpg",  # gone, and kept
        *(f"photos/{stem}" for stem in ("aaa.jpg", "camera.jpg", "coffee.jpg", "motorcycle_left.jpg", "rocket.jpg")),
        "photos/text.png",
    ]
    assert rows[2]["label"] == rows[5]["label"]
    assert predict(*common, "--prune")[0] == 3
    assert read(name) == rows[1:]
    assert predict("photos", "-o", f"whole-{name}", "-q")[0] == 3
    assert [row["label"] for row in read(f"whole-{name}")] == [row["label"] for row in rows[1:]]


def read(name: str) -> list[dict[str, object]]:
    import pandas as pd

    if name.endswith(".db"):
        table = pd.read_sql("SELECT * FROM predictions", sqlite3.connect(name))
    elif name.endswith(".jsonl"):
        table = pd.read_json(name, lines=True)
    else:
        table = pd.read_csv(name) if name.endswith(".csv") else pd.read_parquet(name)
    return list(table[["path", "status", "label"]].fillna("").to_dict("records"))  # type: ignore[arg-type]  # by str


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-k", "2"), "was made with top-k 1, not 2: add --top-k 1, or --fresh instead of --resume starts over"),
        (("--exact",), "was made with exact False, not True: leave out --exact, or --fresh"),
        (("-f", "jsonl"), "was made with format csv, not jsonl: add --format csv, or --fresh"),
        (("--threshold", "0.5"), "was made with threshold 0.0, not 0.5: add --threshold 0.0, or --fresh"),
        (
            ("-k", "2", "--exact"),
            "top-k 1, not 2, exact False, not True: add --top-k 1 and leave out --exact, or --fresh",
        ),
        (("-m", "OTHER"), "OTHER: add --model TINY, or --fresh"),
    ],
)
def test_rows_of_another_kind_are_refused(
    here: Path,
    predict: Predict,
    options: tuple[str, ...],
    message: str,
    tiny: str,
    checkpoints: Callable[[str], Path],
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert predict("photos", "-o", "out.csv", "-q")[0] == 3
    before = Path("out.csv").read_bytes()
    vit = checkpoints("vit")
    capfd.readouterr()  # the making of which is said
    other = [str(vit) if option == "OTHER" else option for option in options]
    message = message.replace("OTHER", str(vit)).replace("TINY", tiny)
    code, err = predict("photos", "-o", "out.csv", "--resume", *other)
    assert (code, message in err, err.count("\n")) == (2, True, 1), err
    assert err.startswith("dinoclassify: --resume: out.csv was made with ")
    assert Path("out.csv").read_bytes() == before
    assert sorted(os.listdir()) == ["out.csv", "out.csv.meta.json", "photos"]


def test_rows_that_nobody_knows_the_origin_of_are_refused(here: Path, predict: Predict) -> None:
    assert predict("photos", "-o", "out.csv", "-q")[0] == 3
    os.unlink("out.csv.meta.json")
    assert "out.csv.meta.json, which says what" in predict("photos", "-o", "out.csv", "--resume")[1]
    Path("out.csv").write_text("something else\n")
    assert "out.csv has rows that cannot be read" in predict("photos", "-o", "out.csv", "--resume")[1]


def test_a_second_run_is_kept_out_and_the_kernel_frees_the_lock(here: Path, tiny: str, cli: Cli) -> None:
    Path("list").write_text("photos/coffee.jpg\n" * 100_000)
    command = [sys.executable, "-m", "dinoclassify", "predict", "--files-from", "list", "-m", tiny, "-o", "out.csv"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as first:
        while not Path("out.csv.partial").exists():
            time.sleep(0.05)
        second = cli("predict", "photos", "-m", tiny, "-o", "out.csv")
        assert second.returncode == 11
        assert second.stderr == b"dinoclassify: another run is writing out.csv: --wait waits for it\n"
        arguments = ["predict", "photos", "-m", tiny, "-o", "out.csv", "--wait", "--fresh"]
        waiting = subprocess.Popen([sys.executable, "-m", "dinoclassify", *arguments])
        time.sleep(1)
        assert waiting.poll() is None
        first.kill()
    assert waiting.wait(timeout=60) == 3
    assert Path("out.csv").read_text().count("\n") == 7
    assert sorted(os.listdir()) == ["list", "out.csv", "out.csv.meta.json", "photos"]


def test_too_many_failures_leave_the_file_as_it_was(here: Path, predict: Predict) -> None:
    Path("out.csv").write_text("old")
    for options, limit in ((("--strict",), "0"), (("--max-failures", "0"), "0"), (("--max-failures", "10%"), "10%")):
        code, err = predict("photos", "-o", "out.csv", "--fresh", *options)
        assert (code, f"1 of 6 rows failed, --max-failures is {limit}" in err) == (7, True), err
        assert Path("out.csv").read_text() == "old"
    assert predict("photos", "-o", "out.csv", "--fresh", "--max-failures", "17%", "-q") == (0, "")
    assert Path("out.csv").read_text() != "old"


def test_failed_paths_are_a_list(here: Path, predict: Predict) -> None:
    Path("photos/new\nline.png").write_text("x")
    assert "breaks the list failed.txt: use -0" in predict("photos", "-o", "out.csv", "--errors-to", "failed.txt")[1]
    shutil.copy("photos/coffee.jpg", "photos/text.png")
    os.unlink("photos/new\nline.png")
    assert predict("photos", "-o", "out.csv", "--errors-to", "failed.txt", "-q")[0] == 0
    assert Path("failed.txt").read_bytes() == b""
    Path("photos/text.png").write_text("x")
    assert predict("photos", "-o", "out.csv", "--errors-to", "failed.txt", "-q")[0] == 3
    assert Path("failed.txt").read_bytes() == b"photos/text.png\n"
    assert predict("--files-from", "failed.txt", "-o", "again.csv", "-q")[0] == 3


def test_excel_safe(here: Path, predict: Predict) -> None:
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


def test_a_run_without_inputs_leaves_an_interrupted_one_alone(here: Path, predict: Predict) -> None:
    Path("empty").mkdir()
    Path("out.csv.partial").write_text("rows of a run that was killed")
    Path("out.csv.partial.meta.json").write_text("its meta")
    assert predict("empty", "-o", "out.csv", "--resume")[0] == 4
    assert Path("out.csv.partial").read_text() == "rows of a run that was killed"
    assert Path("out.csv.partial.meta.json").read_text() == "its meta"
    assert not Path("out.csv").exists()


def test_a_meta_without_its_partial_says_nothing_of_the_output(here: Path, predict: Predict) -> None:
    common = ("photos", "-o", "out.csv", "-q")
    assert predict(*common)[0] == 3
    meta = json.loads(Path("out.csv.meta.json").read_text())
    begun = {"made_with": meta["made_with"] | {"top-k": 2}, "adds_to_output": False}
    Path("out.csv.partial.meta.json").write_text(json.dumps(begun))
    code, err = predict(*common, "--resume", "-k", "2")
    assert (code, "--resume: out.csv was made with top-k 1, not 2: add --top-k 1" in err) == (2, True)


def test_the_list_of_errors_never_takes_the_place_of_the_output(here: Path, predict: Predict) -> None:
    assert predict("photos", "-o", "out.csv", "-q")[0] == 3
    before = content("out.csv")
    for name in ("out.csv", "./out.csv", "out.csv.partial", "out.csv.meta.json"):
        code, err = predict("photos", "-o", "out.csv", "--resume", "--errors-to", name)
        assert (code, "would be written over the output" in err) == (2, True)
    Path("bad.txt").write_text("old\n")
    assert predict("photos", "-o", "out.csv", "--resume", "-k", "2", "--errors-to", "bad.txt")[0] == 2
    assert Path("bad.txt").read_text() == "old\n", "a run that is refused writes nothing"
    assert content("out.csv") == before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("out.jsonl", "5\n", "out.jsonl has rows that cannot be read (it is no object)"),
        ("out.csv", "a\rb\n", "out.csv has rows that cannot be read (new-line character seen in unquoted field"),
        ("out.csv.meta.json", '{"made_with": [1]}', "cannot read out.csv.meta.json, which says what made out.csv"),
    ],
)
def test_what_people_have_edited_is_said(here: Path, predict: Predict, name: str, content: str, message: str) -> None:
    output = name.removesuffix(".meta.json")
    assert predict("photos", "-o", output, "-q")[0] == 3
    with open(name, "a" if name == output else "w", newline="") as file:
        file.write(content)
    code, err = predict("photos", "-o", output, "--resume")
    assert (code, message in err) == (2, True), err
    assert err.endswith(": --fresh instead of --resume starts over\n")
    assert err.count("\n") == 1


def test_a_full_folder_for_temporary_files_is_said() -> None:
    rows = PreviousRows(JSONLines(1), os.getcwd())
    rows._database.execute("PRAGMA max_page_count = 20")

    def fill() -> None:
        for number in range(1000):
            rows.add(Prediction(f"{number}.jpg", "ok", (Label("x" * 100, 0, 0.5),)), os.getcwd(), unfinished=False)

    with pytest.raises(OutputError, match=r"cannot keep the rows of the earlier run .*full.*: make room in the folder"):
        fill()


def test_a_path_that_is_named_very_often() -> None:
    rows = PreviousRows(JSONLines(1), os.getcwd())
    for _ in range(100_000):
        rows.add(
            Prediction("gone.jpg", "failed", failure=Failure("vanished", "it is gone")), os.getcwd(), unfinished=False
        )
    assert [row.number for _ in range(100_000) if (row := rows.claim(Source("gone.jpg")))] == list(range(100_000))
