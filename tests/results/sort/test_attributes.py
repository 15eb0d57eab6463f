"""Times, modes and owners of images: what a file system does not keep, and what `--undo` restores."""

import json
import os
from pathlib import Path

import pytest

from dinoclassify.cli import run
from dinoclassify.results.sort.journal import JOURNAL_NAME
from tests.helpers.images import image
from tests.helpers.rows import row_of, write_rows
from tests.helpers.sorting import sort, tree, undo


def test_undo_restores_times_and_modes_that_fat_does_not_keep(
    here: Path, fat: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        os.chmod(image(f"{number}.jpg"), 0o640)
        os.utime(f"{number}.jpg", ns=(1_000_000_001_123_456_789,) * 2)
    write_rows("labels.csv", [row_of(f"{number}.jpg") for number in range(3)])
    before, into = tree(), f"{fat}/sorted"
    assert run(["sort", "labels.csv", "--into", into, "--mode", "move"]) == 0
    told = f"dinoclassify: {into} does not keep the exact times and modes of images: --undo restores them\n"
    assert capsys.readouterr().err.startswith(f"{told}dinoclassify: 3 moved")
    assert (os.stat(f"{into}/dog/0.jpg").st_mtime_ns, os.stat(f"{into}/dog/0.jpg").st_mode & 0o777) == (10**18, 0o777)
    assert run(["sort", "labels.csv", "--into", into, "--mode", "move"]) == 0
    assert "3 moved before" in capsys.readouterr().err
    Path(f"{into}/dog/1.jpg").write_text("edited")
    edited = os.stat(f"{into}/dog/1.jpg").st_mtime_ns
    assert run(["sort", "--undo", into]) == 0
    assert capsys.readouterr().err == "dinoclassify: 3 taken back\n"
    assert os.stat("1.jpg").st_mtime_ns == edited, "a time that says of an edit stays"
    after = tree()
    assert {path for path in before if after[path] != before[path]} == {"1.jpg"}
    assert run(["sort", "labels.csv", "--into", into]) == 3
    assert "2 copied, 1 changed" in capsys.readouterr().err


def test_journal_without_modes_still_restores_times(here: Path, fat: Path) -> None:
    os.utime(image("x.jpg"), ns=(1_000_000_001_123_456_789,) * 2)
    os.chmod("x.jpg", 0o640)
    sort([row_of("x.jpg")], "move", into=f"{fat}/sorted")
    journal = Path(f"{fat}/sorted/{JOURNAL_NAME}")
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [line["rights"][0] for line in lines if line["event"] == "move"] == [0o640]
    journal.write_text("".join(json.dumps(line | {"rights": None}) + "\n" for line in lines))
    assert undo(f"{fat}/sorted") == [None]
    assert os.stat("x.jpg").st_mtime_ns == 1_000_000_001_123_456_789
    assert os.stat("x.jpg").st_mode & 0o777 == 0o777


@pytest.mark.parametrize(
    ("had", "has", "gets", "told"),
    [(0o640, 0o777, 0o640, ["owners"]), (0o664, 0o740, 0o640, ["modes", "owners"]), (0o755, 0o755, 0o755, ["owners"])],
)
def test_moved_journal_only_narrows_modes_and_reports_the_rest(
    had: int, has: int, gets: int, told: list[str], here: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """As on a card with a new mount point: the owners and modes in its journal may come from anybody."""
    write_rows("labels.csv", [row_of(image("photos/x.jpg"))])
    os.chmod("photos/x.jpg", had)
    monkeypatch.setattr(
        "dinoclassify.results.sort.executor.rights_of", lambda path: (had, os.getuid() + 1, os.getgid())
    )
    given: list[object] = []
    monkeypatch.setattr("dinoclassify.results.sort.transfer.os.fchown", lambda *arguments: given.append(arguments))
    assert run(["sort", "labels.csv", "--into", "card", "--mode", "move", "-q"]) == 0
    os.chmod("card/dog/x.jpg", has)
    os.rename("card", "mounted")
    capsys.readouterr()
    assert run(["sort", "--undo", "mounted", "--to", "photos"]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "restore" in line]
    assert line == (
        f"dinoclassify: cannot restore the {' and '.join(told)} of images in {here}/photos: "
        "the journal is not known to be yours, so it changes no owner and gives others no access"
    )
    assert (os.stat("photos/x.jpg").st_mode & 0o777, given) == (gets, [])


def test_each_lost_attribute_is_reported_with_its_reason(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows("labels.csv", [row_of(image("x.jpg")), row_of(image("y.jpg"))])
    assert run(["sort", "labels.csv", "--into", "sorted", "--mode", "move", "-q"]) == 0
    losses = iter([["exact times", "modes"], ["exact times", "owners"]])

    def losing(*_: object) -> list[str]:
        monkeypatch.setattr("os.geteuid", lambda: 1000)  # and not before: the key is that of root
        return next(losses)

    monkeypatch.setattr("dinoclassify.results.sort.undo.lost", losing)
    assert run(["sort", "--undo", "sorted"]) == 0
    lacking = "its file system does not keep them"
    assert set(capsys.readouterr().err.splitlines()) == {
        "dinoclassify: 2 taken back",
        f"dinoclassify: cannot restore the exact times and modes of images in {here}: {lacking}",
        f"dinoclassify: cannot restore the owners of images in {here}: only root may do that",
    }


def test_attributes_that_cannot_be_restored_are_reported_once(
    here: Path, fat: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows("labels.csv", [row_of(image("x.jpg")), row_of(image("y.jpg"))])
    assert run(["sort", "labels.csv", "--into", f"{fat}/sorted", "--mode", "move", "-q"]) == 0
    monkeypatch.setattr("dinoclassify.results.sort.transfer.os.fchmod", lambda *_: None)
    capsys.readouterr()
    assert run(["sort", "--undo", f"{fat}/sorted"]) == 0
    assert capsys.readouterr().err == (
        f"dinoclassify: cannot restore the modes of images in {here}: its file system does not keep them\n"
        "dinoclassify: 2 taken back\n"
    )


def test_undo_does_not_change_the_mode_of_a_link_target(here: Path) -> None:
    """Otherwise anybody who may write to the folder could make root change any file."""
    write_rows("labels.csv", [row_of(image("x.jpg"))])
    assert run(["sort", "labels.csv", "--into", "sorted", "--mode", "move", "-q"]) == 0
    os.chmod(image("victim"), 0o600)
    os.unlink("sorted/dog/x.jpg")
    os.symlink("../../victim", "sorted/dog/x.jpg")
    run(["sort", "--undo", "sorted", "-q"])
    assert os.stat("victim").st_mode & 0o777 == 0o600
