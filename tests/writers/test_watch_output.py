"""The file of a watch that is rotated, edited, or on a full disk."""

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from dinoclassify.cli import run
from dinoclassify.discovery.seen import Seen, SeenFile
from dinoclassify.errors import OutputError
from tests.helpers.drop_folder import drop, start, wait_for
from tests.helpers.watching import WATCH, names_after_watch, names_in

pytestmark = pytest.mark.usefixtures("quick_watch")


def test_rows_wait_while_the_memory_cannot_be_written(
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
    assert len(names_after_watch(3)) == 3
    assert capsys.readouterr().err.count("; waiting until it can be written") == 2
    os.rename("labels.csv", "old.csv")
    drop("four.jpg")
    assert names_after_watch(1) == ["inbox/four.jpg"]


def test_a_full_disk_ends_the_first_start_and_is_waited_for_at_later_ones(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begin, fails, said = SeenFile.replace, [True], "cannot write labels.csv.seen: No space left on device\n"

    def begin_later(memory: SeenFile, output: str, rows: Mapping[str, Seen]) -> None:
        if fails and fails.pop():
            raise OutputError(said.strip())
        begin(memory, output, rows)

    monkeypatch.setattr(SeenFile, "replace", begin_later)
    drop("one.jpg")
    assert run(f"{WATCH} --limit 1".split()) == 6
    err = capsys.readouterr().err  # which may begin with the model being prepared
    assert err.endswith(f"dinoclassify: {said}")
    assert names_after_watch(1) == ["inbox/one.jpg"]
    os.rename("labels.csv", "old.csv")
    drop("two.jpg")
    fails.append(True)
    assert names_after_watch(1) == ["inbox/two.jpg"]
    assert said in capsys.readouterr().err
    assert json.loads(Path("labels.csv.meta.json").read_text())["appended"] is True


def test_a_folder_in_place_of_the_memory_is_refused_by_name(inbox: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkdir("labels.csv.seen")
    assert run(f"{WATCH} --limit 1".split()) == 2
    assert "labels.csv.seen (Is a directory): remove it" in capsys.readouterr().err


def test_rows_go_to_a_new_file_after_the_output_was_renamed(inbox: Path) -> None:
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


@pytest.mark.parametrize("kept", [b"", None])
def test_known_images_get_no_second_row_after_a_rotation_while_no_watch_ran(
    inbox: Path, capsys: pytest.CaptureFixture[str], kept: bytes | None
) -> None:
    drop("one.jpg")
    assert names_after_watch(1) == ["inbox/one.jpg"]
    for name in ("two", "three"):
        os.rename("labels.csv", "old.csv")
        if kept is not None:
            Path("labels.csv").write_bytes(kept)
        drop(f"{name}.jpg", "chelsea")
        assert names_after_watch(1) == [f"inbox/{name}.jpg"]
    assert ("labels.csv is new, and images with rows in the file before it are not" in capsys.readouterr().err) == (
        kept is None
    )
    os.unlink("labels.csv")
    os.unlink("labels.csv.seen")
    assert len(names_after_watch(3)) == 3, "all begins anew"


def test_rows_that_people_remove_between_two_watches_are_made_again(inbox: Path) -> None:
    for name in ("a", "b", "c"):
        drop(f"{name}.jpg")
    assert len(names_after_watch(3)) == 3
    lines = Path("labels.csv").read_text().splitlines(keepends=True)
    Path("labels.csv").write_text("".join(line for line in lines if "b.jpg" not in line))
    assert names_in("labels.csv") == ["inbox/a.jpg", "inbox/c.jpg"]
    assert names_after_watch(1) == ["inbox/a.jpg", "inbox/c.jpg", "inbox/b.jpg"]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with an inbox that one watch looks into, for several tests."""
    folder = tmp_path_factory.mktemp("watched")
    (folder / "inbox").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with start("-o", "labels.csv"):
            patch.undo()
            yield folder


@pytest.mark.parametrize("edit", ["rename", "in place", "no end", "garbage"])
def test_rows_that_people_remove_during_a_watch_are_made_again(
    watched: Path, monkeypatch: pytest.MonkeyPatch, edit: str
) -> None:
    monkeypatch.chdir(watched)

    def names() -> list[str]:
        return [row[0] for row in wait_for(0) if row[0].startswith(f"inbox/{edit} ")]

    def wait_until(expected: set[str]) -> None:
        end = time.monotonic() + 120
        while set(names()) != expected:
            assert time.monotonic() < end, names()
            time.sleep(0.05)

    paths = {name: f"inbox/{edit} {name}.jpg" for name in "abcd"}
    for name in "abc":
        drop(f"{edit} {name}.jpg")
    wait_until({paths[name] for name in "abc"})
    lines = [line for line in Path("labels.csv").read_text().splitlines(keepends=True) if paths["b"] not in line]
    if edit == "garbage":
        with open("labels.csv", "a") as file:
            file.write("x")
    else:
        Path("edited").write_text("".join(lines).rstrip("\n") if edit == "no end" else "".join(lines))
        shutil.copyfile("edited", "labels.csv") if edit == "in place" else os.rename("edited", "labels.csv")
    drop(f"{edit} d.jpg")
    wait_until(set(paths.values()))
    assert sorted(names()) == sorted(paths.values())
    assert all(name.startswith("inbox/") for name in names_in("labels.csv"))


def test_an_image_of_an_earlier_watch_is_counted_once(inbox: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drop("a.jpg")
    assert names_after_watch(1) == ["inbox/a.jpg"]
    drop("b.jpg")
    assert run([*WATCH.split(), "--limit", "1"]) == 0
    assert "2 images: 2 ok, 1 of them from before" in capsys.readouterr().err
