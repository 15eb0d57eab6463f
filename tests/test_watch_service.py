"""`predict --watch` as a service: its output is rotated, its disk is full, and others look after it."""

import errno
import json
import os
import shutil
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import PHOTOS
from drop_folder import HEADER, drop, start, wait_for

from dinoclassify.cli import run
from dinoclassify.cli.heartbeat import notify
from dinoclassify.errors import OutputError
from dinoclassify.rows import Label, Prediction
from dinoclassify.seen import Seen, read_seen, write_seen
from dinoclassify.writers import open_format
from dinoclassify.writers.append_file import AppendFile
from dinoclassify.writers.rotated_file import RotatedFile

COMMAND = "predict --watch inbox -m builtin -o labels.csv"


def row(name: str) -> Prediction:
    return Prediction(name, "ok", (Label("cat", 281, 0.9),), size=1, mtime_ns=1)


def names_in(*paths: str) -> list[str]:
    """The names of the rows in files, each of which has a header."""
    lines = [Path(path).read_text().splitlines() for path in paths]
    assert all(each[0] == HEADER for each in lines)
    return [line.split(",")[0] for each in lines for line in each[1:]]


def never(_: float) -> bool:
    pytest.fail("there is nothing to wait for")


@pytest.fixture
def begun() -> list[str]:
    """A note for each new file."""
    return []


@pytest.fixture
def rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: list[str]) -> RotatedFile[Prediction]:
    monkeypatch.chdir(tmp_path)
    file = AppendFile("rows.csv", "rows.csv", open_format("csv", 1).lines)
    file.open(check_end=True)
    rotated = RotatedFile(file, lambda: begun.append("begun"))
    rotated.append(row("1"), never)
    return rotated


def truncate() -> None:
    shutil.copy("rows.csv", "old.csv")
    os.truncate("rows.csv", 0)


def rename() -> None:
    os.rename("rows.csv", "old.csv")


def create() -> None:
    rename()
    Path("rows.csv").touch()


@pytest.mark.parametrize("rotate", [truncate, rename, create])
def test_rows_after_a_rotation_are_in_a_file_with_a_header(
    rotate: Callable[[], None], rotated: RotatedFile[Prediction], begun: list[str]
) -> None:
    for number in range(2, 5):
        rotate()
        rotated.append(row(str(number)), never)
        assert names_in("old.csv") == [str(number - 1)]
        assert names_in("rows.csv") == [str(number)]
    assert len(begun) == 3


def test_a_file_that_was_removed_is_begun_at_once(rotated: RotatedFile[Prediction], begun: list[str]) -> None:
    os.unlink("rows.csv")
    rotated.follow()
    assert names_in("rows.csv") == []
    rotated.follow()
    rotated.append(row("2"), never)
    rotated.sync()
    assert names_in("rows.csv") == ["2"]
    assert begun == ["begun"]


def test_another_file_in_its_place_is_not_added_to(rotated: RotatedFile[Prediction]) -> None:
    rename()
    Path("rows.csv").write_text("a,b\n1,2\n")
    with pytest.raises(OutputError, match=r"cannot add to rows\.csv: it is another file now, with other rows"):
        rotated.append(row("2"), never)
    assert Path("rows.csv").read_text() == "a,b\n1,2\n"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_waited_for(
    rotated: RotatedFile[Prediction],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: int,
) -> None:
    pauses: list[float] = []
    write = os.write

    def write_a_part(descriptor: int, line: bytes) -> int:
        if len(pauses) == 8:
            return write(descriptor, line)
        if len(line) > 5:
            return write(descriptor, bytes(line[:5]))
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("dinoclassify.files.os.write", write_a_part)

    def wait(seconds: float) -> bool:
        pauses.append(seconds)
        assert names_in("rows.csv") == ["1"], "no part of a row"
        rotated.follow()
        return True

    rotated.append(row("x" * 9), wait)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    assert names_in("rows.csv") == ["1", "x" * 9]
    assert [record.getMessage() for record in caplog.records] == [
        f"cannot write rows.csv: {os.strerror(number)}: waiting for room",
        "there is room for rows.csv again",
    ]


