"""`predict --watch` as a service: its output is rotated, its disk is full, and others look after it."""

import errno
import json
import os
import re
import shutil
import signal
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from dinoclassify.cli import run
from dinoclassify.discovery import watch
from dinoclassify.discovery.seen import Seen, SeenFile
from dinoclassify.errors import OutputError, UsageError
from dinoclassify.storage.lock import locked
from dinoclassify.types.prediction import Label, Prediction
from dinoclassify.writers.append_file import AppendFile
from dinoclassify.writers.formats import open_format
from dinoclassify.writers.heartbeat import notify
from dinoclassify.writers.rotated_file import RotatedFile
from tests.conftest import PHOTOS
from tests.helpers.drop_folder import HEADER, drop, start, wait_for

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


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds pass in a tenth, but for processes of their own."""
    for name in ("PAUSE", "SETTLED"):
        monkeypatch.setattr(watch, name, getattr(watch, name) / 10)


@pytest.fixture
def begun() -> list[str]:
    """A note for each new file."""
    return []


@pytest.fixture
def rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: list[str]) -> RotatedFile[Prediction]:
    monkeypatch.chdir(tmp_path)
    return open_rotated("rows.csv", begun)


def open_rotated(name: str, begun: list[str]) -> RotatedFile[Prediction]:
    file = AppendFile(os.path.realpath(name), name, open_format("csv", 1).lines)
    file.open(check_end=True)
    rotated = RotatedFile(file, lambda: begun.append("begun"))
    assert rotated.append(row("1"), never)
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
        assert rotated.append(row(str(number)), never)
        assert names_in("old.csv") == [str(number - 1)]
        assert names_in("rows.csv") == [str(number)]
    assert len(begun) == 3


def test_a_file_that_was_removed_is_begun_at_once(rotated: RotatedFile[Prediction], begun: list[str]) -> None:
    os.unlink("rows.csv")
    rotated.follow()
    assert names_in("rows.csv") == []
    rotated.follow()
    assert rotated.append(row("2"), never)
    rotated.sync()
    assert names_in("rows.csv") == ["2"]
    assert begun == ["begun"]


def test_a_file_that_is_truncated_at_the_last_moment(
    rotated: RotatedFile[Prediction], monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_in_place(_: object) -> bool:
        os.truncate("rows.csv", 0)
        return True

    with monkeypatch.context() as patch:
        patch.setattr(AppendFile, "is_in_place", is_in_place)
        assert rotated.append(row("2"), never)
    assert names_in("rows.csv") == ["2"]
    assert rotated.append(row("3"), never)
    assert names_in("rows.csv") == ["2", "3"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_new_file_has_the_rights_of_the_old_one(rotated: RotatedFile[Prediction]) -> None:
    os.chown("rows.csv", 1234, 1235)
    os.chmod("rows.csv", 0o640)
    rename()
    rotated.follow()
    status = os.stat("rows.csv")
    assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o640, 1234, 1235)
    create()
    rotated.follow()
    assert os.stat("rows.csv").st_uid == 0, "logrotate has made this one as it should be"


def test_a_link_that_leads_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkdir("large")
    Path("here.csv").touch()
    os.symlink("here.csv", "rows.csv")
    rotated = open_rotated("rows.csv", begun)
    os.rename("here.csv", "large/there.csv")
    os.unlink("rows.csv")
    os.symlink("large/there.csv", "rows.csv")
    assert rotated.append(row("2"), never)
    assert names_in("large/there.csv") == ["1", "2"]
    rename()
    assert rotated.append(row("3"), never)
    assert names_in("rows.csv") == ["3"]
    assert not os.path.islink("rows.csv")


def replace_by(content: str) -> None:
    Path("edited").write_text(content)
    os.rename("edited", "rows.csv")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("a,b\n1,2\n", r"it has other rows \(it has other columns\)"),
        (f"{HEADER}\r\n", "its lines end in CRLF"),
        (f'{HEADER}\n"x,ok,cat,0.9,281,,,1,1\n2,ok,cat,0.9,281,,,1,1\n', "it has other rows"),
    ],
)
def test_what_cannot_be_added_to_is_waited_for(
    rotated: RotatedFile[Prediction], caplog: pytest.LogCaptureFixture, content: str, why: str
) -> None:
    replace_by(content)

    def wait(_: float) -> bool:
        assert Path("rows.csv").read_bytes() == content.encode()
        assert re.search(f"cannot add to rows.csv, {why}.*: move it away", rotated.trouble or "")
        os.unlink("rows.csv")
        return True

    assert rotated.append(row("2"), wait)
    assert names_in("rows.csv") == ["2"]
    assert rotated.trouble is None
    assert [record.getMessage()[:24] for record in caplog.records] == [
        "cannot add to rows.csv, ",
        "rows.csv can be written ",
    ]


def test_a_folder_whose_disk_is_away_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkdir("out")
    rotated = open_rotated("out/rows.csv", [])
    os.rename("out", "disk")
    os.mkdir("out")

    def wait(_: float) -> bool:
        assert os.listdir("out") == []
        os.rmdir("out")
        os.rename("disk", "out")
        return True

    assert rotated.append(row("2"), wait)
    assert names_in("out/rows.csv") == ["1", "2"]
    assert "its folder is away, or another one; is its disk mounted?; waiting" in caplog.text


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

    monkeypatch.setattr("dinoclassify.storage.atomic.os.write", write_a_part)

    def wait(seconds: float) -> bool:
        pauses.append(seconds)
        assert names_in("rows.csv") == ["1"], "no part of a row"
        rotated.follow()
        assert rotated.trouble == f"cannot write rows.csv: {os.strerror(number)}", (
            "that the file is there helps nothing"
        )
        return True

    assert rotated.append(row("x" * 9), wait)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    assert names_in("rows.csv") == ["1", "x" * 9]
    assert [record.getMessage() for record in caplog.records] == [
        f"cannot write rows.csv: {os.strerror(number)}; waiting until it can be written",
        "rows.csv can be written again",
    ]


def test_a_full_disk_is_waited_for_no_longer_than_the_run(
    rotated: RotatedFile[Prediction], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("dinoclassify.storage.atomic.os.write", full)
    assert not rotated.append(row("2"), lambda _: False)


def test_what_was_seen_is_the_same_after_a_restart(tmp_path: Path) -> None:
    seen = {
        "/a.jpg": Seen((1, 2), "ok"),
        "/b\udcff\n.jpg": Seen((None, None), "failed", "unreadable"),
        "/é.jpg": Seen((3, 4), "uncertain"),
    }
    output = str(tmp_path / "rows.csv")
    memory = SeenFile({"model": "x"})
    memory.rotated = {"/old.jpg": seen["/a.jpg"]}
    memory.replace(output, {"/a.jpg": seen["/a.jpg"]})
    memory.add_root("/in", (1, 2))
    for image, last in seen.items():
        memory.add(image, last)
    memory.close()
    with open(f"{output}.seen", "ab") as file:
        file.write(b'["/torn.jpg", 1,')
    again = SeenFile({"model": "x"})
    earlier = {image: replace(last, earlier=True) for image, last in seen.items()}
    assert again.read(output) == earlier
    assert again.rotated == {"/old.jpg": earlier["/a.jpg"]}
    assert again.roots == {"/in": (1, 2)}
    other = SeenFile({"model": "y"})
    assert (other.read(output), other.rotated, other.roots) == ({}, {}, {}), "rows of another model"


def test_a_memory_that_cannot_be_written_is_waited_for(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add, fails = SeenFile.add, [True, False, True, True, False]

    def add_later(memory: SeenFile, image: str, last: Seen) -> None:
        if fails and fails.pop(0):
            raise OutputError("cannot write labels.csv.seen: No space left on device")
        add(memory, image, last)

    monkeypatch.setattr(SeenFile, "add", add_later)
    monkeypatch.setattr("dinoclassify.writers.rotated_file.FIRST_PAUSE", 0.1)
    for name in ("one", "two", "three"):
        drop(f"{name}.jpg")
    assert len(labelled(3)) == 3
    assert capsys.readouterr().err.count("; waiting until it can be written") == 2
    os.rename("labels.csv", "old.csv")
    drop("four.jpg")
    assert labelled(1) == ["inbox/four.jpg"]


def test_a_disk_that_is_full_at_the_start_is_waited_for_but_not_at_the_first(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begin, fails, said = SeenFile.replace, [True], "cannot write labels.csv.seen: No space left on device\n"

    def begin_later(memory: SeenFile, output: str, rows: Mapping[str, Seen]) -> None:
        if fails and fails.pop():
            raise OutputError(said.strip())
        begin(memory, output, rows)

    monkeypatch.setattr(SeenFile, "replace", begin_later)
    drop("one.jpg")
    assert run(f"{COMMAND} --limit 1".split()) == 6
    err = capsys.readouterr().err  # which may begin with the model being prepared
    assert err.endswith(f"dinoclassify: {said}")
    assert labelled(1) == ["inbox/one.jpg"]
    os.rename("labels.csv", "old.csv")
    drop("two.jpg")
    fails.append(True)
    assert labelled(1) == ["inbox/two.jpg"]
    assert said in capsys.readouterr().err
    assert json.loads(Path("labels.csv.meta.json").read_text())["appended"] is True


@pytest.mark.parametrize(
    "content",
    ["", "\0\0\n", '{"x": 1\n', "[" * 100_000 + "\n",
     '{}\n["/a", "x", 2, "ok", null]\n', '{}\n[null, 1, 2, "ok", null]\n',
     '{}\n["/a", 1, 2, "good", null]\n', '{}\n["/a", 1, 2, "failed", "bad"]\n', '{}\n7\n'],
)  # fmt: skip
def test_a_damaged_memory_is_named(inbox: Path, content: str) -> None:
    Path("labels.csv.seen").write_text(content)
    with pytest.raises(UsageError, match=r"cannot read labels\.csv\.seen \(.*\): remove it; images whose rows were"):
        SeenFile({}).read("labels.csv")


def test_a_memory_that_is_a_folder_is_named(inbox: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkdir("labels.csv.seen")
    assert run(f"{COMMAND} --limit 1".split()) == 2
    assert "labels.csv.seen (Is a directory): remove it" in capsys.readouterr().err


def test_an_output_that_is_renamed_while_it_is_written(inbox: Path) -> None:
    drop("one.jpg")
    with start("-o", "labels.csv", "--status", "status.json") as process:
        wait_for(1)
        os.rename("labels.csv", "old.csv")
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
    assert (status["output"], status["away"], status["trouble"]) == ("labels.csv", [], None)
    assert status["last_row"] <= status["time"]


def test_sighup_does_not_end_it_and_begins_a_new_file_at_once(inbox: Path) -> None:
    drop("one.jpg")
    with start("-o", "labels.csv", script="from dinoclassify.discovery import watch; watch.PAUSE = 12.0") as process:
        wait_for(1)
        time.sleep(1)  # the look that has given the image is over
        os.rename("labels.csv", "old.csv")
        process.send_signal(signal.SIGHUP)
        begun = time.monotonic()
        wait_for(0)
        assert time.monotonic() - begun < 10
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert process.returncode == 0


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="only /proc tells which signals are caught")
def test_sighup_while_the_model_is_loaded_does_not_end_it(inbox: Path) -> None:
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


def labelled(limit: int, *more: str) -> list[str]:
    """The names of the rows in the output after a run that ends with so many images."""
    assert run([*COMMAND.split(), "--limit", str(limit), *more]) in {0, 3}
    return names_in("labels.csv")


@pytest.mark.parametrize("kept", [b"", None])
def test_an_output_that_was_rotated_while_no_watch_ran(
    inbox: Path, capsys: pytest.CaptureFixture[str], kept: bytes | None
) -> None:
    drop("one.jpg")
    assert labelled(1) == ["inbox/one.jpg"]
    for name in ("two", "three"):
        os.rename("labels.csv", "old.csv")
        if kept is not None:
            Path("labels.csv").write_bytes(kept)
        drop(f"{name}.jpg", "chelsea")
        assert labelled(1) == [f"inbox/{name}.jpg"]
    assert ("labels.csv is new; the images that had rows" in capsys.readouterr().err) == (kept is None)
    os.unlink("labels.csv")
    os.unlink("labels.csv.seen")
    assert len(labelled(3)) == 3, "all begins anew"


def test_rows_that_people_remove_are_made_again(inbox: Path) -> None:
    for name in ("a", "b", "c"):
        drop(f"{name}.jpg")
    assert len(labelled(3)) == 3
    lines = Path("labels.csv").read_text().splitlines(keepends=True)
    Path("labels.csv").write_text("".join(line for line in lines if "b.jpg" not in line))
    assert names_in("labels.csv") == ["inbox/a.jpg", "inbox/c.jpg"]
    assert labelled(1) == ["inbox/a.jpg", "inbox/c.jpg", "inbox/b.jpg"]


@pytest.mark.parametrize("edit", ["rename", "in place", "no end", "garbage"])
def test_an_output_that_people_edit_while_it_is_written(inbox: Path, edit: str) -> None:
    for name in ("a", "b", "c"):
        drop(f"{name}.jpg")
    with start("-o", "labels.csv"):
        wait_for(3)
        lines = [line for line in Path("labels.csv").read_text().splitlines(keepends=True) if "b.jpg" not in line]
        if edit == "garbage":
            with open("labels.csv", "a") as file:
                file.write("x")
        else:
            Path("edited").write_text("".join(lines).rstrip("\n") if edit == "no end" else "".join(lines))
            shutil.copyfile("edited", "labels.csv") if edit == "in place" else os.rename("edited", "labels.csv")
        drop("d.jpg")
        expected = {f"inbox/{name}.jpg" for name in "abcd"}
        while {row[0] for row in wait_for(3)} != expected:
            time.sleep(0.05)
    assert sorted(names_in("labels.csv")) == sorted(expected)


def test_what_is_retried_is_counted_once(inbox: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drop("a.jpg")
    assert labelled(1) == ["inbox/a.jpg"]
    drop("b.jpg")
    assert run([*COMMAND.split(), "--limit", "1"]) == 0
    assert "2 images: 2 ok, 1 of them from before" in capsys.readouterr().err


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
            while b"WATCHDOG=1\nSTATUS=1 rows, 0 failed, 0 waiting" not in systemd.recv(1000):
                pass
            process.send_signal(signal.SIGTERM)
            while b"STOPPING=1" not in systemd.recv(1000):
                pass
            process.communicate(timeout=20)


def test_a_status_that_is_a_link_stays_one(inbox: Path) -> None:
    os.mkdir("run")
    os.symlink("run/status.json", "status.json")
    drop("one.jpg")
    assert labelled(1, "--status", "status.json") == ["inbox/one.jpg"]
    assert os.path.islink("status.json")
    assert json.loads(Path("run/status.json").read_text())["rows"] == 1


def test_a_status_is_of_one_watch(inbox: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else the one that goes on would hide that the other has ended."""
    with locked("status.json", wait=False):
        assert run(f"{COMMAND} --status status.json --limit 1".split()) == 11
    assert "another run is writing status.json (process " in capsys.readouterr().err


