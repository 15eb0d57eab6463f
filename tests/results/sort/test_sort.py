"""`sort`: which images go where, and what the command says of it."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dinoclassify.cli import run
from dinoclassify.results.sort.journal import JOURNAL_NAME
from dinoclassify.results.sort.transfer import Mode
from dinoclassify.types.prediction import Failure, Label, Prediction
from dinoclassify.writers.formats import open_format
from tests.conftest import PHOTOS, Cli
from tests.helpers.images import image
from tests.helpers.prepared import Program
from tests.helpers.rows import row_of, write_rows
from tests.helpers.sorting import MODES, contents, sort, tree


@pytest.mark.parametrize("mode", MODES)
def test_undo_restores_the_tree_that_predict_left(here: Path, mode: Mode, capsys: pytest.CaptureFixture[str]) -> None:
    for photo in PHOTOS.glob("*.jpg"):
        image(f"photos/{photo.name}", photo.read_bytes())
    os.utime("photos/coffee.jpg", ns=(1_000_000_000_123_456_789,) * 2)
    os.chmod("photos/coffee.jpg", 0o640)
    assert run(["predict", "photos", "-m", "builtin", "-o", "labels.csv", "--threshold", "0.3"]) == 0
    before = tree()
    assert run(["sort", "labels.csv", "--into", "a/sorted", "--mode", mode]) == 0
    done = {"copy": "copied", "move": "moved", "symlink": "linked", "hardlink": "linked"}[mode]
    assert f"4 {done}, 1 uncertain left alone -> a/sorted; --undo a/sorted takes it back" in (capsys.readouterr().err)
    assert Path("a/sorted/espresso/coffee.jpg").read_bytes() == (PHOTOS / "coffee.jpg").read_bytes()
    assert Path("photos/coffee.jpg").exists() == (mode != "move")
    assert Path("a/sorted/espresso/coffee.jpg").is_symlink() == (mode == "symlink")
    assert Path("photos/rocket.jpg").exists()
    after = tree()
    assert run(["sort", "labels.csv", "--into", "a/sorted", "--mode", mode]) == 0
    assert f"4 {'moved before' if mode == 'move' else 'there already'}" in capsys.readouterr().err
    assert tree() == after, "a second run changes nothing"
    assert run(["sort", "--undo", f"a/sorted/{JOURNAL_NAME}"]) == 0
    assert tree() == before


def test_two_hundred_photographs_come_back_byte_for_byte(here: Path, shared_data: Path) -> None:
    for photo in shared_data.joinpath("photos").glob("*.JPEG"):
        shutil.copy2(photo, image(f"photos/{photo.name}"))
    assert run(["predict", "photos", "-m", "builtin", "-o", "labels.csv", "-q"]) == 0
    before = tree()
    assert len(before) == 200 + len(["photos", "labels.csv", "labels.csv.meta.json"])
    for mode in MODES:
        assert run(["sort", "labels.csv", "--into", "sorted", "--mode", mode, "-q"]) == 0
        assert len(contents("sorted")) == (0 if mode == "symlink" else 200)
        assert run(["sort", "--undo", "sorted", "-q"]) == 0
        assert tree() == before, mode


def test_input_without_rows_creates_no_folder(here: Path, cli: Cli) -> None:
    Path("garbage").write_text("no rows\n")
    with open("garbage", "rb") as stdin:
        done = cli("sort", "-", "--into", "a/sorted", stdin=stdin)
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    assert os.listdir() == ["garbage"]


@pytest.mark.parametrize("made", ["csv", "excel", "jsonl", "parquet", "sqlite"])
def test_every_format_is_read_from_a_file_and_from_stdin(here: Path, made: str, cli: Cli) -> None:
    names = ["=a.jpg", "b.jpg", "it's.jpg"]
    rows = [row_of(image(name), "dog", 0.9, 1, Label("cat", 2, 0.1)) for name in names]
    write_rows("labels.csv", rows, made)
    if made == "excel":
        Path("labels.csv.meta.json").write_text(json.dumps({"made_with": {"format": "excel"}}))
    assert run(["sort", "labels.csv", "--into", "sorted"]) == 0
    assert sorted(os.listdir("sorted/dog")) == names
    if made != "excel":
        with open("labels.csv", "rb") as stdin:
            done = cli("sort", "-", "--into", "piped", stdin=stdin)
        assert (done.returncode, sorted(os.listdir("piped/dog"))) == (0, names)


def test_piped_rows_are_sorted_as_they_arrive(here: Path) -> None:
    rows = [row_of(image("a.jpg")), row_of(image("b.jpg"))]
    lines = open_format("csv", 1).lines
    command = [sys.executable, "-m", "dinoclassify", "sort", "-", "--into", "sorted"]
    with Program[bytes](command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(lines.header() + lines.line(rows[0]))
        process.stdin.flush()
        for _ in range(2400):
            if Path("sorted/dog/a.jpg").exists():
                break
            time.sleep(0.05)
        else:
            pytest.fail("the first row was not sorted while the second was still to come")
        process.stdin.write(lines.line(rows[1]))
        process.stdin.close()
        assert process.wait() == 0
    assert Path("sorted/dog/b.jpg").exists()


def test_changed_or_missing_images_are_left_and_reported(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row_of(image(name)) for name in ("same.jpg", "changed.jpg", "gone.jpg")]
    image("changed.jpg", "longer than it was")
    os.unlink("gone.jpg")
    write_rows("labels.csv", rows)
    assert run(["sort", "labels.csv", "--into", "sorted", "--mode", "move"]) == 3
    err = capsys.readouterr().err
    assert "changed.jpg has changed since it was labelled" in err
    assert "gone.jpg is gone" in err
    assert "1 moved, 1 gone, 1 changed" in err
    assert os.listdir("sorted/dog") == ["same.jpg"]
    assert Path("changed.jpg").exists()


def test_only_the_first_20_problems_are_listed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row_of(image(f"{number}.jpg")) for number in range(50)]
    write_rows("labels.csv", rows)
    for number in range(50):
        os.unlink(f"{number}.jpg")
    assert run(["sort", "labels.csv", "--into", "sorted"]) == 3
    err = capsys.readouterr().err
    assert err.count("is gone") == 20
    assert "and 30 more like these" in err
    assert not Path("sorted").exists()


def test_uncertain_and_failed_images_get_their_own_folders_or_stay(here: Path) -> None:
    unsure = replace(row_of(image("u.jpg")), status="uncertain")
    size = os.stat(image("f.jpg")).st_size
    failed = Prediction(
        "f.jpg", "failed", failure=Failure("truncated", "it ends"), size=size, mtime_ns=os.stat("f.jpg").st_mtime_ns
    )
    vanished = Prediction("v.jpg", "failed", failure=Failure("vanished", "no such file"))
    write_rows(
        "labels.csv", [row_of(image("ok.jpg"), "dog", 0.6), row_of(image("low.jpg"), "dog", 0.4), unsure, failed]
    )
    assert run(["sort", "labels.csv", "--into", "one", "--min-score", "0.5"]) == 0
    assert contents("one") == [b"ok.jpg"]
    write_rows("labels.csv", [row_of("ok.jpg", "dog", 0.6), row_of("low.jpg", "dog", 0.4), unsure, failed, vanished])
    command = ["sort", "labels.csv", "--into", "two", "--min-score", "0.5", "--uncertain-to", "look at", "--failed-to"]
    assert run([*command, "../bad"]) == 2, "that is no name"
    assert run([*command, "bad"]) == 3, "one of them is gone"
    assert sorted(os.listdir("two")) == ["bad", "dog", "look at", JOURNAL_NAME]
    assert sorted(os.listdir("two/look at")) == ["low.jpg", "u.jpg"]


def test_second_run_recognises_moved_images_and_sorts_new_ones_of_the_same_name(here: Path) -> None:
    rows = [row_of(image("x.jpg", "first"))]
    assert [outcome.done for outcome in sort(rows + rows, "move")] == ["done", "moved"]
    assert [outcome.done for outcome in sort(rows, "move")] == ["moved"]
    assert [outcome.done for outcome in sort([row_of(image("x.jpg", "second"))], "move")] == ["done"]
    assert contents("sorted") == [b"first", b"second"]


def test_exit_code_11_while_another_run_uses_the_folder(here: Path, cli: Cli) -> None:
    from dinoclassify.storage.lock import locked

    write_rows("labels.csv", [row_of(image("x.jpg"))])
    os.mkdir("sorted")
    with locked(f"sorted/{JOURNAL_NAME}", wait=False):
        assert cli("sort", "labels.csv", "--into", "sorted").returncode == 11


def test_dry_run_changes_nothing_and_lists_what_it_would_do(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(
        "labels.csv", [row_of(image("a/x.jpg", "1")), row_of(image("b/x.jpg", "2")), row_of(image("c/x.jpg", "1"))]
    )
    before = tree()
    assert run(["sort", "labels.csv", "--into", "sorted", "--dry-run", "--mode", "move"]) == 0
    assert tree() == before
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "move a/x.jpg -> sorted/dog/x.jpg",
        "move b/x.jpg -> sorted/dog/x-d4735e3a.jpg",
    ]
    assert "would do: 2 moved, 1 there already" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sort"], "name a file that predict wrote"),
        (["sort", "labels.csv"], "name a folder with --into"),
        (["sort", "nothing.csv", "--into", "x"], "nothing.csv is not there: "),
        (["sort", "x.jpg", "--into", "x"], "x.jpg is not what predict writes"),
        (
            ["sort", "labels.csv", "--into", "x", "--mode", "move", "--layout", "{rank}/{name}"],
            "choose --mode copy or a link",
        ),
        (["sort", "labels.csv", "--into", "x", "--groups", "everyday", "--layout", "{name}"], "{name} has no {group}"),
        (["sort", "--undo", "x", "--into", "y"], "leave out --into"),
        (["sort", "labels.csv", "--undo", "x"], "leave out RESULTS"),
        (["sort", "--undo", "nothing"], "there is no journal"),
        (["sort", "--undo", "labels.csv"], "there is no journal"),
    ],
)
def test_wrong_usage_is_reported_in_one_line(
    arguments: list[str], message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows("labels.csv", [row_of(image("x.jpg"))])
    assert run(arguments) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not Path("x").exists()


def test_output_folder_that_cannot_be_created(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows("labels.csv", [row_of(image("x.jpg"))])
    assert run(["sort", "labels.csv", "--into", "x.jpg"]) == 2
    assert "--into x.jpg: that is a file; name a folder, new or not" in capsys.readouterr().err
    assert run(["sort", "labels.csv", "--into", "x.jpg/y"]) == 6
    assert "dinoclassify: cannot write x.jpg/y" in capsys.readouterr().err


def test_relative_paths_are_explained_in_another_folder(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows("labels.csv", [row_of(image("a/x.jpg"))])
    os.mkdir("elsewhere")
    monkeypatch.chdir("elsewhere")
    assert run(["sort", "../labels.csv", "--into", "sorted"]) == 3
    assert "change to the folder where predict ran (cd)" in capsys.readouterr().err


def test_csv_without_final_newline_is_read_and_with_an_open_quote_refused(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows("labels.csv", [row_of(image("a.jpg")), row_of(image("b.jpg"))])
    whole = Path("labels.csv").read_text()
    Path("labels.csv").write_text(whole.rstrip())
    assert run(["sort", "labels.csv", "--into", "sorted"]) == 0
    assert contents("sorted") == [b"a.jpg", b"b.jpg"]
    Path("labels.csv").write_text(whole.replace("a.jpg", '"a.jpg'))
    assert run(["sort", "labels.csv", "--into", "other"]) == 2
    assert "labels.csv is not what predict writes (its end is within quotes)" in capsys.readouterr().err


def test_all_rows_are_read_before_any_image_is_touched(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows("labels.csv", [row_of(image(f"{number}.jpg")) for number in range(150)])
    with open("labels.csv", "a") as file:
        file.write("not,a,row\n")
    assert run(["sort", "labels.csv", "--into", "sorted"]) == 2
    assert "labels.csv is not what predict writes" in capsys.readouterr().err
    assert not Path("sorted").exists()


def test_pipe_that_breaks_off_says_how_to_resume_or_undo(here: Path, cli: Cli) -> None:
    write_rows("labels.csv", [row_of(image("x.jpg"))])
    with open("labels.csv", "a") as file:
        file.write("not,a,row\n")
    with open("labels.csv", "rb") as stdin:
        done = cli("sort", "-", "--into", "sorted", stdin=stdin)
    assert done.returncode == 2
    assert b"the run ends early: 1 copied; --resume goes on, --undo takes it back" in done.stderr
