"""Objects of a store: rows stay on this machine until they are sent, and those of other machines are not lost."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from dinoclassify.errors import LockedError, OutputError, UsageError
from dinoclassify.storage.lock import locked
from dinoclassify.storage.remote import filesystem
from dinoclassify.types.prediction import Prediction
from dinoclassify.writers import staging
from dinoclassify.writers.formats import FORMATS
from dinoclassify.writers.staging import published, stage_of
from dinoclassify.writers.target import Target, exclusive
from tests.helpers.outputs import PATHS, content, in_store, interrupt, labels, row, rows, write_output

pytestmark = pytest.mark.usefixtures("eleven_images")


OBJECT = "STORE/object.csv"


def in_stage(output_name: str) -> list[str]:
    folder, file = os.path.split(stage_of(output_name))
    return sorted(entry for entry in os.listdir(folder) if entry.startswith(file))


def put(text: str) -> None:
    """Write the object as another machine would."""
    Path(in_store(OBJECT).removeprefix("diskstore://")).write_text(text)


def raising(error: Exception) -> Callable[..., None]:
    def refuse(*_: object) -> None:
        raise error

    return refuse


def test_the_lock_of_an_object_is_held_until_after_it_is_sent() -> None:
    name = in_store(OBJECT)
    file = stage_of(name)
    with locked(file, wait=False):
        with published(name, file):
            Path(file).write_text("rows")
        with pytest.raises(LockedError), locked(file, wait=False):
            pass


@pytest.mark.parametrize("kind", [OBJECT, "STORE/folder/"])
def test_a_run_waits_for_another_that_writes_the_same_object(kind: str) -> None:
    name, waiting, done = in_store(kind), threading.Event(), []
    target = Target(name, FORMATS[0], in_parts=name.endswith("/"))

    def write() -> None:
        if target.local_file is not None:
            Path(target.local_file).write_text("rows")

    def write_later() -> None:
        waiting.set()
        with exclusive(target, wait=True):
            write()
            done.append(True)

    later = threading.Thread(target=write_later)
    with exclusive(target, wait=True):
        later.start()
        waiting.wait()
        time.sleep(0.2)
        write()
        assert not done
    later.join()
    assert done


@pytest.mark.parametrize("kind", [OBJECT, "STORE/folder/"])
def test_a_sent_output_leaves_nothing_on_this_machine(kind: str) -> None:
    name = in_store(kind)
    outputs = Path(stage_of(name.rstrip("/"))).parent
    write_output(name, PATHS)
    assert not list(outputs.rglob("*"))


@pytest.mark.parametrize("lost", ["rows", "metadata"])
def test_an_object_that_a_killed_run_downloaded_in_part_is_downloaded_again(
    lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = in_store(OBJECT)
    write_output(name, PATHS[:5])

    def download(url: str, file: str) -> bool:
        if url.endswith(".meta.json") == (lost == "metadata"):
            raise KeyboardInterrupt
        return real(url, file)

    real = filesystem.download
    with monkeypatch.context() as patch:
        patch.setattr(staging, "download", download)
        with pytest.raises(KeyboardInterrupt):
            write_output(name, PATHS, resume=True)
    assert [change for _, change in write_output(name, PATHS, resume=True)].count("kept") == 5
    assert len(rows(name)) == 11


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize("update", [False, True])
def test_an_object_that_is_newer_than_the_interrupted_run_stays(
    update: bool, finished: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Another machine wrote it after the interruption; the rows of this machine are kept aside."""
    name = in_store(OBJECT)
    if update:
        write_output(name, PATHS[:2])
    if finished:
        with monkeypatch.context() as patch:
            patch.setattr(staging, "upload", raising(OutputError("no network")))
            with pytest.raises(OutputError, match=r"no network; the rows are in .*object.csv, and --resume sends them"):
                write_output(name, PATHS[:6], resume=update)
    else:
        interrupt(name, PATHS, 6, resume=update)
    here = os.environ["XDG_STATE_HOME"]
    monkeypatch.setenv("XDG_STATE_HOME", f"{here}-of-another-machine")
    write_output(name, PATHS[:9], partial(row, label="theirs"), resume=True)
    monkeypatch.setenv("XDG_STATE_HOME", here)
    caplog.clear()
    write_output(name, PATHS, resume=True)
    assert {path: label and label.split()[0] for path, label in labels(name).items()} == {
        **dict.fromkeys(PATHS[:9], "theirs"),
        **dict.fromkeys(PATHS[:2] if update else (), "fish"),
        **dict.fromkeys(PATHS[9:], "fish"),
    }
    (message,) = caplog.messages
    assert message.startswith(f"{name} has changed since the interrupted run on this machine, whose rows are now in ")
    (aside,) = in_stage(name)
    assert message.endswith(f"/{aside}")
    kept = (
        f"{os.path.dirname(stage_of(name))}/{aside}/{os.path.basename(stage_of(name))}{'' if finished else '.partial'}"
    )
    assert Path(kept).read_text().count(",ok,") >= 4


