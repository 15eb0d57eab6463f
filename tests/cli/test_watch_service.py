"""`predict --watch` as a service: hang-ups, status files, and failures."""

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dinoclassify.cli import run
from dinoclassify.errors import WorkerError
from tests.conftest import PHOTOS
from tests.helpers.drop_folder import QUICK, drop, start, wait_for
from tests.helpers.watching import WATCH

pytestmark = pytest.mark.usefixtures("quick_watch")

# So that a new file soon after SIGHUP is not due to the next poll.
SLOW_AFTER_THE_FIRST_ROW = """
note = watch.Watch.note

def note_and_slow_down(images, row):
    note(images, row)
    watch.PAUSE = 60.0

watch.Watch.note = note_and_slow_down
"""


def test_sighup_starts_a_new_file_at_once_and_does_not_end_the_watch(inbox: Path) -> None:
    drop("one.jpg")
    with start("-o", "labels.csv", script=f"{QUICK}{SLOW_AFTER_THE_FIRST_ROW}") as process:
        wait_for(1)
        time.sleep(0.5)  # until the long pause
        os.rename("labels.csv", "old.csv")
        process.send_signal(signal.SIGHUP)
        begun = time.monotonic()
        wait_for(0)
        assert time.monotonic() - begun < 10
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert process.returncode == 0


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="only /proc tells which signals are caught")
def test_sighup_while_the_model_loads_does_not_end_the_watch(inbox: Path) -> None:
    drop("one.jpg")
    with start("-o", "labels.csv") as process:
        while not int(re.findall(r"SigCgt:\s(\w+)", Path(f"/proc/{process.pid}/status").read_text())[0], 16) & 1:
            time.sleep(0.001)
        while not os.path.exists("labels.csv"):
            process.send_signal(signal.SIGHUP)
            time.sleep(0.1)
        wait_for(1)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("predict inbox --status s.json", 2, "--status goes with --watch"),
        ("predict --watch inbox -o l.csv --status l.csv", 2, "--status l.csv is already another file of this run"),
        ("predict --watch inbox -o l.csv --status l.csv.seen", 2, "the suffix .seen is kept for what --watch"),
        (
            "predict --watch inbox --errors-to e --status e",
            2,
            "is already another file of this run: choose another name",
        ),
        ("predict --watch inbox --status no/s.json", 6, "cannot write no/s.json: there is no folder"),
        ("predict --watch inbox --status inbox/a.jpg", 2, "is already another file of this run: choose another name"),
        ("predict --watch inbox --status inbox", 2, "--status inbox is not a regular file: name a file"),
        ("predict --watch inbox --status -", 2, "--status - is not a regular file: name a file"),
        ("predict --watch inbox --status /dev/null", 2, "--status /dev/null is not a regular file: name a file"),
        ("predict --watch inbxo", 4, "inbxo is not there: did you mean inbox?"),
        ("predict --watch inbox -o x.seen", 2, "the suffix .seen is kept for what --watch has seen"),
    ],
)
def test_a_status_file_in_a_wrong_place_is_refused(
    arguments: str, code: int, message: str, inbox: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*arguments.split(), "-m", "builtin"]) == code
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_an_unreadable_image_gets_its_label_once_it_is_readable(inbox: Path) -> None:
    shutil.copy(PHOTOS / "coffee.jpg", "inbox/late.jpg")
    os.chown("inbox/late.jpg", 1234, 1234)
    os.chmod("inbox/late.jpg", 0o600)
    no_root = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    with start("-o", "labels.csv", before=no_root):
        assert wait_for(1)[0][1:6:4] == ["failed", "unreadable"]
    with start("-o", "labels.csv", "--status", "status.json", before=no_root):
        while not os.path.exists("status.json"):
            time.sleep(0.05)
        time.sleep(1)  # it is tried again at once, which gives no new row
        os.chmod("inbox/late.jpg", 0o644)
        assert [row[1] for row in wait_for(2)] == ["failed", "ok"]


def test_too_many_failures_end_the_watch_with_a_summary_and_a_last_status(
    inbox: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("inbox/bad.jpg").write_text("no image")
    command = f"{WATCH} --status status.json --errors-to errors --strict"
    assert run(command.split()) == 7
    assert json.loads(Path("status.json").read_text())["state"] == "stopped"
    assert Path("errors").read_text() == "inbox/bad.jpg\n"
    assert "1 image: 1 failed (1 not_image) -> labels.csv" in capsys.readouterr().err


@pytest.mark.parametrize("error", [WorkerError, ValueError])
def test_an_error_ends_the_watch_with_a_summary_and_a_last_status(
    error: type[Exception], inbox: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(rows: Iterator[object], *_: object) -> Iterator[object]:
        yield next(rows)
        raise error("it went wrong")

    monkeypatch.setattr("dinoclassify.cli.runs.watch._changed_rows", fail)
    messages: list[str] = []
    monkeypatch.setattr("dinoclassify.cli.runs.watch.notify", messages.append)
    drop("one.jpg")
    assert run(f"{WATCH} --status status.json".split()) == 1
    assert json.loads(Path("status.json").read_text())["state"] == "stopped"
    assert messages == ["STOPPING=1"]
    assert "counts" in json.loads(Path("labels.csv.meta.json").read_text())
    summary, last_line = capsys.readouterr().err.splitlines()[-2:]
    assert (summary.endswith(" -> labels.csv"), "it went wrong" in last_line) == (True, True)


def test_a_reader_that_goes_away_ends_the_watch_with_a_last_status(inbox: Path) -> None:
    drop("one.jpg")
    with start("-f", "jsonl", "--status", "status.json") as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert json.loads(Path("status.json").read_text())["state"] == "watching"
        process.stdout.close()
        assert process.wait(timeout=20) == 0
    assert json.loads(Path("status.json").read_text())["state"] == "stopped"
