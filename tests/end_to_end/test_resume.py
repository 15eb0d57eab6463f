"""Runs that are killed, and runs that go on with a file: nothing is lost, and nothing is made twice."""

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from dinoclassify.cli import run as run_command
from dinoclassify.errors import OutputError
from dinoclassify.types.prediction import Failure, Label, Prediction
from dinoclassify.types.source import Source
from dinoclassify.writers.formats.jsonl import JSONLines
from dinoclassify.writers.previous_rows import PreviousRows
from tests.conftest import PHOTOS, Cli
from tests.helpers.checkpoints import edit_json
from tests.helpers.crash import ended_by

Predict = Callable[..., tuple[int, str]]
FILES = ["out.csv", "out.jsonl", "out.parquet", "out.db"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(PHOTOS, "photos")
    Path("photos/text.png").write_text("not an image")
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
        with closing(sqlite3.connect(name)) as database:
            return database.execute("SELECT * FROM predictions ORDER BY rowid").fetchall()
    return Path(name).read_bytes()


def many(folder: Path, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        Image.new("RGB", (60, 60), (number % 251, number * 7 % 256, 90)).save(folder / f"{number:05}.png")
    (folder / "00007.png").write_text("broken")


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_killed_again_and_again_and_resumed_the_file_is_the_same(here: Path, tiny: str, cli: Cli, name: str) -> None:
    many(here / "many", 600)
    arguments = ["predict", "many", "many/00003.png", "-m", tiny, "-k", "2", "-q", "--batch-size", "8"]
    assert cli(*arguments, "-o", f"whole-{name}").returncode == 3
    for rows in (97, 150, 203):
        assert ended_by("SIGKILL", rows, *arguments, "-o", name, "--resume") == -signal.SIGKILL
        assert not Path(name).exists()
    assert cli(*arguments, "-o", name, "--resume").returncode == 3
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
        with closing(sqlite3.connect(name)) as database:
            table = pd.read_sql("SELECT * FROM predictions", database)
    elif name.endswith(".jsonl"):
        table = pd.read_json(name, lines=True)
    else:
        table = pd.read_csv(name) if name.endswith(".csv") else pd.read_parquet(name)
    return list(table[["path", "status", "label"]].fillna("").to_dict("records"))  # type: ignore[arg-type]  # by str


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-k", "2"), "was made with top-k 1, not 2: add --top-k 1, or --fresh instead of --resume starts over"),
        (("--exact",), "was made without exact: leave out --exact, or --fresh"),
        (("-f", "jsonl"), "was made with format csv, not jsonl: add --format csv, or --fresh"),
        (("--excel-safe",), "format csv, not excel: add --format csv and leave out --excel-safe, or --fresh"),
        (("--threshold", "0.5"), "was made with threshold 0.0, not 0.5: add --threshold 0.0, or --fresh"),
        (
            ("-k", "2", "--exact"),
            "with top-k 1, not 2; without exact: add --top-k 1 and leave out --exact, or --fresh",
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
    assert err.startswith("dinoclassify: --resume: out.csv was made with")
    assert Path("out.csv").read_bytes() == before
    assert sorted(os.listdir()) == ["out.csv", "out.csv.meta.json", "photos"]


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet"])
def test_an_interrupted_run_with_other_columns_is_named_by_its_options(here: Path, predict: Predict, kind: str) -> None:
    output = ("photos", "-o", f"out.{kind}")
    assert predict(*output, "--strict", "--batch-size", "1")[0] == 7
    code, err = predict(*output, "--resume", "-k", "2")
    assert (code, f"--resume: out.{kind}.partial was made with top-k 1, not 2: add --top-k 1, or " in err) == (
        2,
        True,
    ), err
    code, err = predict(*output, "-k", "2")
    assert (code, "finished rows of an interrupted run: --resume goes on, --fresh discards them" in err) == (2, True), (
        err
    )


def test_rows_that_a_gpu_decoded_are_refused_and_those_that_processors_decoded_kept(
    here: Path, predict: Predict
) -> None:
    meta = Path("out.csv.meta.json")
    assert predict("photos", "-o", "out.csv", "-q")[0] == 3
    before = Path("out.csv").read_bytes()
    made_with = json.loads(meta.read_text())["made_with"]
    edit_json(meta, made_with=made_with | {"decoder": "cpu"})
    assert predict("photos", "-o", "out.csv", "--resume", "-q")[0] == 3
    assert Path("out.csv").read_bytes() == before
    edit_json(meta, made_with=made_with | {"decoder": "gpu"})
    code, err = predict("photos", "-o", "out.csv", "--resume")
    said = "--resume: out.csv was made with decoder gpu, not cpu: --fresh instead of --resume starts over. See: "
    assert (code, said in err, err.count("\n")) == (2, True, 1), err


def test_rows_that_nobody_knows_the_origin_of_are_refused(here: Path, predict: Predict) -> None:
    assert predict("photos", "-o", "out.csv", "-q")[0] == 3
    os.unlink("out.csv.meta.json")
    assert "out.csv.meta.json, which says what" in predict("photos", "-o", "out.csv", "--resume")[1]
    Path("out.csv").write_text("something else\n")
    assert "out.csv has rows that cannot be read" in predict("photos", "-o", "out.csv", "--resume")[1]


@pytest.mark.slow
def test_a_second_run_is_kept_out_and_the_kernel_frees_the_lock(here: Path, tiny: str, cli: Cli) -> None:
    Path("list").write_text("photos/coffee.jpg\n" * 100_000)
    command = [sys.executable, "-m", "dinoclassify", "predict", "--files-from", "list", "-m", tiny, "-o", "out.csv"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as first:
        while not Path("out.csv.partial").exists():
            time.sleep(0.05)
        second = cli("predict", "photos", "-m", tiny, "-o", "out.csv")
        assert second.returncode == 11
        holder = f"process {first.pid} on {socket.gethostname()}"
        message = f"dinoclassify: another run is writing out.csv ({holder}): --wait waits for it\n"
        assert second.stderr.decode() == message
        arguments = ["predict", "photos", "-m", tiny, "-o", "out.csv", "--wait", "--fresh"]
        waiting = subprocess.Popen([sys.executable, "-m", "dinoclassify", *arguments])
        time.sleep(1)
        assert waiting.poll() is None
        first.kill()
    assert waiting.wait(timeout=200) == 3
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
    rows._table.execute("PRAGMA max_page_count = 20")

    def fill() -> None:
        for number in range(1000):
            rows.add(Prediction(f"{number}.jpg", "ok", (Label("x" * 100, 0, 0.5),)), os.getcwd(), replaces="changed")

    with pytest.raises(OutputError, match=r"cannot keep the rows of the earlier run .*full.*: make room in the folder"):
        fill()


@pytest.mark.parametrize("broken", [None, b"PK"])
def test_the_row_of_an_archive_that_could_not_be_read_goes_when_it_can(
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
    assert [row["path"] for row in read("out.csv")] == ["a.zip!b.jpg"]


def test_the_row_of_a_folder_that_could_not_be_read_goes_when_it_can(here: Path, predict: Predict) -> None:
    """As where a disk is mounted late: else --strict would end every later run."""
    Path("list.txt").write_text("album\n")
    assert predict("--files-from", "list.txt", "-o", "out.csv")[0] == 3
    Path("album").mkdir()
    shutil.copy("photos/coffee.jpg", "album")
    code, err = predict("album", "-o", "out.csv", "--resume", "--strict")
    assert (code, "1 image: 1 ok in" in err) == (0, True), err
    assert [row["path"] for row in read("out.csv")] == ["album/coffee.jpg"]


def test_a_list_of_members_keeps_the_row_of_their_archive(here: Path, predict: Predict) -> None:
    with tarfile.open("a.tar", "w") as archive:
        archive.add("photos/coffee.jpg", "b.jpg")
        archive.add("photos/chelsea.jpg", "c.jpg")
    os.truncate("a.tar", os.path.getsize("photos/coffee.jpg") + 10_000)
    assert predict("a.tar", "-o", "out.csv")[0] == 3
    before = read("out.csv")
    assert [row["path"] for row in before][-1:] == ["a.tar"]
    Path("list.txt").write_text("a.tar!b.jpg\n")
    assert predict("--files-from", "list.txt", "-o", "out.csv", "--resume")[0] == 0
    assert sorted(map(str, read("out.csv"))) == sorted(map(str, before))


def test_a_path_that_is_named_very_often() -> None:
    folder, gone = os.getcwd(), Prediction("gone.jpg", "failed", failure=Failure("vanished", "it is gone"))
    rows = PreviousRows(JSONLines(1), folder)
    for _ in range(100_000):
        rows.add(gone, folder, replaces="changed")
    assert [row.number for _ in range(100_000) if (row := rows.claim(Source("gone.jpg")))] == list(range(100_000))


def test_a_row_of_other_content_takes_the_place_of_all_before() -> None:
    rows = PreviousRows(JSONLines(1), os.getcwd())
    for mtime_ns in (1, 1, 1, 2, 2, None, None):
        row = Prediction("a.jpg", "ok", (Label("x", 0, 0.5),), size=1, mtime_ns=mtime_ns)
        rows.add(row, os.getcwd(), replaces="changed")
    assert [number for number, _, _ in rows.unclaimed()] == [5, 6]


def in_folder(name: str) -> object:
    return content(f"{name}part-00000.csv") if name.endswith("/") else content(name)


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
def test_an_update_that_is_ended_is_taken_up(here: Path, predict: Predict, tiny: str, name: str, end: str) -> None:
    """Every night in cron: its rows are kept, and the output is as if nothing had happened."""
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


@pytest.mark.parametrize("name", ["out.csv", "out/"])
def test_failures_of_earlier_runs_count(here: Path, predict: Predict, name: str) -> None:
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


def test_a_share_of_failures_is_one_of_all_rows_of_the_file(here: Path, predict: Predict) -> None:
    many(here / "many", 110)
    for folder, count in (("few", 4), ("more", 8)):
        Path(folder).mkdir()
        for number in range(count):
            Path(f"{folder}/{number}.png").write_text("not an image")
    common = ("-o", "out.csv", "--resume", "--max-failures", "5%", "-q")
    assert predict("many", *common) == (0, "")
    assert predict("many", "few", *common) == (0, "")
    before = content("out.csv")
    for _ in range(3):
        code, err = predict("more", *common)
        assert (code, "dinoclassify: 7 of 121 rows failed, --max-failures is 5%: out.csv" in err) == (7, True)
        assert content("out.csv") == before
    assert predict("more", *common[:-3], "--max-failures", "11%", "-q") == (0, "")
    assert Path("out.csv").read_text().count(",failed,") == 13


@pytest.mark.parametrize("option", ["--labels", "--groups", "--files-from"])
def test_a_table_that_the_run_reads_is_not_written_over(here: Path, predict: Predict, option: str) -> None:
    Path("table.csv").write_text("photos/coffee.jpg\n")
    for output in (("-o", "table.csv"), ("-o", "./table.csv"), ("-o", "out.csv", "--errors-to", "table.csv")):
        code, err = predict("photos", option, "table.csv", *output)
        assert (code, err.endswith("table.csv would be written over an input\n"), err.count("\n")) == (2, True, 1)
    assert sorted(os.listdir()) == ["photos", "table.csv"]


@pytest.mark.parametrize("name", ["out/", "out.csv"])
@pytest.mark.parametrize("archive", ["a.tar.gz", "a.zip"])
def test_rows_of_an_archive_that_is_away_stay(here: Path, predict: Predict, name: str, archive: str) -> None:
    kind = "zip" if archive.endswith("zip") else "gztar"
    shutil.make_archive("a", kind, "photos")
    common = ("photos", archive, "-o", name, "--resume", *(("-f", "csv") if name.endswith("/") else ()), "-q")
    assert predict(*common)[0] == 3
    rows = [row["path"] for row in read(f"{name}part-00000.csv" if name.endswith("/") else name)]
    assert len(rows) == 12
    os.rename(archive, "away")
    for prune in ((), ("--prune",)):
        assert predict(*common, *prune)[0] == 3
        found = [row["path"] for row in read(f"{name}part-00000.csv" if name.endswith("/") else name)]
        assert (set(found), len(found)) == ({*rows, archive}, 13) if not prune else (set(rows[:6]) | {archive}, 7)


def test_of_a_compressed_tar_rows_are_kept_every_256_inputs(here: Path, predict: Predict, tiny: str) -> None:
    Path("small").mkdir()
    for number in range(600):
        Image.new("L", (9, 9), number % 250).save(f"small/{number:05}.png")
    shutil.make_archive("a", "gztar", "small")
    common = ("a.tar.gz", "-o", "out/", "-f", "csv", "--resume", "-q")
    assert ended_by("SIGKILL", 550, "predict", "-m", tiny, "--batch-size", "4", *common, piece=256) == -signal.SIGKILL
    assert predict(*common) == (0, "")
    meta = json.loads(Path("out/_manifest.json").read_text())
    assert (meta["kept"], sum(meta["counts"].values())) == (512, 600)
    assert [row["path"] for row in read("out/part-00000.csv")] == [f"a.tar.gz!{n:05}.png" for n in range(600)]


def test_rows_are_found_again_from_another_folder(here: Path, predict: Predict) -> None:
    assert predict("photos", "-o", "out.csv", "-q")[0] == 3
    Path("elsewhere").mkdir()
    os.chdir("elsewhere")
    code, err = predict("../photos", "-o", "../out.csv", "--resume")
    assert (code, " (1 not_image); 6 kept; " in err) == (3, True), err
    assert {row["path"] for row in read("../out.csv")} == {str(path) for path in Path("../photos").glob("*.[jp]*g")}