def test_an_object_that_another_machine_wrote_during_the_run_stays() -> None:
    name = in_store(OBJECT)
    write_output(name, PATHS[:2])

    def meanwhile(path: str) -> Prediction:
        put("theirs")
        return row(path)

    with pytest.raises(OutputError, match=r"object.csv was written by another machine during this run, and stays"):
        write_output(name, PATHS, meanwhile, resume=True)
    assert content(name) == b"theirs"
    assert Path(stage_of(name)).read_text().count(",ok,") == 11


def test_an_object_that_another_machine_wrote_during_the_download_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    name = in_store(OBJECT)
    write_output(name, PATHS[:2])

    def download(url: str, file: str) -> bool:
        found = real(url, file)
        if not url.endswith(".meta.json"):
            put("theirs")
        return found

    real = filesystem.download
    monkeypatch.setattr(staging, "download", download)
    with pytest.raises(OutputError, match="was written by another machine during this run"):
        write_output(name, PATHS, resume=True)
    assert content(name) == b"theirs"


def test_unsent_rows_are_not_discarded_by_a_later_run(monkeypatch: pytest.MonkeyPatch) -> None:
    name = in_store(OBJECT)
    with monkeypatch.context() as patch:
        patch.setattr(staging, "upload", raising(OutputError("no network")))
        with pytest.raises(OutputError, match="no network"):
            write_output(name, PATHS[:6])
    interrupt(name, PATHS, 0, resume=True)
    with pytest.raises(UsageError, match="is finished, but not sent to"):
        write_output(name, PATHS[:2])
    assert [change for _, change in write_output(name, PATHS, resume=True)].count("kept") == 6


def test_a_run_with_fresh_counts_as_newer_than_the_object_it_found(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    name = in_store(OBJECT)
    interrupt(name, PATHS, 6)
    here = os.environ["XDG_STATE_HOME"]
    monkeypatch.setenv("XDG_STATE_HOME", f"{here}-of-another-machine")
    write_output(name, PATHS[:9])
    monkeypatch.setenv("XDG_STATE_HOME", here)
    interrupt(name, PATHS, 4, fresh=True)
    assert [change for _, change in write_output(name, PATHS, resume=True)].count("kept") == 4
    assert caplog.messages == []


def test_a_downloaded_object_without_new_rows_is_removed_without_a_message(caplog: pytest.LogCaptureFixture) -> None:
    """It has no rows of this machine."""
    name = in_store(OBJECT)
    write_output(name, PATHS[:2])
    with suppress(ZeroDivisionError), published(name, stage_of(name), resume=True):
        raise ZeroDivisionError  # as where the model cannot be opened
    assert os.path.basename(stage_of(name)) in in_stage(name)
    here = os.environ["XDG_STATE_HOME"]
    os.environ["XDG_STATE_HOME"] = f"{here}-of-another-machine"  # undone with that of the fixture
    write_output(name, PATHS[:4], resume=True)
    os.environ["XDG_STATE_HOME"] = here
    assert [change for _, change in write_output(name, PATHS, resume=True)].count("kept") == 4
    assert caplog.messages == []
    assert in_stage(name) == []
