"""How `sort` copies, moves and links one file, also across file systems and where something fails."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dinoclassify.cli import run
from dinoclassify.results.sort import transfer
from dinoclassify.results.sort.layout import parse_layout
from dinoclassify.results.sort.sort import SortedFolder, make_folder
from dinoclassify.results.sort.targets import SortOptions
from dinoclassify.storage import rename
from tests.helpers.images import image
from tests.helpers.rows import row_of, write_rows
from tests.helpers.sorting import contents, sort, tree, undo


def test_symbolic_links_are_copied_but_not_moved(here: Path) -> None:
    os.symlink(os.path.abspath(image("real.jpg")), "link.jpg")
    assert sort([row_of("link.jpg")], "move")[0].done == "error"
    assert sort([row_of("link.jpg")], "copy")[0].done == "done"
    assert not Path("sorted/dog/link.jpg").is_symlink()


def test_full_disk_ends_the_run_and_resume_completes_it(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row_of(image(f"{number}.jpg")) for number in range(3)]
    write_rows("labels.csv", rows)

    def full(source: str, target: str, made: str) -> None:
        if source.endswith("1.jpg"):
            raise OSError(28, "No space left on device")
        transfer.copy(source, target, made)

    with monkeypatch.context() as patch:
        patch.setattr("dinoclassify.results.sort.executor.TRANSFERS", {"copy": full})
        assert run(["sort", "labels.csv", "--into", "sorted"]) == 6
    assert run(["sort", "labels.csv", "--into", "sorted"]) == 2
    assert (
        "an earlier sort into sorted was interrupted: --resume finishes it, --undo sorted/" in capsys.readouterr().err
    )
    assert run(["sort", "labels.csv", "--into", "sorted", "--resume"]) == 0
    assert contents("sorted") == [b"0.jpg", b"1.jpg", b"2.jpg"]


def test_hard_links_replace_exclusive_renames_where_unsupported(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dinoclassify.storage.rename._renameat2", lambda *_: 38)
    rows = [row_of(image("a/x.jpg", "1")), row_of(image("b/x.jpg", "2"))]
    assert [outcome.done for outcome in sort(rows, "move")] == ["done", "done"]
    with pytest.raises(FileExistsError):
        rename.rename_to_free(image("x"), image("y"))
    monkeypatch.setattr(os, "link", lambda *_, **__: (_ for _ in ()).throw(OSError(95, "not supported")))
    with pytest.raises(FileExistsError):
        rename.rename_to_free("x", "y")
    rename.rename_to_free("x", "z")
    assert undo() == [None, None]
    assert contents() == [b"1", b"2", b"x", b"y"]


def test_image_that_changes_just_before_its_move_stays(here: Path) -> None:
    folder = SortedFolder("sorted", "move", new_folders=make_folder("sorted"))
    rows = [row_of(image("a.jpg")), row_of(image("b.jpg"))]
    outcomes = folder.sort(rows, SortOptions(parse_layout("{label}/{name}")))
    assert next(outcomes).done == "done"
    image("b.jpg", "changed")
    assert [outcome.done for outcome in outcomes] == ["changed"]
    assert Path("b.jpg").exists()


def test_journal_reaches_the_disk_before_each_move(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    for module, name in ((os, "write"), (os, "fsync"), (os, "mkdir"), (rename, "_renameat2")):
        real = getattr(module, name)

        def noted(*arguments: object, _real: Callable[..., object] = real, _name: str = name, **more: object) -> object:
            steps.append(_name)
            return _real(*arguments, **more)

        monkeypatch.setattr(module, name, noted)
    rows = [row_of(image("x.jpg")), row_of(image("y.jpg"))]
    steps.clear()
    sort(rows, "move")
    begin = ["mkdir", "write", "fsync", "fsync", "mkdir"]  # the folder; the journal, its name; the folder of the label
    assert [step for step in steps[5:] if step != "mkdir"] == ["_renameat2", "_renameat2", "write", "fsync"]
    assert steps[:5] == begin


def test_message_tells_an_unwritable_source_folder_from_an_unwritable_target(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(source: str, target: str, made: str) -> None:
        raise PermissionError(13, "Permission denied")

    write_rows("labels.csv", [row_of(image("photos/x.jpg"))])
    monkeypatch.setattr("dinoclassify.results.sort.executor.TRANSFERS", {"move": refuse})
    arguments = ["sort", "labels.csv", "--into", "sorted", "--mode", "move", "--resume"]
    assert run(arguments) == 3
    cure = "let this user write there, or take another --mode"
    whole = f"photos/x.jpg cannot be taken out of {here}/photos (Permission denied): {cure}\n"
    assert whole in capsys.readouterr().err
    monkeypatch.setattr("os.access", lambda *_: False)
    assert run(arguments) == 3
    assert "photos/x.jpg cannot be put there: Permission denied\n" in capsys.readouterr().err


def test_partial_copy_does_not_overwrite_a_file_of_the_same_temporary_name(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "dinoclassify.results.sort.executor.unfinished_name", lambda: ".dinoclassify-0123456789abcdef.new"
    )
    image("sorted/dog/.dinoclassify-0123456789abcdef.new", "theirs")
    (outcome,) = sort([row_of(image("x.jpg"))], "copy")
    assert outcome.done == "error"
    assert contents("sorted") == []
    assert Path("sorted/dog/.dinoclassify-0123456789abcdef.new").read_text() == "theirs"


def test_move_to_another_file_system_and_back(here: Path, other_file_system: Path) -> None:
    os.chmod(image("x.jpg"), 0o640)
    os.utime("x.jpg", ns=(1_000_000_000_123_456_789,) * 2)
    before = tree()
    write_rows("labels.csv", [row_of("x.jpg")])
    into = f"{other_file_system}/sorted"
    assert run(["sort", "labels.csv", "--into", into, "--mode", "move"]) == 0
    assert not Path("x.jpg").exists()
    assert Path(f"{into}/dog/x.jpg").stat().st_mtime_ns == 1_000_000_000_123_456_789
    assert run(["sort", "--undo", into]) == 0
    os.unlink("labels.csv")
    assert tree() == before
    assert list(other_file_system.iterdir()) == []
    write_rows("labels.csv", [row_of("x.jpg")])
    assert run(["sort", "labels.csv", "--into", into, "--mode", "hardlink"]) == 3


def test_move_across_file_systems_fails_if_the_copy_differs(
    here: Path, other_file_system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dinoclassify.results.sort.transfer.filecmp.cmp", lambda *_, **__: False)
    with pytest.raises(OSError, match="not the same"):
        transfer.move(image("x.jpg"), f"{other_file_system}/x.jpg", "made")
    assert Path("x.jpg").exists()
    assert list(other_file_system.iterdir()) == []


def test_content_that_changes_within_the_resolution_of_its_time_is_noticed(here: Path) -> None:
    for path in ("one.jpg", "other.jpg"):
        os.utime(image(path, "1"), ns=(0, 0))
    assert transfer.same_content("one.jpg", "other.jpg")
    os.utime(image("other.jpg", "2"), ns=(0, 0))
    assert not transfer.same_content("one.jpg", "other.jpg")
