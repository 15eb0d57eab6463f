"""Whose a journal of `sort` is: its signature, and that undoing or resuming by one of others harms nothing."""

import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from dinoclassify.cli import run
from dinoclassify.results.sort.journal import JOURNAL_NAME, read_journal
from dinoclassify.results.sort.layout import parse_layout
from dinoclassify.results.sort.signing import make_key, read_key
from dinoclassify.results.sort.sort import SortedFolder
from dinoclassify.results.sort.targets import SortOptions
from tests.helpers.images import image
from tests.helpers.invoke import Invoke
from tests.helpers.rows import row_of, write_rows
from tests.helpers.sorting import MADE, sort, tree

JOURNAL = f"sorted/{JOURNAL_NAME}"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with one above it that is also the test's own, and a key of its own."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "work"


def journal_entry(event: str, source: object, target: str) -> dict[str, str]:
    return {"event": event, "source": str(source), "target": target, "made": MADE}


def foreign(*entries: dict[str, str]) -> None:
    """A folder of a stranger, with a journal."""
    for entry in entries:
        if not os.path.lexists(f"sorted/{entry['target']}"):
            image(f"sorted/{entry['target']}", "theirs")
    Path(JOURNAL).write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def test_own_journal_is_undone_without_further_options(here: Path, invoke: Invoke) -> None:
    write_rows("labels.csv", [row_of(image(f"{number}.jpg")) for number in range(3)])
    for _ in range(2):  # runs that add to one journal
        assert invoke("sort", "labels.csv", "--into", "sorted", "--mode", "move")[0] == 0
    assert read_journal(JOURNAL, read_key()).is_own
    assert not read_journal(JOURNAL, b"x" * 32).is_own
    assert invoke("sort", "--undo", "sorted") == (0, "", "dinoclassify: 3 taken back\n")
    assert sorted(os.listdir()) == ["0.jpg", "1.jpg", "2.jpg", "labels.csv"]


def test_foreign_journal_is_only_shown_without_to(here: Path, invoke: Invoke) -> None:
    foreign(journal_entry("move", here.parent / ".bashrc", "dog/x.jpg"))
    before = tree()
    code, out, err = invoke("sort", "--undo", "sorted")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--to ROOT takes back only what goes below ROOT, --dry-run shows what (dinoclassify guide sort)" in err
    code, out, err = invoke("sort", "--undo", "sorted", "--dry-run")
    assert (code, out) == (0, f"move {here}/sorted/dog/x.jpg back to {here.parent}/.bashrc\n")
    assert "is not known to be yours" in err
    assert tree() == before
    assert not (here.parent / ".bashrc").exists()


def test_foreign_journal_is_undone_below_to(here: Path, invoke: Invoke) -> None:
    Path("photos").mkdir()
    foreign(
        journal_entry("move", here / "photos/deep/x.jpg", "dog/x.jpg"),
        journal_entry("move", here / "elsewhere.jpg", "cat/y.jpg"),
    )
    code, out, err = invoke("sort", "--undo", "sorted", "--to", "photos", "--dry-run")
    assert (code, Path("photos/deep").exists()) == (3, False)
    code, out, err = invoke("sort", "--undo", JOURNAL, "--to", "photos")
    assert (code, out) == (3, f"move {here}/sorted/dog/x.jpg back to {here}/photos/deep/x.jpg\n")
    assert f"{here}/elsewhere.jpg is not below photos" in err
    assert f"1 taken back, 1 left, which stay in {here}/{JOURNAL}" in err
    assert Path("photos/deep/x.jpg").read_text() == "theirs"
    assert [entry.target for entry in read_journal(JOURNAL).entries] == ["cat/y.jpg", ""]
    assert invoke("sort", "--undo", "sorted")[0] == 2, "what is left is not signed either"


@pytest.mark.parametrize(
    "source",
    ["{root}/../x", "{root}/a/../../x", "{root}/link/x", "{root}/new/../../x", "{root}/..", "{root}x", "/x", "//x"],
)
def test_undo_of_a_foreign_journal_never_leaves_to(source: str, here: Path, invoke: Invoke) -> None:
    root = here / "root"
    (root / "a").mkdir(parents=True)
    os.symlink(here.parent, root / "link")
    foreign(journal_entry("move", source.replace("{root}", str(root)), "dog/x.jpg"))
    before = tree(here.parent)
    code, out, err = invoke("sort", "--undo", "sorted", "--to", "root")
    assert (code, out) == (3, "")
    assert "is not below root" in err
    assert {path: what for path, what in tree(here.parent).items() if JOURNAL_NAME not in path} == {
        path: what for path, what in before.items() if JOURNAL_NAME not in path
    }