def test_a_full_disk_is_waited_for_no_longer_than_the_run(
    rotated: RotatedFile[Prediction], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("dinoclassify.files.os.write", full)
    with pytest.raises(OutputError, match="No space left"):
        rotated.append(row("2"), lambda _: False)


def test_what_was_seen_is_the_same_after_a_restart(tmp_path: Path) -> None:
    seen = {
        "/a.jpg": Seen((1, 2), "ok"),
        "/b\udcff\n.jpg": Seen((None, None), "failed", "unreadable"),
        "/é.jpg": Seen((3, 4), "uncertain"),
    }
    path = str(tmp_path / "rows.csv.seen")
    write_seen(path, {"model": "x"}, seen, rights_of=path)
    again = dict(read_seen(path, {"model": "x"}))
    assert {name: (last.signature, last.status, last.error_code) for name, last in again.items()} == {
        name: (last.signature, last.status, last.error_code) for name, last in seen.items()
    }
    assert all(last.earlier for last in again.values())
    assert list(read_seen(path, {"model": "y"})) == [], "rows of another model are no rows of this one"


@pytest.mark.parametrize("hang_up", [False, True])
def test_an_output_that_is_renamed_while_it_is_written(inbox: Path, hang_up: bool) -> None:
    drop("one.jpg")
    with start("-o", "labels.csv", "--status", "status.json") as process:
        wait_for(1)
        os.rename("labels.csv", "old.csv")
        if hang_up:
            process.send_signal(signal.SIGHUP)
        wait_for(0)  # the header
        drop("two.jpg", "chelsea")
        rows = wait_for(1)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert "2 images: 2 ok -> labels.csv" in err
    assert [row[0] for row in rows] == ["inbox/two.jpg"]
    assert names_in("old.csv") == ["inbox/one.jpg"]
    status = json.loads(Path("status.json").read_text())
    assert (status["state"], status["rows"], status["failed"], status["waiting"]) == ("stopped", 2, 0, 0)
    assert status["output"] == "labels.csv"
    assert status["last_row"] <= status["time"]

    drop("three.jpg", "rocket")
    assert run(f"{COMMAND} --limit 1".split()) == 0
    assert names_in("labels.csv") == ["inbox/two.jpg", "inbox/three.jpg"], "the first has its row in the old file"
    os.unlink("labels.csv")
    assert run(f"{COMMAND} --limit 3".split()) == 0
    assert len(names_in("labels.csv")) == 3, "a new file begins with all images"
    assert not os.path.exists("labels.csv.seen")


def test_systemd_is_told(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("notify")
        systemd.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", str(inbox.parent / "notify"))
        drop("one.jpg")
        with start("-o", "labels.csv") as process:
            assert systemd.recv(1000) == b"READY=1"
            assert b"WATCHDOG=1\nSTATUS=0 rows" in systemd.recv(1000)
            wait_for(1)
            assert b"WATCHDOG=1\nSTATUS=1 rows, 0 failed, 0 waiting" in systemd.recv(1000)
            process.send_signal(signal.SIGTERM)
            while b"STOPPING=1" not in systemd.recv(1000):
                pass
            process.communicate(timeout=20)


def test_nobody_is_told_where_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("", "nonsense", "/no/such/socket", "@nobody-listens"):
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        notify("READY=1")


def test_a_status_that_cannot_be_written_is_no_reason_to_stop(
    inbox: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OutputError("cannot write status.json: No space left on device")

    monkeypatch.setattr("dinoclassify.cli.heartbeat.replacing", fail)
    drop("one.jpg")
    assert run(f"{COMMAND} --status status.json --limit 1".split()) == 0
    assert capsys.readouterr().err.count("cannot write status.json") == 1
    assert names_in("labels.csv") == ["inbox/one.jpg"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("predict inbox --status s.json", 2, "--status goes with --watch"),
        ("predict --watch inbox -o l.csv --status l.csv", 2, "--status l.csv would be written over another file"),
        ("predict --watch inbox -o l.csv --status l.csv.seen", 2, "would be written over another file of this run"),
        ("predict --watch inbox --errors-to e --status e", 2, "would be written over another file of this run"),
        ("predict --watch inbox --status no/s.json", 6, "cannot write no/s.json: there is no folder"),
        ("predict --watch inbox --status inbox", 6, "cannot write inbox: it is a folder"),
    ],
)
def test_wrong_status(arguments: str, code: int, message: str, inbox: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*arguments.split(), "-m", "builtin"]) == code
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_an_image_that_arrives_unreadable_gets_its_label(inbox: Path) -> None:
    shutil.copy(PHOTOS / "coffee.jpg", "inbox/late.jpg")
    os.chown("inbox/late.jpg", 1234, 1234)
    os.chmod("inbox/late.jpg", 0o600)
    with start("-o", "labels.csv", before=["setpriv", "--bounding-set=-dac_override,-dac_read_search"]):
        assert wait_for(1)[0][1:6:4] == ["failed", "unreadable"]
        os.chmod("inbox/late.jpg", 0o644)
        assert wait_for(2)[1][1:3] == ["ok", "espresso"]
