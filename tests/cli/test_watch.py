"""`predict --watch`: a drop folder whose images are labelled as they arrive."""

import json
import os
import re
import shutil
import signal
from pathlib import Path

import pytest

from dinoclassify.cli import run
from dinoclassify.discovery.discover import discover
from tests.helpers.drop_folder import HEADER, drop, start, wait_for

pytestmark = pytest.mark.usefixtures("quick_watch")


def test_rows_are_added_as_images_arrive_until_sigterm(inbox: Path) -> None:
    drop("one.jpg")
    with start("-o", "labels.csv") as process:
        wait_for(1)
        drop("two.jpg", "chelsea")
        Path("inbox/three.jpg").write_text("no image")
        rows = wait_for(3)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, ""), err
    assert "stopped by SIGTERM: 3 images: 2 ok, 1 failed (1 not_image) -> labels.csv" in err
    assert rows[0][:3] == ["inbox/one.jpg", "ok", "espresso"]
    assert {row[0] for row in rows} == {"inbox/one.jpg", "inbox/two.jpg", "inbox/three.jpg"}
    assert json.loads(Path("labels.csv.meta.json").read_text())["counts"] == {"ok": 2, "uncertain": 0, "failed": 1}


@pytest.mark.slow
def test_the_metadata_name_the_model_while_the_watch_runs(inbox: Path, multi_label: str) -> None:
    drop("one.jpg")
    with start("-m", multi_label, "--runtime", "torch", "-o", "labels.csv"):
        wait_for(1)
        model = json.loads(Path("labels.csv.meta.json").read_text())["model"]
        assert (model["name"], model["multi_label"]) == (multi_label, True)


@pytest.mark.slow
def test_a_killed_watch_can_be_started_again_and_predict_can_resume_its_file(inbox: Path) -> None:
    drop("one.jpg")
    with start("-o", "labels.csv") as process:
        wait_for(1)
        process.kill()
    whole = Path("labels.csv").read_text()
    with open("labels.csv", "a") as file:
        file.write("inbox/two.jpg,ok,ha")
    drop("two.jpg")
    with start("-o", "labels.csv", "--limit", "1") as process:
        _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert "2 images: 2 ok, 1 of them from before" in err
    after = Path("labels.csv").read_text()
    assert after.startswith(whole)
    assert after.count("\n") == 3
    drop("three.jpg")
    assert run(["predict", "inbox", "-m", "builtin", "-o", "labels.csv", "--resume"]) == 0
    assert set(after.splitlines()) < set(Path("labels.csv").read_text().splitlines())