@pytest.mark.parametrize("event", ["move", "copy", "hardlink"])
def test_foreign_journal_takes_nothing_from_outside_its_folder(event: str, here: Path, invoke: Invoke) -> None:
    image("mine/x.jpg", "mine")
    image("root/y.jpg", "mine")
    Path("sorted").mkdir()
    os.symlink(here / "mine", "sorted/dog")
    foreign(journal_entry(event, here / "root" / ("x.jpg" if event == "move" else "y.jpg"), "dog/x.jpg"))
    assert invoke("sort", "--undo", "sorted", "--to", "root")[0] == 3
    assert Path("mine/x.jpg").read_text() == "mine"


def test_link_in_a_foreign_journal_does_not_lead_out_of_to(here: Path, invoke: Invoke) -> None:
    Path("root").mkdir()
    Path("sorted").mkdir()
    os.symlink(here.parent, "sorted/link")
    foreign(journal_entry("move", here / "root/a/.bashrc", "x.jpg"), journal_entry("move", here / "root/a", "link"))
    assert invoke("sort", "--undo", "sorted", "--to", "root")[0] == 3
    assert not (here.parent / ".bashrc").exists()
    assert Path("root/a/.bashrc").read_text() == "theirs"


@pytest.mark.parametrize("change", ["edited", "line out", "first out", "added", "copied", "unsigned"])
def test_edited_journal_is_no_longer_own(change: str, here: Path) -> None:
    sort([row_of(image("x.jpg")), row_of(image("y.jpg"))], "move")
    lines = Path(JOURNAL).read_text().splitlines(keepends=True)
    assert read_journal(JOURNAL, read_key()).is_own
    match change:
        case "edited":
            lines = [line.replace("x.jpg", "z.jpg") for line in lines]
        case "line out":
            del lines[2]
        case "first out":
            del lines[0]
        case "added":
            lines.append(json.dumps(journal_entry("move", "/x", "x.jpg")) + "\n")
        case "copied":
            os.rename("sorted", "other")
            Path("sorted").mkdir()
            os.rename("sorted", "elsewhere")
        case "unsigned":
            lines = [line.replace(', "code"', ', "edoc"') for line in lines]
    path = f"other/{JOURNAL_NAME}" if change == "copied" else JOURNAL
    Path(path).write_text("".join(lines))
    assert not read_journal(path, read_key()).is_own


def test_journal_with_a_torn_last_line_is_still_own(here: Path, invoke: Invoke) -> None:
    sort([row_of(image("x.jpg"))], "move")
    whole = Path(JOURNAL).read_bytes()
    for size in (len(whole) - 1, len(whole) - 30, len(whole) - 70):
        Path(JOURNAL).write_bytes(whole[:size])
        assert read_journal(JOURNAL, read_key()).is_own
    sort([row_of(image("y.jpg"))], "move")
    assert read_journal(JOURNAL, read_key()).is_own
    assert invoke("sort", "--undo", "sorted")[0] == 0


def test_adding_to_a_foreign_journal_does_not_make_it_own(here: Path, invoke: Invoke) -> None:
    foreign(journal_entry("move", here.parent / ".bashrc", "dog/x.jpg"))
    write_rows("labels.csv", [row_of(image("y.jpg"))])
    code, _, err = invoke("sort", "labels.csv", "--into", "sorted", "--resume")
    assert code == 0
    assert f"{here}/{JOURNAL} is not known to be yours: --undo will need --to" in err
    assert "--undo sorted --to ROOT takes it back" in err
    assert invoke("sort", "--undo", "sorted")[0] == 2


def test_resume_with_a_foreign_journal_removes_no_image(here: Path, invoke: Invoke) -> None:
    """Otherwise anybody who knows the content of a file could have it removed."""
    image("precious.jpg", "known")
    image("sorted/dog/x.jpg", "known")
    foreign(journal_entry("move", here / "precious.jpg", "dog/x.jpg"))
    write_rows("labels.csv", [row_of(image("y.jpg"))])
    code, *_ = invoke("sort", "labels.csv", "--into", "sorted", "--resume")
    assert (code, Path("precious.jpg").read_text()) == (3, "known")