def test_nobody_is_told_where_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("", "nonsense", "/no/such/socket", "@nobody-listens"):
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        notify("READY=1")


def test_a_status_that_cannot_be_written_is_no_reason_to_stop(
    inbox: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OutputError("cannot write status.json: No space left on device")

    monkeypatch.setattr("dinoclassify.writers.heartbeat.replacing", fail)
    drop("one.jpg")
    assert run(f"{COMMAND} --status status.json --limit 1".split()) == 0
    assert capsys.readouterr().err.count("cannot write status.json") == 1
    assert names_in("labels.csv") == ["inbox/one.jpg"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("predict inbox --status s.json", 2, "--status goes with --watch"),
        ("predict --watch inbox -o l.csv --status l.csv", 2, "--status l.csv would be written over another file"),
        ("predict --watch inbox -o l.csv --status l.csv.seen", 2, "the suffix .seen is kept for what --watch"),
        ("predict --watch inbox --errors-to e --status e", 2, "would be written over another file of this run"),
        ("predict --watch inbox --status no/s.json", 6, "cannot write no/s.json: there is no folder"),
        ("predict --watch inbox --status inbox/a.jpg", 2, "would be written over another file of this run"),
        ("predict --watch inbox --status inbox", 2, "--status inbox: that is no regular file"),
        ("predict --watch inbox --status -", 2, "--status -: that is no regular file"),
        ("predict --watch inbox --status /dev/null", 2, "--status /dev/null: that is no regular file"),
        ("predict --watch inbxo", 4, "inbxo is not there: did you mean inbox?"),
        ("predict --watch inbox -o x.seen", 2, "the suffix .seen is kept for what --watch has seen"),
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
    no_root = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    with start("-o", "labels.csv", before=no_root):
        assert wait_for(1)[0][1:6:4] == ["failed", "unreadable"]
    with start("-o", "labels.csv", "--status", "status.json", before=no_root):
        while not os.path.exists("status.json"):
            time.sleep(0.05)
        time.sleep(4)  # it is tried again at once, which says nothing new
        os.chmod("inbox/late.jpg", 0o644)
        assert [row[1] for row in wait_for(2)] == ["failed", "ok"]


def test_too_many_failures_end_it_with_its_last_words(inbox: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("inbox/bad.jpg").write_text("no image")
    command = f"{COMMAND} --status status.json --errors-to errors --strict"
    assert run(command.split()) == 7
    assert json.loads(Path("status.json").read_text())["state"] == "stopped"
    assert Path("errors").read_text() == "inbox/bad.jpg\n"
    assert "1 image: 1 failed (1 not_image) -> labels.csv" in capsys.readouterr().err


def test_a_new_file_has_the_rights_of_the_old_one_also_at_the_second_try(
    rotated: RotatedFile[Prediction], monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chmod("rows.csv", 0o640)
    rename()
    with monkeypatch.context() as patch:
        patch.setattr("dinoclassify.writers.append_file.os.open", fail_to_open)
        rotated.follow()
    assert not os.path.exists("rows.csv")
    rotated.follow()
    assert os.stat("rows.csv").st_mode & 0o777 == 0o640


def fail_to_open(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")
