"""`sort`: the names of images in the sorted tree, where others have or take them."""

import os
import shutil
from pathlib import Path

import pytest

from dinoclassify.cli import run
from dinoclassify.results.sort import transfer
from dinoclassify.results.sort.journal import JOURNAL_NAME
from dinoclassify.results.sort.transfer import Mode
from tests.helpers.images import image
from tests.helpers.rows import row_of, write_rows
from tests.helpers.sorting import MODES, contents, sort, tree, undo


def test_images_of_the_same_name_are_all_kept(here: Path) -> None:
    rows = [row_of(image(f"{number}/img.jpg", str(number % 500))) for number in range(1000)]
    outcomes = sort(rows, "copy")
    assert [outcome.done for outcome in outcomes] == ["done"] * 500 + ["there"] * 500
    assert contents("sorted") == sorted(str(number).encode() for number in range(500))
    before = tree()
    assert all(outcome.done == "there" for outcome in sort(rows, "copy"))
    assert tree() == before


def test_move_leaves_an_image_whose_content_is_already_there(here: Path) -> None:
    rows = [row_of(image("a/x.jpg", "same")), row_of(image("b/x.jpg", "same")), row_of(image("c/x.jpg", "other"))]
    assert [outcome.done for outcome in sort(rows, "move")] == ["done", "there", "done"]
    assert Path("b/x.jpg").exists()
    assert contents() == [b"other", b"same", b"same"]
    assert undo() == [None, None]
    assert contents() == [b"other", b"same", b"same"]
    assert not Path("sorted").exists()


def test_existing_files_in_the_folder_are_kept(sorted_folder: Path) -> None:
    image("sorted/dog/x.jpg", "theirs")
    os.mkdir("sorted/cat")
    assert [outcome.done for outcome in sort([row_of(image("x.jpg", "ours"))], "move")] == ["done"]
    assert contents("sorted") == [b"ours", b"theirs"]
    undo()
    assert tree().keys() == {"x.jpg", "sorted", "sorted/cat", "sorted/dog", "sorted/dog/x.jpg"}


def test_image_named_like_the_journal_is_renamed(here: Path) -> None:
    assert sort([row_of(image(JOURNAL_NAME))], "copy", "{name}")[0].target.startswith("undo-journal-")
    assert undo() == [None]


def test_names_that_are_not_utf8_or_as_long_as_possible(here: Path) -> None:
    odd, long = os.fsdecode(b"\xff\xe9.jpg"), "x" * 251 + ".jpg"
    rows = [row_of(image(name)) for name in (odd, long, f"other/{long}")]
    write_rows("labels.csv", rows)
    assert run(["sort", "labels.csv", "--into", "sorted", "--mode", "move"]) == 0
    names = os.listdir("sorted/dog")
    assert odd in names
    assert len(names) == 3
    assert all(name.endswith(".jpg") for name in names)
    assert run(["sort", "--undo", "sorted"]) == 0
    assert Path(odd).exists()


def test_label_folder_whose_name_a_file_already_has(sorted_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image("sorted/dog", "a file")
    write_rows("labels.csv", [row_of(image("x.jpg")), row_of(image("y.jpg"), "cat", 0.9, 2)])
    assert run(["sort", "labels.csv", "--into", "sorted"]) == 3
    assert "1 copied, 1 could not be sorted" in capsys.readouterr().err


@pytest.mark.parametrize("mode", MODES)
def test_name_taken_by_another_program_just_before_the_transfer(
    mode: Mode, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another program does, or a file system to which IMG.JPG and img.jpg are the same."""
    real = transfer.TRANSFERS[mode]

    def late(source: str, target: str, made: str) -> None:
        if target.endswith("/dog/x.jpg") and not os.path.lexists(target):
            image(target, "a stranger's")
        real(source, target, made)

    monkeypatch.setattr("dinoclassify.results.sort.executor.TRANSFERS", {mode: late})
    (outcome,) = sort([row_of(image("x.jpg", "ours"))], mode)
    assert outcome.done == "done"
    assert outcome.target != "dog/x.jpg"
    assert set(contents()) == {b"ours", b"a stranger's"}
    if mode == "move":
        os.unlink(f"sorted/{outcome.target}")  # nothing of a stranger's takes its place
    assert undo() in ([None], ["it is gone, and is not at " + os.path.abspath("x.jpg") + " either"])
    assert Path("sorted/dog/x.jpg").read_bytes() == b"a stranger's"
    assert Path("x.jpg").exists() == (mode != "move")


def test_second_image_of_the_same_content_is_sorted_if_the_first_fails(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_a(source: str, target: str, made: str) -> None:
        if source.endswith("a/x.jpg"):
            raise PermissionError(13, "Permission denied")
        transfer.move(source, target, made)

    monkeypatch.setattr("dinoclassify.results.sort.executor.TRANSFERS", {"move": refuse_a})
    rows = [row_of(image("a/x.jpg", "same")), row_of(image("b/x.jpg", "same")), row_of(image("c/x.jpg", "same"))]
    assert [outcome.done for outcome in sort(rows, "move")] == ["error", "done", "there"]
    assert Path("sorted/dog/x.jpg").exists()
    assert not Path("b/x.jpg").exists()


def test_two_rows_of_an_image_that_cannot_be_moved_both_fail(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: str, target: str, made: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("dinoclassify.results.sort.executor.TRANSFERS", {"move": refuse})
    rows = [row_of(image("x.jpg")), row_of("./x.jpg")]
    assert [outcome.done for outcome in sort(rows, "move")] == ["error", "error"]


def test_copy_restored_at_the_source_counts_as_already_there(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows("labels.csv", [row_of(image("x.jpg"))])
    arguments = ["sort", "labels.csv", "--into", "sorted", "--mode", "move"]
    assert run(arguments) == 0
    shutil.copy2("sorted/dog/x.jpg", "x.jpg")
    assert run([*arguments, "--resume"]) == 0
    assert "1 there already -> sorted\n" in capsys.readouterr().err
    assert [Path(path).read_text() for path in ("x.jpg", "sorted/dog/x.jpg")] == ["x.jpg", "x.jpg"]
