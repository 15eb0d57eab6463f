"""How monitoring sees a watch: its status file and its messages for systemd."""

import json
import os
import signal
import socket
from pathlib import Path

import pytest

from dinoclassify.cli import run
from dinoclassify.errors import OutputError
from dinoclassify.storage.lock import locked
from dinoclassify.writers.heartbeat import notify
from tests.helpers.drop_folder import drop, start, wait_for
from tests.helpers.watching import WATCH, names_after_watch, names_in

pytestmark = pytest.mark.usefixtures("quick_watch")


def test_systemd_is_told_of_the_start_each_beat_and_the_end(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_status_file_that_is_a_symbolic_link_stays_one(inbox: Path) -> None:
    os.mkdir("run")
    os.symlink("run/status.json", "status.json")
    drop("one.jpg")
    assert names_after_watch(1, "--status", "status.json") == ["inbox/one.jpg"]
    assert os.path.islink("status.json")
    assert json.loads(Path("run/status.json").read_text())["rows"] == 1


def test_two_watches_cannot_share_a_status_file(inbox: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Otherwise the one that goes on would hide that the other has ended."""
    with locked("status.json", wait=False):
        assert run(f"{WATCH} --status status.json --limit 1".split()) == 11
    assert "another run is writing status.json (process " in capsys.readouterr().err


def test_notify_does_nothing_where_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("", "nonsense", "/no/such/socket", "@nobody-listens"):
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        notify("READY=1")


def test_a_watch_goes_on_if_its_status_file_cannot_be_written(
    inbox: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OutputError("cannot write status.json: No space left on device")

    monkeypatch.setattr("dinoclassify.writers.heartbeat.replacing", fail)
    drop("one.jpg")
    assert run(f"{WATCH} --status status.json --limit 1".split()) == 0
    assert capsys.readouterr().err.count("cannot write status.json") == 1
    assert names_in("labels.csv") == ["inbox/one.jpg"]