@pytest.mark.parametrize("state", ["file", "readable", "short", "link", "nobody's"])
def test_journals_are_unsigned_without_a_private_key(
    state: str, here: Path, monkeypatch: pytest.MonkeyPatch, invoke: Invoke
) -> None:
    folder = here.parent / "state/dinoclassify"
    make_key()
    key = folder / "journal.key"
    match state:
        case "file":
            shutil.rmtree(folder)
            folder.write_text("")
        case "readable":
            key.chmod(0o644)
        case "short":
            key.write_bytes(b"x")
        case "link":
            key.rename(folder / "other")
            key.symlink_to(folder / "other")
        case "nobody's":
            monkeypatch.setattr(
                "dinoclassify.results.sort.signing.platformdirs.user_state_dir", lambda _: "~/.local/state/dino"
            )
    write_rows("labels.csv", [row_of(image("x.jpg"))])
    code, _, err = invoke("sort", "labels.csv", "--into", "sorted", "--mode", "move")
    assert code == 0
    assert "the journal cannot be signed" in err
    assert "--undo sorted --to ROOT takes it back" in err
    assert invoke("sort", "--undo", "sorted")[0] == 2
    assert invoke("sort", "--undo", "sorted", "--to", ".")[0] == 0
    assert sorted(os.listdir()) == ["labels.csv", "x.jpg"]


def test_key_is_private_and_kept(here: Path) -> None:
    assert read_key() is None
    key = make_key()
    assert (len(key), make_key(), read_key()) == (32, key, key)
    (file,) = (here.parent / "state/dinoclassify").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_to_needs_undo_and_an_existing_folder(here: Path, invoke: Invoke) -> None:
    write_rows("labels.csv", [row_of(image("x.jpg"))])
    code, _, err = invoke("sort", "labels.csv", "--to", "sorted")
    assert (code, "--to goes with --undo" in err) == (2, True)
    sort([row_of("x.jpg")])
    code, _, err = invoke("sort", "--undo", "sorted", "--to", "nothing")
    assert (code, "--to nothing: no such folder: check its name" in err) == (2, True)


def test_journal_is_not_written_through_a_link(here: Path, invoke: Invoke) -> None:
    Path("sorted").mkdir()
    os.symlink(here / "victim", JOURNAL)
    write_rows("labels.csv", [row_of(image("x.jpg"))])
    assert invoke("sort", "labels.csv", "--into", "sorted")[0] == 2
    assert not Path("victim").exists()


@pytest.mark.parametrize("name", ["sorted/undo-journal.jsonl.new", "page.html.new", "x.jpg.json.new"])
def test_planted_links_are_not_written_through(name: str, here: Path, invoke: Invoke) -> None:
    image("victim", "mine")
    write_rows("labels.csv", [row_of(image(path)) for path in ("x.jpg", "y.jpg")])
    assert invoke("sort", "labels.csv", "--into", "sorted", "--mode", "move")[0] == 0
    os.symlink(here / "victim", name)
    image("x.jpg", "another")  # so that one line stays in the journal
    assert invoke("sort", "--undo", "sorted")[0] == 3
    assert run(["report", "labels.csv", "-o", "page.html"]) == 0
    assert run(["tag", "labels.csv", "-f", "json"]) in (0, 3)
    assert Path("victim").read_text() == "mine"
    assert Path(name).is_symlink()


def interrupted(names: list[str]) -> None:
    """A run that moves images and is stopped before its end."""
    folder = SortedFolder("sorted", "move")
    outcomes = folder.sort([row_of(image(name)) for name in names], SortOptions(parse_layout("{label}/{name}")))
    for _ in names:
        next(outcomes)


def test_resume_keeps_an_image_that_was_restored(here: Path, invoke: Invoke) -> None:
    Path("sorted").mkdir()
    interrupted(["x.jpg", "y.jpg"])
    shutil.copy2("sorted/dog/x.jpg", "x.jpg")
    write_rows("labels.csv", [row_of("x.jpg")])
    code, _, err = invoke("sort", "labels.csv", "--into", "sorted", "--mode", "move", "--resume")
    assert code == 3
    assert f"{here}/x.jpg is here again, though it was moved to {here}/sorted/dog/x.jpg: it stays in both" in err
    assert [Path(path).read_text() for path in ("x.jpg", "sorted/dog/x.jpg")] == ["x.jpg", "x.jpg"]
    assert invoke("sort", "--undo", "sorted")[0] == 0
    assert sorted(os.listdir()) == ["labels.csv", "sorted", "x.jpg", "y.jpg"]
    assert os.listdir("sorted") == []


def test_restored_image_of_the_same_inode_is_kept(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("sorted").mkdir()
    interrupted(["x.jpg"])
    shutil.copy2("sorted/dog/x.jpg", "x.jpg")
    entry = next(entry for entry in read_journal(JOURNAL).entries if entry.event == "move")
    assert entry.identity is not None
    inode = entry.identity[0]
    monkeypatch.setattr("dinoclassify.results.sort.undo.identity", lambda path: (inode, os.lstat(path).st_ctime_ns))
    (outcome,) = sort([row_of("x.jpg")], "move")[:1]
    assert (outcome.done, Path("x.jpg").exists()) == ("back", True)
