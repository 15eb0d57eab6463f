"""`sort --undo`: everything goes back, and nothing that has changed or come since is lost."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dinoclassify.cli import run
from dinoclassify.results.sort.journal import JOURNAL_NAME, read_journal
from dinoclassify.results.sort.transfer import Mode
from dinoclassify.results.sort.undo import undo_all
from tests.helpers.images import image
from tests.helpers.rows import row_of
from tests.helpers.sorting import contents, sort, tree, undo


def test_undo_keeps_files_that_changed_since(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row_of(image(name)) for name in ("edited.jpg", "last.jpg", "fine.jpg")]
    sort(rows, "copy")
    image("sorted/dog/edited.jpg", "edited")
    os.unlink("last.jpg")
    assert run(["sort", "--undo", "sorted"]) == 3
    assert sorted(os.listdir("sorted/dog")) == ["edited.jpg", "last.jpg"]
    err = capsys.readouterr().err
    assert "last.jpg is left as it is: its original" in err
    assert "edited.jpg is left as it is: it differs from" in err
    image("last.jpg", "last.jpg")
    image("sorted/dog/edited.jpg", "edited.jpg")
    assert run(["sort", "--undo", "sorted"]) == 0, "the journal still has what was left"
    assert not Path("sorted").exists()


def test_undo_recreates_the_folder_of_a_moved_image(here: Path) -> None:
    sort([row_of(image("a/x.jpg"))], "move")
    os.rmdir("a")
    os.rename("sorted", "elsewhere")
    path = os.path.abspath(f"elsewhere/{JOURNAL_NAME}")
    assert [undone.why for undone in undo_all(path, read_journal(path).entries)] == [None]
    assert Path("a/x.jpg").exists()


def test_undo_does_not_overwrite_a_new_file_at_the_source(here: Path) -> None:
    sort([row_of(image("x.jpg", "first"))], "move")
    image("x.jpg", "second")
    (why,) = undo()
    assert why is not None
    assert contents() == [b"first", b"second"]


@pytest.mark.parametrize("mode", ["symlink", "hardlink"])
def test_undo_keeps_a_file_that_replaced_a_link(mode: Mode, here: Path) -> None:
    sort([row_of(image("x.jpg"))], mode)
    os.unlink("sorted/dog/x.jpg")
    if mode == "symlink":
        os.symlink("/dev/null", "sorted/dog/x.jpg")
    else:
        image("sorted/dog/x.jpg", "another")
    assert undo() != [None]
    assert os.path.lexists("sorted/dog/x.jpg")


def test_undo_dry_run_lists_what_it_would_do(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sort([row_of(image("x.jpg"))], "move")
    before = tree()
    assert run(["sort", "--undo", "sorted", "--dry-run"]) == 0
    assert tree() == before
    out, err = capsys.readouterr()
    assert out == f"move {here}/sorted/dog/x.jpg back to {here}/x.jpg\n"
    assert err == "dinoclassify: would do: 1 taken back\n"


@pytest.mark.parametrize(("mode", "removed"), [("copy", "copy"), ("symlink", "link"), ("hardlink", "link")])
def test_undo_dry_run_says_what_it_removes(
    mode: Mode, removed: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sort([row_of(image("x.jpg"))], mode)
    assert run(["sort", "--undo", "sorted", "--dry-run"]) == 0
    assert capsys.readouterr().out == f"remove the {removed} {here}/sorted/dog/x.jpg\n"


def test_undo_dry_run_of_a_move_that_left_its_source_says_that_it_removes_a_copy(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sort([row_of(image("x.jpg"))], "move")
    image("x.jpg")
    assert run(["sort", "--undo", "sorted", "--dry-run"]) == 0
    assert capsys.readouterr().out == f"remove the copy {here}/sorted/dog/x.jpg\n"


@pytest.mark.parametrize("ended", [True, False])
def test_sorted_tree_renamed_to_the_source_folder_keeps_its_images(ended: bool, here: Path) -> None:
    """Source and target are then one file, which must not be removed as a copy of itself."""
    sort([row_of(image("old/dog/x.jpg"))], "move", into="new")
    os.rmdir("old/dog")
    os.rmdir("old")
    os.rename("new", "old")
    if ended:
        assert undo("old") == []
    else:
        journal = Path(f"old/{JOURNAL_NAME}")
        journal.write_text(journal.read_text().replace('{"event": "end"}\n', ""))
        sort([row_of("old/dog/x.jpg")], "move", into="old")
    assert contents() == [b"old/dog/x.jpg"]


@pytest.mark.parametrize("link", ["sorted/dog/x.jpg", "nowhere"])
def test_undo_does_not_overwrite_a_link_at_the_source(link: str, here: Path) -> None:
    sort([row_of(image("x.jpg"))], "move")
    os.symlink(link, "x.jpg")
    assert undo() != [None]
    assert Path("sorted/dog/x.jpg").read_bytes() == b"x.jpg"
    os.unlink("x.jpg")
    assert undo() == [None], "it is in the journal still"


def test_undo_keeps_a_copy_that_is_the_original_under_another_path(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a mount makes them, or a file system to which IMG.JPG and img.jpg are the same."""
    sort([row_of(image("x.jpg"))], "copy")
    os.unlink("x.jpg")
    other, its = str(here / "x.jpg"), str(here / "sorted/dog/x.jpg")

    def resolving(real: Callable[..., object]) -> Callable[..., object]:
        return lambda *paths: real(*(its if path == other else path for path in paths))

    for name in ("exists", "isfile", "samefile"):
        monkeypatch.setattr(os.path, name, resolving(getattr(os.path, name)))
    assert undo() != [None]
    assert Path("sorted/dog/x.jpg").read_bytes() == b"x.jpg"


def test_undo_dry_run_of_an_image_moved_twice(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sort([row_of(image("x.jpg"))], "move", "1/{name}")
    sort([row_of("sorted/1/x.jpg")], "move", "2/{name}")
    assert run(["sort", "--undo", "sorted", "-n"]) == 0
    assert "would do: 2 taken back" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["copy", "hardlink"])
def test_undo_keeps_a_copy_whose_original_became_a_link_to_it(mode: Mode, here: Path) -> None:
    sort([row_of(image("x.jpg"))], mode)
    os.unlink("x.jpg")
    os.symlink("sorted/dog/x.jpg", "x.jpg")
    assert undo() != [None]
    assert Path("x.jpg").read_bytes() == b"x.jpg"


def test_undo_through_a_link_to_the_journal(here: Path) -> None:
    sort([row_of(image("x.jpg"))], "move")
    os.symlink(f"sorted/{JOURNAL_NAME}", "link")
    assert run(["sort", "--undo", "link"]) == 0
    assert Path("x.jpg").exists()