def test_a_signal_while_the_model_loads_ends_the_watch_with_code_0(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dinoclassify.cli.runs.signals import Stopped

    def stopped(*_: object, **__: object) -> None:
        raise Stopped(signal.SIGTERM)

    monkeypatch.setattr("dinoclassify.classifier.Classifier", stopped)
    assert run(["predict", "--watch", "inbox", "-m", "builtin", "-o", "labels.csv"]) == 0


def test_a_damaged_file_is_refused_and_not_truncated(inbox: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drop("a.jpg")
    drop("b.jpg")
    assert run(["predict", "inbox", "-m", "builtin", "-o", "labels.csv", "-q"]) == 0
    damaged = Path("labels.csv").read_text().replace("inbox/a.jpg", '"inbox/a.jpg')
    Path("labels.csv").write_text(damaged)
    assert run(["predict", "--watch", "inbox", "-m", "builtin", "-o", "labels.csv", "--limit", "1"]) == 2
    assert "its end is within quotes" in capsys.readouterr().err
    assert Path("labels.csv").read_text() == damaged


def test_all_commands_use_the_last_row_of_an_image(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["predict", "--watch", "inbox", "-m", "builtin", "-o", "labels.csv", "--limit", "1", "-q"]
    for photo in ("coffee", "chelsea"):
        drop("a.jpg", photo)
        assert run(command) == 0
    assert [row[2] for row in wait_for(2)] == ["espresso", "Egyptian cat"]
    assert run(["sort", "labels.csv", "--into", "sorted"]) == 0
    assert os.listdir("sorted/Egyptian cat") == ["a.jpg"]
    assert run(["tag", "labels.csv"]) == 0
    assert run(["report", "labels.csv", "-o", "page.html"]) == 0
    assert "1 row, 1 thumbnail" in capsys.readouterr().err
    shutil.copy("labels.csv", "part.csv")
    shutil.copy("labels.csv.meta.json", "part.csv.meta.json")
    assert run(["merge", "part.csv", "-o", "merged.csv"]) == 0
    assert "1 image: 1 ok of 1 part" in capsys.readouterr().err
    assert run(["predict", "inbox", "-m", "builtin", "-o", "labels.csv", "--resume"]) == 0
    assert re.search(r"1 image: 1 ok; 1 kept in .*; 1 passed over: 1 .xmp", capsys.readouterr().err)
    assert [row[2] for row in wait_for(1)] == ["Egyptian cat"]
    assert Path("labels.csv").read_bytes() == Path("merged.csv").read_bytes()


def test_an_image_is_known_under_any_spelling_of_its_path(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(folder: str, output: str) -> int:
        return run(["predict", "--watch", folder, "-m", "builtin", "-o", output, "--limit", "1", "-q"])

    drop("a.jpg")
    assert command("inbox", "labels.csv") == 0
    drop("b.jpg", "chelsea")
    assert command("./inbox", "labels.csv") == 0
    assert [row[0] for row in wait_for(2)] == ["inbox/a.jpg", "./inbox/b.jpg"]
    monkeypatch.chdir(inbox)
    assert command("../inbox", "../labels.csv") == 2
    assert f"../labels.csv has paths relative to {inbox.parent}: change to that folder first" in capsys.readouterr().err


def test_earlier_failures_stay_in_the_list_of_errors(inbox: Path) -> None:
    Path("inbox/a.jpg").write_text("no image")
    command = ["predict", "--watch", "inbox", "-m", "builtin", "-o", "labels.csv", "--errors-to", "errors", "-q"]
    assert run([*command, "--limit", "1"]) == 3
    assert Path("errors").read_text() == "inbox/a.jpg\n"
    drop("b.jpg")
    assert run([*command, "--limit", "1"]) == 3
    assert Path("errors").read_text() == "inbox/a.jpg\n"


def test_a_watch_that_writes_to_stdout_ends_when_its_reader_is_closed(inbox: Path) -> None:
    drop("one.jpg")
    with start("-f", "jsonl") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["label"] == "espresso"
        process.stdout.close()
        assert process.wait(timeout=20) == 0


def test_a_folder_named_like_an_archive_is_watched(inbox: Path) -> None:
    drop("one.jpg")
    inbox.rename("photos.zip")
    assert run(["predict", "--watch", "photos.zip", "-m", "builtin", "-o", "labels.csv", "--limit", "1", "-q"]) == 0
    assert [row[:2] for row in wait_for(1)] == [["photos.zip/one.jpg", "ok"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-"], "leave it out to follow a list on stdin"),
        (["inbox", "-0"], "--watch watches folders, not lists"),
        (
            ["photos.zip"],
            "--watch watches folders of this machine, not photos.zip: run predict --resume from cron instead",
        ),
        (["--files-from", "list.txt"], "leave it out to follow a list on stdin"),
        (["inbox", "-o", "x.parquet"], "choose csv, tsv or jsonl, not parquet"),
        (["inbox", "-o", "x.csv", "--resume"], "leave out --resume"),
        (["inbox", "-o", "other.csv"], "made with --model x, not builtin: use --model x, or name another --output"),
        (["inbox", "-o", "begun.csv"], "begun.csv.partial is of an interrupted run: finish that first, with --resume"),
        (
            ["inbox", "-o", "strange.csv"],
            "strange.csv.meta.json is missing, so nobody can tell which model made strange.csv: restore it, or name",
        ),
    ],
)
def test_options_that_do_not_go_with_watch_are_refused(
    arguments: list[str], message: str, inbox: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("list.txt", "begun.csv.partial", "photos.zip"):
        Path(name).touch()
    for name in ("other.csv", "strange.csv"):
        Path(name).write_text(f"{HEADER}\na.jpg,ok,cat,0.9,0,,,1,1\n")
    Path("other.csv.meta.json").write_text('{"made_with": {"model": "x"}, "adds_to_output": false}')
    assert run(["predict", "--watch", "-m", "builtin", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len([line for line in err.splitlines() if ": preparing builtin for " not in line]) == 1


def test_a_warning_about_the_inputs_is_logged_once(inbox: Path, caplog: pytest.LogCaptureFixture) -> None:
    from dinoclassify.cli.runs.watch import warning_once

    with warning_once():
        for _ in range(3):
            assert list(discover(["inbox/*.png"])) == []
    assert [record.getMessage() for record in caplog.records] == ["nothing matches inbox/*.png"]
    assert list(discover(["inbox/*.png"])) == []
    assert len(caplog.records) == 2
