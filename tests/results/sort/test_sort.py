"""`sort`: nothing is lost, nothing is mixed up, and everything can be taken back."""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinoclassify.cli import run
from dinoclassify.errors import UsageError
from dinoclassify.results.sort import transfer
from dinoclassify.results.sort.journal import JOURNAL_NAME, read_journal
from dinoclassify.results.sort.layout import folder_namer, parse_layout, safe_name
from dinoclassify.results.sort.plans import SortResult
from dinoclassify.results.sort.sort import SortedFolder, make_folder
from dinoclassify.results.sort.targets import SortOptions
from dinoclassify.results.sort.transfer import Mode
from dinoclassify.results.sort.undo import own_folders, remove_empty, undo_all
from dinoclassify.storage import rename
from dinoclassify.types.prediction import Failure, Label, Prediction
from dinoclassify.writers.formats import open_format
from tests.conftest import PHOTOS, Cli
from tests.helpers.crash import count_kills, killed_at

MADE = ".dinoclassify-0123456789abcdef.new"  # the name of a copy that is not whole
MODES: tuple[Mode, ...] = ("copy", "move", "symlink", "hardlink")


def image(path: str, content: str | bytes | None = None) -> str:
    """A file that passes for an image: sort looks into none."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    given = content if content is not None else path
    Path(path).write_bytes(given if isinstance(given, bytes) else os.fsencode(given))
    return path


def row(path: str, label: str = "dog", score: float = 0.9, index: int = 1, *more: Label) -> Prediction:
    status = os.stat(path)
    top = (Label(label, index, score), *more)
    return Prediction(path, "ok", top, size=status.st_size, mtime_ns=status.st_mtime_ns)


def write_rows(name: str, rows: Sequence[Prediction], made: str = "csv") -> str:
    row_format = open_format(made, max((len(row.top) for row in rows), default=1))
    with open(name, "wb") as file:
        row_format.write(file, rows, {})
    return name


def tree(folder: str | Path = ".") -> dict[str, tuple[str, int, int] | None]:
    """All that is in a folder: files with their digest, time and rights, links with where they lead, folders."""
    found: dict[str, tuple[str, int, int] | None] = {}
    for path in sorted(Path(folder).rglob("*")):
        status = path.lstat()
        if path.is_symlink():
            found[str(path)] = (os.readlink(path), 0, 0)
        elif path.is_dir():
            found[str(path)] = None
        else:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path)] = (digest, status.st_mtime_ns, status.st_mode)
    return found


def contents(folder: str | Path = ".") -> list[bytes]:
    """The content of each file below a folder that is not the journal, or a link."""
    files = [path for path in Path(folder).rglob("*") if path.is_file() and not path.is_symlink()]
    return sorted(
        path.read_bytes()
        for path in files
        if path.name != JOURNAL_NAME and path.suffix not in (".csv", ".lock", ".new")
    )


def sort(
    rows: Sequence[Prediction], mode: Mode = "copy", layout: str = "{label}/{name}", into: str = "sorted"
) -> list[SortResult]:
    folder = SortedFolder(into, mode, new_folders=make_folder(into), resume=True)
    return list(folder.sort(rows, SortOptions(parse_layout(layout)), batch=3))


def undo(folder: str = "sorted") -> list[str | None]:
    path = os.path.realpath(f"{folder}/{JOURNAL_NAME}")
    entries = read_journal(path).entries
    reasons = [undone.why for undone in undo_all(path, entries)]
    remove_empty(own_folders(path, entries))
    return reasons


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def sorted_folder(here: Path) -> Path:
    (here / "sorted").mkdir()
    return here / "sorted"


@pytest.mark.parametrize("mode", MODES)
def test_predict_sort_and_undo_give_the_tree_back(here: Path, mode: Mode, capsys: pytest.CaptureFixture[str]) -> None:
    for photo in PHOTOS.glob("*.jpg"):
        image(f"photos/{photo.name}", photo.read_bytes())
    os.utime("photos/coffee.jpg", ns=(1_000_000_000_123_456_789,) * 2)
    os.chmod("photos/coffee.jpg", 0o640)
    assert run(["predict", "photos", "-m", "builtin", "-o", "labels.csv", "--threshold", "0.3"]) == 0
    before = tree()
    assert run(["sort", "labels.csv", "--into", "a/sorted", "--mode", mode]) == 0
    done = {"copy": "copied", "move": "moved", "symlink": "linked", "hardlink": "linked"}[mode]
    assert f"4 {done}, 1 uncertain left alone -> a/sorted; --undo a/sorted/{JOURNAL_NAME} takes it back" in (
        capsys.readouterr().err
    )
    assert Path("a/sorted/espresso/coffee.jpg").read_bytes() == (PHOTOS / "coffee.jpg").read_bytes()
    assert Path("photos/coffee.jpg").exists() == (mode != "move")
    assert Path("a/sorted/espresso/coffee.jpg").is_symlink() == (mode == "symlink")
    assert Path("photos/rocket.jpg").exists()
    after = tree()
    assert run(["sort", "labels.csv", "--into", "a/sorted", "--mode", mode]) == 0
    assert f"4 {'moved before' if mode == 'move' else 'there already'}" in capsys.readouterr().err
    assert tree() == after, "a second run changes nothing"
    assert run(["sort", "--undo", f"a/sorted/{JOURNAL_NAME}"]) == 0
    assert tree() == before


def test_two_hundred_photographs_come_back_byte_for_byte(here: Path, shared_data: Path) -> None:
    for photo in shared_data.joinpath("photos").glob("*.JPEG"):
        shutil.copy2(photo, image(f"photos/{photo.name}"))
    assert run(["predict", "photos", "-m", "builtin", "-o", "labels.csv", "-q"]) == 0
    before = tree()
    assert len(before) == 200 + len(["photos", "labels.csv", "labels.csv.meta.json"])
    for mode in MODES:
        assert run(["sort", "labels.csv", "--into", "sorted", "--mode", mode, "-q"]) == 0
        assert len(contents("sorted")) == (0 if mode == "symlink" else 200)
        assert run(["sort", "--undo", "sorted", "-q"]) == 0
        assert tree() == before, mode


def test_rows_that_are_none_leave_no_folder(here: Path, cli: Cli) -> None:
    Path("garbage").write_text("no rows\n")
    with open("garbage", "rb") as stdin:
        done = cli("sort", "-", "--into", "a/sorted", stdin=stdin)
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    assert os.listdir() == ["garbage"]


@pytest.mark.parametrize("made", ["csv", "excel", "jsonl", "parquet", "sqlite"])
def test_any_file_of_predict_and_stdin(here: Path, made: str, cli: Cli) -> None:
    names = ["=a.jpg", "b.jpg", "it's.jpg"]
    rows = [row(image(name), "dog", 0.9, 1, Label("cat", 2, 0.1)) for name in names]
    write_rows("labels.csv", rows, made)
    if made == "excel":
        Path("labels.csv.meta.json").write_text(json.dumps({"made_with": {"format": "excel"}}))
    assert run(["sort", "labels.csv", "--into", "sorted"]) == 0
    assert sorted(os.listdir("sorted/dog")) == names
    if made != "excel":
        with open("labels.csv", "rb") as stdin:
            done = cli("sort", "-", "--into", "piped", stdin=stdin)
        assert (done.returncode, sorted(os.listdir("piped/dog"))) == (0, names)


def test_rows_of_a_pipe_are_sorted_as_they_come(here: Path) -> None:
    rows = [row(image("a.jpg")), row(image("b.jpg"))]
    lines = open_format("csv", 1).lines
    command = [sys.executable, "-m", "dinoclassify", "sort", "-", "--into", "sorted"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(lines.header() + lines.line(rows[0]))
        process.stdin.flush()
        for _ in range(2400):
            if Path("sorted/dog/a.jpg").exists():
                break
            time.sleep(0.05)
        else:
            pytest.fail("the first row was not sorted while the second was still to come")
        process.stdin.write(lines.line(rows[1]))
        process.stdin.close()
        assert process.wait() == 0
    assert Path("sorted/dog/b.jpg").exists()


def test_equal_names_never_lose_a_file(here: Path) -> None:
    rows = [row(image(f"{number}/img.jpg", str(number % 500))) for number in range(1000)]
    outcomes = sort(rows, "copy")
    assert [outcome.done for outcome in outcomes] == ["done"] * 500 + ["there"] * 500
    assert contents("sorted") == sorted(str(number).encode() for number in range(500))
    before = tree()
    assert all(outcome.done == "there" for outcome in sort(rows, "copy"))
    assert tree() == before


def test_a_move_leaves_an_image_whose_content_is_there_already(here: Path) -> None:
    rows = [row(image("a/x.jpg", "same")), row(image("b/x.jpg", "same")), row(image("c/x.jpg", "other"))]
    assert [outcome.done for outcome in sort(rows, "move")] == ["done", "there", "done"]
    assert Path("b/x.jpg").exists()
    assert contents() == [b"other", b"same", b"same"]
    assert undo() == [None, None]
    assert contents() == [b"other", b"same", b"same"]
    assert not Path("sorted").exists()


def test_what_is_in_the_folder_already_is_kept(sorted_folder: Path) -> None:
    image("sorted/dog/x.jpg", "theirs")
    os.mkdir("sorted/cat")
    assert [outcome.done for outcome in sort([row(image("x.jpg", "ours"))], "move")] == ["done"]
    assert contents("sorted") == [b"ours", b"theirs"]
    undo()
    assert tree().keys() == {"x.jpg", "sorted", "sorted/cat", "sorted/dog", "sorted/dog/x.jpg"}


def test_an_image_that_would_be_the_journal(here: Path) -> None:
    assert sort([row(image(JOURNAL_NAME))], "copy", "{name}")[0].target.startswith("undo-journal-")
    assert undo() == [None]


def test_images_that_have_changed_or_gone_are_left_and_reported(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row(image(name)) for name in ("same.jpg", "changed.jpg", "gone.jpg")]
    image("changed.jpg", "longer than it was")
    os.unlink("gone.jpg")
    write_rows("labels.csv", rows)
    assert run(["sort", "labels.csv", "--into", "sorted", "--mode", "move"]) == 3
    err = capsys.readouterr().err
    assert "changed.jpg has changed since it was labelled" in err
    assert "gone.jpg is gone" in err
    assert "1 moved, 1 gone, 1 changed" in err
    assert os.listdir("sorted/dog") == ["same.jpg"]
    assert Path("changed.jpg").exists()


def test_only_some_of_many_troubles_are_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row(image(f"{number}.jpg")) for number in range(50)]
    write_rows("labels.csv", rows)
    for number in range(50):
        os.unlink(f"{number}.jpg")
    assert run(["sort", "labels.csv", "--into", "sorted"]) == 3
    err = capsys.readouterr().err
    assert err.count("is gone") == 20
    assert "and so 30 more" in err
    assert not Path("sorted").exists()


def test_uncertain_and_failed_have_folders_of_their_own_or_are_left(here: Path) -> None:
    unsure = replace(row(image("u.jpg")), status="uncertain")
    size = os.stat(image("f.jpg")).st_size
    failed = Prediction(
        "f.jpg", "failed", failure=Failure("truncated", "it ends"), size=size, mtime_ns=os.stat("f.jpg").st_mtime_ns
    )
    vanished = Prediction("v.jpg", "failed", failure=Failure("vanished", "no such file"))
    write_rows("labels.csv", [row(image("ok.jpg"), "dog", 0.6), row(image("low.jpg"), "dog", 0.4), unsure, failed])
    assert run(["sort", "labels.csv", "--into", "one", "--min-score", "0.5"]) == 0
    assert contents("one") == [b"ok.jpg"]
    write_rows("labels.csv", [row("ok.jpg", "dog", 0.6), row("low.jpg", "dog", 0.4), unsure, failed, vanished])
    command = ["sort", "labels.csv", "--into", "two", "--min-score", "0.5", "--uncertain-to", "look at", "--failed-to"]
    assert run([*command, "../bad"]) == 2, "that is no name"
    assert run([*command, "bad"]) == 3, "one of them is gone"
    assert sorted(os.listdir("two")) == ["bad", "dog", "look at", JOURNAL_NAME]
    assert sorted(os.listdir("two/look at")) == ["low.jpg", "u.jpg"]


def test_the_layout_has_all_its_fields(here: Path) -> None:
    some = row(image("album/x.tar.jpg"), "dog", 0.123456, 1, Label("cat", 2, 0.05))
    layout = "{status}/{parent}-{stem}/{label} {score}{suffix}"
    assert sort([some], "copy", layout)[0].target == "ok/album-x.tar/dog 0.1235.jpg"
    targets = [outcome.target for outcome in sort([some], "symlink", "{rank}/{label}/{name}")]
    assert targets == ["1/dog/x.tar.jpg", "2/cat/x.tar.jpg"]
    assert undo() == [None] * 3


@pytest.mark.parametrize(
    "layout", ["", "/{name}", "../{name}", "{label}/../{name}", "{nope}", "{label!r}", "{score:.2f}", "{", "{label}/"]
)
def test_layouts_that_are_none(layout: str, here: Path) -> None:
    with pytest.raises(UsageError, match="--layout"):
        parse_layout(layout)


def test_groups_add_up_what_a_row_has(here: Path) -> None:
    cats = (Label("tabby, tabby cat", 281, 0.3), Label("tiger cat", 282, 0.25))
    write_rows("labels.csv", [row(image("x.jpg"), "tench, Tinca tinca", 0.4, 0, *cats)])
    command = ["sort", "labels.csv", "--into", "sorted", "--groups", "everyday", "--min-score", "0.5", "--layout"]
    assert run([*command, "{group}/{label}/{score} {name}"]) == 0
    assert Path("sorted/cat/tabby/0.5500 x.jpg").exists()


def test_groups_make_folders(here: Path) -> None:
    rows = [row(image("a.jpg"), "tench, Tinca tinca", 0.9, 0), row(image("b.jpg"), "tabby, tabby cat", 0.9, 281)]
    write_rows("labels.csv", rows)
    assert run(["sort", "labels.csv", "--into", "sorted", "--groups", "everyday"]) == 0
    assert Path("sorted/fish/a.jpg").exists()
    assert (
        run(["sort", "labels.csv", "--into", "both", "--groups", "everyday", "--layout", "{group}/{label}/{name}"]) == 0
    )
    assert Path("both/cat/tabby/b.jpg").exists()


def test_the_first_of_imagenets_synonyms_is_the_folder_and_classes_of_one_name_have_two() -> None:
    name = folder_namer()
    assert name("tench, Tinca tinca", 0) == "tench"
    assert [name("crane", 517), name("crane", 134), name("crane", 517)] == ["crane-517", "crane", "crane-517"]
    assert [name("red, round", 5), name("red, square", 6), name("RED, ROUND", 7)] == [
        "red_round",
        "red_square",
        "RED_ROUND-7",
    ]


@given(st.text(max_size=300))
def test_any_label_is_a_safe_name(label: str) -> None:
    name = safe_name(label)
    assert 0 < len(os.fsencode(name)) <= 255
    assert not set(name) & set('<>:"/\\|?*,\0')
    assert name.isprintable()
    assert not name.startswith(".")
    assert not name.endswith((".", " "))
    assert name.split(".")[0].lower() not in {"con", "prn", "aux", "nul", "com1", "lpt9"}
    assert safe_name(name) == name


@pytest.mark.parametrize(
    ("label", "name"),
    [("a/b", "a_b"), ("..", "_"), ("CON", "CON_"), ("nul.txt", "nul_.txt"), ("\x1b[31m", "_[31m"), ("", "_")],
)
def test_labels_that_are_no_names(label: str, name: str) -> None:
    assert safe_name(label) == name


def test_names_that_are_not_utf8_and_the_longest_ones(here: Path) -> None:
    odd, long = os.fsdecode(b"\xff\xe9.jpg"), "x" * 251 + ".jpg"
    rows = [row(image(name)) for name in (odd, long, f"other/{long}")]
    write_rows("labels.csv", rows)
    assert run(["sort", "labels.csv", "--into", "sorted", "--mode", "move"]) == 0
    names = os.listdir("sorted/dog")
    assert odd in names
    assert len(names) == 3
    assert all(name.endswith(".jpg") for name in names)
    assert run(["sort", "--undo", "sorted"]) == 0
    assert Path(odd).exists()


def test_a_symbolic_link_is_copied_but_not_moved(here: Path) -> None:
    os.symlink(os.path.abspath(image("real.jpg")), "link.jpg")
    assert sort([row("link.jpg")], "move")[0].done == "error"
    assert sort([row("link.jpg")], "copy")[0].done == "done"
    assert not Path("sorted/dog/link.jpg").is_symlink()


def test_undo_keeps_what_has_changed_since(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row(image(name)) for name in ("edited.jpg", "last.jpg", "fine.jpg")]
    sort(rows, "copy")
    image("sorted/dog/edited.jpg", "edited")
    os.unlink("last.jpg")
    assert run(["sort", "--undo", "sorted"]) == 3
    assert sorted(os.listdir("sorted/dog")) == ["edited.jpg", "last.jpg"]
    assert "last.jpg is not there as it was" in capsys.readouterr().err
    image("last.jpg", "last.jpg")
    image("sorted/dog/edited.jpg", "edited.jpg")
    assert run(["sort", "--undo", "sorted"]) == 0, "the journal still has what was left"
    assert not Path("sorted").exists()


def test_undo_moves_back_what_was_moved_even_where_its_folder_is_gone(here: Path) -> None:
    sort([row(image("a/x.jpg"))], "move")
    os.rmdir("a")
    os.rename("sorted", "elsewhere")
    path = os.path.abspath(f"elsewhere/{JOURNAL_NAME}")
    assert [undone.why for undone in undo_all(path, read_journal(path).entries)] == [None]
    assert Path("a/x.jpg").exists()


def test_undo_does_not_replace_what_has_come_since(here: Path) -> None:
    sort([row(image("x.jpg", "first"))], "move")
    image("x.jpg", "second")
    (why,) = undo()
    assert why is not None
    assert contents() == [b"first", b"second"]


def test_a_moved_image_is_known_in_later_runs_and_a_new_one_of_its_name_is_sorted(here: Path) -> None:
    rows = [row(image("x.jpg", "first"))]
    assert [outcome.done for outcome in sort(rows + rows, "move")] == ["done", "moved"]
    assert [outcome.done for outcome in sort(rows, "move")] == ["moved"]
    assert [outcome.done for outcome in sort([row(image("x.jpg", "second"))], "move")] == ["done"]
    assert contents("sorted") == [b"first", b"second"]


def test_another_run_waits_or_ends_with_11(here: Path, cli: Cli) -> None:
    from dinoclassify.storage.lock import locked

    write_rows("labels.csv", [row(image("x.jpg"))])
    os.mkdir("sorted")
    with locked(f"sorted/{JOURNAL_NAME}", wait=False):
        assert cli("sort", "labels.csv", "--into", "sorted").returncode == 11


def test_a_dry_run_does_nothing_and_says_what_it_would(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows("labels.csv", [row(image("a/x.jpg", "1")), row(image("b/x.jpg", "2")), row(image("c/x.jpg", "1"))])
    before = tree()
    assert run(["sort", "labels.csv", "--into", "sorted", "--dry-run", "--mode", "move"]) == 0
    assert tree() == before
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "move a/x.jpg -> sorted/dog/x.jpg",
        "move b/x.jpg -> sorted/dog/x-d4735e3a.jpg",
    ]
    assert "would do: 2 moved, 1 there already" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sort"], "name a file that predict wrote"),
        (["sort", "labels.csv"], "name a folder with --into"),
        (["sort", "nothing.csv", "--into", "x"], "nothing.csv is not there: "),
        (["sort", "x.jpg", "--into", "x"], "x.jpg is not what predict writes"),
        (["sort", "labels.csv", "--into", "x", "--mode", "move", "--layout", "{rank}/{name}"], "copy or link"),
        (["sort", "labels.csv", "--into", "x", "--groups", "everyday", "--layout", "{name}"], "there is no {group} in"),
        (["sort", "--undo", "x", "--into", "y"], "leave out --into"),
        (["sort", "labels.csv", "--undo", "x"], "leave out RESULTS"),
        (["sort", "--undo", "nothing"], "there is no journal"),
        (["sort", "--undo", "labels.csv"], "there is no journal"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str], message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows("labels.csv", [row(image("x.jpg"))])
    assert run(arguments) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not Path("x").exists()


def test_a_folder_that_cannot_be_made(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows("labels.csv", [row(image("x.jpg"))])
    assert run(["sort", "labels.csv", "--into", "x.jpg"]) == 2
    assert "--into x.jpg: that is a file; name a folder, new or not" in capsys.readouterr().err
    assert run(["sort", "labels.csv", "--into", "x.jpg/y"]) == 6
    assert "dinoclassify: cannot write x.jpg/y" in capsys.readouterr().err


def test_a_folder_whose_name_a_file_has(sorted_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image("sorted/dog", "a file")
    write_rows("labels.csv", [row(image("x.jpg")), row(image("y.jpg"), "cat", 0.9, 2)])
    assert run(["sort", "labels.csv", "--into", "sorted"]) == 3
    assert "1 copied, 1 could not be sorted" in capsys.readouterr().err


def test_a_full_disk_ends_the_run_and_it_can_be_resumed(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row(image(f"{number}.jpg")) for number in range(3)]
    write_rows("labels.csv", rows)

    def full(source: str, target: str, made: str) -> None:
        if source.endswith("1.jpg"):
            raise OSError(28, "No space left on device")
        transfer.copy(source, target, made)

    with monkeypatch.context() as patch:
        patch.setattr("dinoclassify.results.sort.executor.TRANSFERS", {"copy": full})
        assert run(["sort", "labels.csv", "--into", "sorted"]) == 6
    assert run(["sort", "labels.csv", "--into", "sorted"]) == 2
    assert "did not come to its end: --resume goes on with it, --undo sorted/" in capsys.readouterr().err
    assert run(["sort", "labels.csv", "--into", "sorted", "--resume"]) == 0
    assert contents("sorted") == [b"0.jpg", b"1.jpg", b"2.jpg"]


def test_where_renames_cannot_be_exclusive_they_are_links(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dinoclassify.storage.rename._renameat2", lambda *_: 38)
    rows = [row(image("a/x.jpg", "1")), row(image("b/x.jpg", "2"))]
    assert [outcome.done for outcome in sort(rows, "move")] == ["done", "done"]
    with pytest.raises(FileExistsError):
        rename.rename_to_free(image("x"), image("y"))
    monkeypatch.setattr(os, "link", lambda *_, **__: (_ for _ in ()).throw(OSError(95, "not supported")))
    with pytest.raises(FileExistsError):
        rename.rename_to_free("x", "y")
    rename.rename_to_free("x", "z")
    assert undo() == [None, None]
    assert contents() == [b"1", b"2", b"x", b"y"]


@pytest.mark.parametrize("mode", MODES)
def test_a_name_that_somebody_takes_in_between(mode: Mode, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As another program does, or a file system to which IMG.JPG and img.jpg are the same."""
    real = transfer.TRANSFERS[mode]

    def late(source: str, target: str, made: str) -> None:
        if target.endswith("/dog/x.jpg") and not os.path.lexists(target):
            image(target, "a stranger's")
        real(source, target, made)

    monkeypatch.setattr("dinoclassify.results.sort.executor.TRANSFERS", {mode: late})
    (outcome,) = sort([row(image("x.jpg", "ours"))], mode)
    assert outcome.done == "done"
    assert outcome.target != "dog/x.jpg"
    assert set(contents()) == {b"ours", b"a stranger's"}
    if mode == "move":
        os.unlink(f"sorted/{outcome.target}")  # nothing of a stranger's takes its place
    assert undo() in ([None], ["it is gone, and is not at " + os.path.abspath("x.jpg") + " either"])
    assert Path("sorted/dog/x.jpg").read_bytes() == b"a stranger's"
    assert Path("x.jpg").exists() == (mode != "move")


def test_a_run_that_was_killed_before_it_could_say_that_a_name_was_taken(here: Path) -> None:
    sort([row(image("x.jpg", "ours"))], "move")
    path = Path(f"sorted/{JOURNAL_NAME}")
    entry = next(line for line in path.read_text().splitlines() if '"move"' in line)
    image("sorted/dog/other.jpg", "a stranger's")
    path.write_text(path.read_text().replace(entry, entry.replace("dog/x.jpg", "dog/other.jpg") + "\n" + entry))
    assert undo() == [None]
    assert contents() == [b"a stranger's", b"ours"]
    assert Path("x.jpg").exists()


def test_an_image_that_changes_just_before_it_would_be_moved(here: Path) -> None:
    folder = SortedFolder("sorted", "move", new_folders=make_folder("sorted"))
    rows = [row(image("a.jpg")), row(image("b.jpg"))]
    outcomes = folder.sort(rows, SortOptions(parse_layout("{label}/{name}")))
    assert next(outcomes).done == "done"
    image("b.jpg", "changed")
    assert [outcome.done for outcome in outcomes] == ["changed"]
    assert Path("b.jpg").exists()


def test_a_journal_whose_last_line_is_torn(here: Path) -> None:
    sort([row(image("x.jpg"))], "copy")
    whole = Path(f"sorted/{JOURNAL_NAME}").read_text()
    Path(f"sorted/{JOURNAL_NAME}").write_text(whole + '{"event": "copy", "sour')
    assert len(read_journal(f"sorted/{JOURNAL_NAME}").entries) == whole.count("\n")
    sort([row(image("y.jpg"))], "copy")
    assert Path(f"sorted/{JOURNAL_NAME}").read_text().startswith(whole)
    assert undo() == [None, None]


@pytest.mark.parametrize("mode", ["symlink", "hardlink"])
def test_undo_keeps_what_has_taken_the_place_of_a_link(mode: Mode, here: Path) -> None:
    sort([row(image("x.jpg"))], mode)
    os.unlink("sorted/dog/x.jpg")
    if mode == "symlink":
        os.symlink("/dev/null", "sorted/dog/x.jpg")
    else:
        image("sorted/dog/x.jpg", "another")
    assert undo() != [None]
    assert os.path.lexists("sorted/dog/x.jpg")


def test_what_is_about_to_be_done_is_on_the_disk_before_it_is_done(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    for module, name in ((os, "write"), (os, "fsync"), (os, "mkdir"), (rename, "_renameat2")):
        real = getattr(module, name)

        def noted(*arguments: object, _real: Callable[..., object] = real, _name: str = name, **more: object) -> object:
            steps.append(_name)
            return _real(*arguments, **more)

        monkeypatch.setattr(module, name, noted)
    rows = [row(image("x.jpg")), row(image("y.jpg"))]
    steps.clear()
    sort(rows, "move")
    begin = ["mkdir", "write", "fsync", "fsync", "mkdir"]  # the folder; the journal, its name; the folder of the label
    assert [step for step in steps[5:] if step != "mkdir"] == ["_renameat2", "_renameat2", "write", "fsync"]
    assert steps[:5] == begin


def test_undo_says_what_it_would_do(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sort([row(image("x.jpg"))], "move")
    before = tree()
    assert run(["sort", "--undo", "sorted", "--dry-run"]) == 0
    assert tree() == before
    out, err = capsys.readouterr()
    assert out == f"undo {here}/sorted/dog/x.jpg -> {here}/x.jpg\n"
    assert err == "dinoclassify: would do: 1 taken back\n"


def test_rows_of_another_folder(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows("labels.csv", [row(image("a/x.jpg"))])
    os.mkdir("elsewhere")
    monkeypatch.chdir("elsewhere")
    assert run(["sort", "../labels.csv", "--into", "sorted"]) == 3
    assert "relative paths begin in the folder in which predict ran" in capsys.readouterr().err


def test_groups_of_the_environment_are_for_layouts_with_groups(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows("labels.csv", [row(image("x.jpg"), "tench, Tinca tinca", 0.9, 0)])
    monkeypatch.setenv("DINOCLASSIFY_SORT_GROUPS", "everyday")
    assert run(["sort", "labels.csv", "--into", "one"]) == 0
    assert run(["sort", "labels.csv", "--into", "two", "--layout", "{label}/{name}"]) == 0
    assert Path("one/fish/x.jpg").exists()
    assert Path("two/tench/x.jpg").exists()


@pytest.mark.parametrize("ended", [True, False])
def test_a_sorted_tree_that_takes_the_place_of_the_old_one(ended: bool, here: Path) -> None:
    """Then source and target are one file, of which neither may go because the other is there."""
    sort([row(image("old/dog/x.jpg"))], "move", into="new")
    os.rmdir("old/dog")
    os.rmdir("old")
    os.rename("new", "old")
    if ended:
        assert undo("old") == []
    else:
        journal = Path(f"old/{JOURNAL_NAME}")
        journal.write_text(journal.read_text().replace('{"event": "end"}\n', ""))
        sort([row("old/dog/x.jpg")], "move", into="old")
    assert contents() == [b"old/dog/x.jpg"]


@pytest.mark.parametrize("link", ["sorted/dog/x.jpg", "nowhere"])
def test_a_link_where_a_moved_image_was(link: str, here: Path) -> None:
    sort([row(image("x.jpg"))], "move")
    os.symlink(link, "x.jpg")
    assert undo() != [None]
    assert Path("sorted/dog/x.jpg").read_bytes() == b"x.jpg"
    os.unlink("x.jpg")
    assert undo() == [None], "it is in the journal still"


def test_two_paths_of_one_name_are_one_file(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a mount makes them, or a file system to which IMG.JPG and img.jpg are the same."""
    sort([row(image("x.jpg"))], "copy")
    os.unlink("x.jpg")
    other, its = str(here / "x.jpg"), str(here / "sorted/dog/x.jpg")

    def resolving(real: Callable[..., object]) -> Callable[..., object]:
        return lambda *paths: real(*(its if path == other else path for path in paths))

    for name in ("exists", "isfile", "samefile"):
        monkeypatch.setattr(os.path, name, resolving(getattr(os.path, name)))
    assert undo() != [None]
    assert Path("sorted/dog/x.jpg").read_bytes() == b"x.jpg"


def test_what_is_void_is_that_line_and_no_other(here: Path) -> None:
    sort([row(image("x.jpg", "first"))], "copy")
    path = Path(f"sorted/{JOURNAL_NAME}")
    first = next(json.loads(line) for line in path.read_text().splitlines() if '"copy"' in line)
    os.unlink("sorted/dog/x.jpg")
    sort([row("x.jpg")], "copy")
    with open(path, "a") as file:
        file.write(json.dumps(first | {"event": "void"}) + "\n")
    assert undo() == [None]
    assert not Path("sorted/dog/x.jpg").exists()


def test_a_dry_undo_of_a_chain(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sort([row(image("x.jpg"))], "move", "1/{name}")
    sort([row("sorted/1/x.jpg")], "move", "2/{name}")
    assert run(["sort", "--undo", "sorted", "-n"]) == 0
    assert "would do: 2 taken back" in capsys.readouterr().err


def test_a_second_row_of_an_image_that_could_not_be_moved(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: str, target: str, made: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("dinoclassify.results.sort.executor.TRANSFERS", {"move": refuse})
    rows = [row(image("x.jpg")), row("./x.jpg")]
    assert [outcome.done for outcome in sort(rows, "move")] == ["error", "error"]


def test_an_image_that_may_not_leave_its_folder_is_told_from_one_that_may_not_come(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(source: str, target: str, made: str) -> None:
        raise PermissionError(13, "Permission denied")

    write_rows("labels.csv", [row(image("photos/x.jpg"))])
    monkeypatch.setattr("dinoclassify.results.sort.executor.TRANSFERS", {"move": refuse})
    arguments = ["sort", "labels.csv", "--into", "sorted", "--mode", "move", "--resume"]
    assert run(arguments) == 3
    cure = "let this user write there, or take another --mode"
    whole = f"photos/x.jpg cannot be taken out of {here}/photos (Permission denied): {cure}\n"
    assert whole in capsys.readouterr().err
    monkeypatch.setattr("os.access", lambda *_: False)
    assert run(arguments) == 3
    assert "photos/x.jpg cannot be put there: Permission denied\n" in capsys.readouterr().err


def test_a_moved_image_whose_copy_came_back_is_there_already(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows("labels.csv", [row(image("x.jpg"))])
    arguments = ["sort", "labels.csv", "--into", "sorted", "--mode", "move"]
    assert run(arguments) == 0
    shutil.copy2("sorted/dog/x.jpg", "x.jpg")
    assert run([*arguments, "--resume"]) == 0
    assert "1 there already -> sorted\n" in capsys.readouterr().err
    assert [Path(path).read_text() for path in ("x.jpg", "sorted/dog/x.jpg")] == ["x.jpg", "x.jpg"]


@pytest.mark.parametrize("mode", ["copy", "hardlink"])
def test_originals_that_have_become_links_to_their_copies(mode: Mode, here: Path) -> None:
    sort([row(image("x.jpg"))], mode)
    os.unlink("x.jpg")
    os.symlink("sorted/dog/x.jpg", "x.jpg")
    assert undo() != [None]
    assert Path("x.jpg").read_bytes() == b"x.jpg"


def test_a_copy_that_is_not_whole_has_a_name_that_no_image_has(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "dinoclassify.results.sort.executor.unfinished_name", lambda: ".dinoclassify-0123456789abcdef.new"
    )
    image("sorted/dog/.dinoclassify-0123456789abcdef.new", "theirs")
    (outcome,) = sort([row(image("x.jpg"))], "copy")
    assert outcome.done == "error"
    assert contents("sorted") == []
    assert Path("sorted/dog/.dinoclassify-0123456789abcdef.new").read_text() == "theirs"


@pytest.mark.parametrize(
    "line",
    [
        '{"event": "hardlink", "source": "/etc/hosts", "target": "../x.jpg", "made": "%s"}',
        '{"event": "move", "source": "/etc/hosts", "target": "/etc/passwd", "made": "%s"}',
        '{"event": "copy", "source": "x.jpg", "target": "x.jpg", "made": "%s"}',
        '{"event": "copy", "source": "/x.jpg", "target": "x.jpg", "made": "../m"}',
        '{"event": "copy", "source": "/\\u0000", "target": "x.jpg", "made": "%s"}',
        '{"event": "copy", "source": "/\\ud800", "target": "x.jpg", "made": "%s"}',
        '{"event": "copy", "source": "/x.jpg", "target": "x.jpg", "made": "precious.jpg"}',
        '{"event": "mkdir", "target": "../empty"}',
        '{"event": "mkdir", "target": ".."}',
        '{"event": "format", "source": "/x.jpg", "target": "x.jpg"}',
        "[" * 100_000,
    ],
)
def test_journals_that_nobody_here_has_written(line: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image("x.jpg")
    os.mkdir("sorted")
    Path(f"sorted/{JOURNAL_NAME}").write_text(line.replace("%s", MADE) + "\n")
    assert run(["sort", "--undo", "sorted"]) == 2
    assert "is not a journal of dinoclassify sort" in capsys.readouterr().err
    assert Path("x.jpg").exists()


def test_a_journal_removes_no_folders_but_its_own(here: Path) -> None:
    (here / "empty").mkdir()
    (here / "sorted").mkdir()
    Path(f"sorted/{JOURNAL_NAME}").write_text(json.dumps({"event": "mkdir", "target": str(here / "empty")}) + "\n")
    assert undo() == []
    assert Path("empty").exists()


def test_undo_by_a_link_to_the_journal(here: Path) -> None:
    sort([row(image("x.jpg"))], "move")
    os.symlink(f"sorted/{JOURNAL_NAME}", "link")
    assert run(["sort", "--undo", "link"]) == 0
    assert Path("x.jpg").exists()


def test_rows_without_a_last_line_end_and_with_a_quote_too_many(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows("labels.csv", [row(image("a.jpg")), row(image("b.jpg"))])
    whole = Path("labels.csv").read_text()
    Path("labels.csv").write_text(whole.rstrip())
    assert run(["sort", "labels.csv", "--into", "sorted"]) == 0
    assert contents("sorted") == [b"a.jpg", b"b.jpg"]
    Path("labels.csv").write_text(whole.replace("a.jpg", '"a.jpg'))
    assert run(["sort", "labels.csv", "--into", "other"]) == 2
    assert "labels.csv is not what predict writes (its end is within quotes)" in capsys.readouterr().err


def test_rows_are_read_to_the_end_before_an_image_is_touched(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows("labels.csv", [row(image(f"{number}.jpg")) for number in range(150)])
    with open("labels.csv", "a") as file:
        file.write("not,a,row\n")
    assert run(["sort", "labels.csv", "--into", "sorted"]) == 2
    assert "labels.csv is not what predict writes" in capsys.readouterr().err
    assert not Path("sorted").exists()


def test_a_pipe_that_ends_in_something_else_says_how_to_go_on(here: Path, cli: Cli) -> None:
    write_rows("labels.csv", [row(image("x.jpg"))])
    with open("labels.csv", "a") as file:
        file.write("not,a,row\n")
    with open("labels.csv", "rb") as stdin:
        done = cli("sort", "-", "--into", "sorted", stdin=stdin)
    assert done.returncode == 2
    assert b"the run ends early: 1 copied; --resume goes on, --undo takes it back" in done.stderr


def test_of_two_that_are_the_same_the_second_is_put_where_the_first_cannot(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_a(source: str, target: str, made: str) -> None:
        if source.endswith("a/x.jpg"):
            raise PermissionError(13, "Permission denied")
        transfer.move(source, target, made)

    monkeypatch.setattr("dinoclassify.results.sort.executor.TRANSFERS", {"move": refuse_a})
    rows = [row(image("a/x.jpg", "same")), row(image("b/x.jpg", "same")), row(image("c/x.jpg", "same"))]
    assert [outcome.done for outcome in sort(rows, "move")] == ["error", "done", "there"]
    assert Path("sorted/dog/x.jpg").exists()
    assert not Path("b/x.jpg").exists()


def test_an_undo_that_was_killed_before_it_could_forget_its_journal(here: Path) -> None:
    sort([row(image("sorted/a.jpg"))], "move", "1/{name}")
    sort([row("sorted/1/a.jpg")], "move", "2/{name}")
    journal = Path(f"sorted/{JOURNAL_NAME}")
    entries = journal.read_bytes()
    assert undo() == [None, None]
    lines = [json.loads(line) for line in entries.splitlines()]
    undone = [line | {"event": "void"} for line in lines[::-1] if line["event"] == "move"]
    journal.write_bytes(entries + "".join(f"{json.dumps(line)}\n" for line in undone).encode())
    assert undo() == []
    assert contents() == [b"sorted/a.jpg"]


def test_a_run_that_was_killed_with_a_file_in_the_way(sorted_folder: Path) -> None:
    image("sorted/dog", "a file")
    image("x.jpg")
    line = {
        "event": "move",
        "source": os.path.abspath("x.jpg"),
        "target": "dog/x.jpg",
        "made": MADE,
        "was": [1, 2],
    }
    Path(f"sorted/{JOURNAL_NAME}").write_text(json.dumps(line) + "\n")
    assert sort([row("x.jpg", "cat")], "move")[0].done == "done"
    assert undo() == [None]
    assert Path("x.jpg").exists()


def test_what_was_void_is_not_finished(here: Path) -> None:
    """A stranger's file of the same content has taken the name: the image is not removed because of it."""
    image("sorted/dog/x.jpg", "same")
    image("x.jpg", "same")
    move = {
        "event": "move",
        "source": os.path.abspath("x.jpg"),
        "target": "dog/x.jpg",
        "made": MADE,
        "was": [1, 2],
    }
    Path(f"sorted/{JOURNAL_NAME}").write_text(f"{json.dumps(move)}\n{json.dumps(move | {'event': 'void'})}\n")
    assert [outcome.done for outcome in sort([row("x.jpg")], "move")] == ["there"]
    assert Path("x.jpg").exists()


@pytest.fixture
def other_file_system(tmp_path: Path) -> Iterator[Path]:
    import tempfile

    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system at /dev/shm")
    folder = Path(tempfile.mkdtemp(dir=shm))
    yield folder
    shutil.rmtree(folder)


def test_moves_to_another_file_system_and_back(here: Path, other_file_system: Path) -> None:
    os.chmod(image("x.jpg"), 0o640)
    os.utime("x.jpg", ns=(1_000_000_000_123_456_789,) * 2)
    before = tree()
    write_rows("labels.csv", [row("x.jpg")])
    into = f"{other_file_system}/sorted"
    assert run(["sort", "labels.csv", "--into", into, "--mode", "move"]) == 0
    assert not Path("x.jpg").exists()
    assert Path(f"{into}/dog/x.jpg").stat().st_mtime_ns == 1_000_000_000_123_456_789
    assert run(["sort", "--undo", into]) == 0
    os.unlink("labels.csv")
    assert tree() == before
    assert list(other_file_system.iterdir()) == []
    write_rows("labels.csv", [row("x.jpg")])
    assert run(["sort", "labels.csv", "--into", into, "--mode", "hardlink"]) == 3


@pytest.fixture
def fat(other_file_system: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which files have the rights and the even seconds that FAT gives them."""
    copy2 = shutil.copy2

    def rounded(source: str, target: str) -> None:
        copy2(source, target)
        if target.startswith(str(other_file_system)):
            os.chmod(target, 0o777)
            os.utime(target, ns=(os.stat(target).st_mtime_ns // 2_000_000_000 * 2_000_000_000,) * 2)

    monkeypatch.setattr("dinoclassify.results.sort.transfer.shutil.copy2", rounded)
    return other_file_system


def test_what_fat_does_not_keep_comes_back_with_undo(here: Path, fat: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        os.chmod(image(f"{number}.jpg"), 0o640)
        os.utime(f"{number}.jpg", ns=(1_000_000_001_123_456_789,) * 2)
    write_rows("labels.csv", [row(f"{number}.jpg") for number in range(3)])
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


def test_journals_without_rights_and_those_of_others_restore_times(here: Path, fat: Path) -> None:
    os.utime(image("x.jpg"), ns=(1_000_000_001_123_456_789,) * 2)
    os.chmod("x.jpg", 0o640)
    sort([row("x.jpg")], "move", into=f"{fat}/sorted")
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
def test_a_journal_at_another_place_narrows_modes_and_tells_the_rest(
    had: int, has: int, gets: int, told: list[str], here: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """As on a card that has another mount point now: owners and modes of its journal may be anybody's."""
    write_rows("labels.csv", [row(image("photos/x.jpg"))])
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
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "restored" in line]
    assert line == (
        f"dinoclassify: {here}/photos: the {' and '.join(told)} that images had could not be restored: "
        "a journal that is not known to be yours gives no file another owner, nor others more access"
    )
    assert (os.stat("photos/x.jpg").st_mode & 0o777, given) == (gets, [])


def test_each_loss_has_its_own_reason(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows("labels.csv", [row(image("x.jpg")), row(image("y.jpg"))])
    assert run(["sort", "labels.csv", "--into", "sorted", "--mode", "move", "-q"]) == 0
    losses = iter([["exact times", "modes"], ["exact times", "owners"]])

    def losing(*_: object) -> list[str]:
        monkeypatch.setattr("os.geteuid", lambda: 1000)  # and not before: the key is that of root
        return next(losses)

    monkeypatch.setattr("dinoclassify.results.sort.undo.lost", losing)
    assert run(["sort", "--undo", "sorted"]) == 0
    of = f"dinoclassify: {here}: the"
    assert set(capsys.readouterr().err.splitlines()) == {
        "dinoclassify: 2 taken back",
        f"{of} exact times and modes that images had could not be restored: its file system does not keep them",
        f"{of} owners that images had could not be restored: only root may do that",
    }


def test_what_cannot_be_restored_is_said_once(
    here: Path, fat: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows("labels.csv", [row(image("x.jpg")), row(image("y.jpg"))])
    assert run(["sort", "labels.csv", "--into", f"{fat}/sorted", "--mode", "move", "-q"]) == 0
    monkeypatch.setattr("dinoclassify.results.sort.transfer.os.fchmod", lambda *_: None)
    capsys.readouterr()
    assert run(["sort", "--undo", f"{fat}/sorted"]) == 0
    assert capsys.readouterr().err == (
        f"dinoclassify: {here}: the modes that images had could not be restored: its file system does not keep them\n"
        "dinoclassify: 2 taken back\n"
    )


def test_undo_changes_nothing_that_a_link_names(here: Path) -> None:
    """Who may write to the folder could otherwise have root change any file."""
    write_rows("labels.csv", [row(image("x.jpg"))])
    assert run(["sort", "labels.csv", "--into", "sorted", "--mode", "move", "-q"]) == 0
    os.chmod(image("victim"), 0o600)
    os.unlink("sorted/dog/x.jpg")
    os.symlink("../../victim", "sorted/dog/x.jpg")
    run(["sort", "--undo", "sorted", "-q"])
    assert os.stat("victim").st_mode & 0o777 == 0o600


def test_a_copy_across_file_systems_that_differs_is_no_move(
    here: Path, other_file_system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dinoclassify.results.sort.transfer.filecmp.cmp", lambda *_, **__: False)
    with pytest.raises(OSError, match="not the same"):
        transfer.move(image("x.jpg"), f"{other_file_system}/x.jpg", "made")
    assert Path("x.jpg").exists()
    assert list(other_file_system.iterdir()) == []


KILLED = """
import os, signal, sys
from tests.results.sort import test_sort
test_sort.kill_at_every_step(sys.argv[1], sys.argv[2], sys.argv[3])
"""


def kill_at_every_step(mode: Mode, into: str, cure: str) -> None:
    """Sort in processes that are killed before the first, the second ... change of the disk; then resume or undo."""
    step, killed = 0, True
    while killed:
        os.mkdir(f"{step}")
        os.chdir(f"{step}")
        paths = [image(f"{name}/x.jpg", content) for name, content in zip("abcd", "1213", strict=True)]
        rows = [row(path, label) for path, label in zip(paths, ["dog", "dog", "cat", "dog"], strict=True)]
        before, folder = tree(), os.path.join(into or os.getcwd(), f"sorted-{step}")
        killed = killed_at(step, partial(sort, rows, mode, into=folder), fsync=True)
        assert set(contents() + contents(folder)) == {b"1", b"2", b"3"}, step
        if cure == "resume":
            assert {outcome.done for outcome in sort(rows, mode, into=folder)} <= {"done", "there", "moved"}, step
            files = {path: what for path, what in tree(folder).items() if what and not path.endswith(JOURNAL_NAME)}
            assert len(files) == 4, (step, files)
            assert mode != "move" or sorted(contents() if not into else contents() + contents(folder)) == WANTED, step
        if os.path.exists(f"{folder}/{JOURNAL_NAME}"):
            if killed_at(step, partial(undo, folder), fsync=True) and os.path.exists(f"{folder}/{JOURNAL_NAME}"):
                assert set(undo(folder)) <= {None}, step
            assert not os.path.exists(folder) or os.listdir(folder) == [], step
        assert {path: what for path, what in tree().items() if not path.startswith("sorted")} == before, step
        os.chdir("..")
        step += 1
    print(step)


WANTED = [b"1", b"1", b"2", b"3"]


@pytest.mark.parametrize("cure", ["resume", "undo"])
@pytest.mark.parametrize("mode", ["copy", "move", "move across file systems", "symlink", "hardlink"])
def test_killed_at_every_step_nothing_is_lost(mode: str, cure: str, here: Path, request: pytest.FixtureRequest) -> None:
    into = str(request.getfixturevalue("other_file_system")) if "across" in mode else ""
    assert count_kills(KILLED, mode.split()[0], into, cure, timeout=120) > 15, "it was killed at so many places"


@pytest.mark.slow
def test_a_thousand_collisions_and_fifty_kills_lose_nothing(here: Path) -> None:
    rows = [row(image(f"photos/{number}/img.jpg", os.urandom(2000))) for number in range(1000)]
    write_rows("labels.csv", rows)
    before, generator, kills = tree("photos"), random.Random(0), 0
    wanted = sorted(Path(one.path).read_bytes() for one in rows)

    def killed(*arguments: str) -> int:
        command = [sys.executable, "-m", "dinoclassify", "sort", *arguments, "-q"]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            return process.wait(timeout=0.12 + generator.random() * 0.25)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    while kills < 50:
        moved = killed("labels.csv", "--into", "sorted", "--mode", "move", "--resume")
        kills += moved != 0
        assert contents(".") == wanted, "each image is there exactly once"
        if Path(f"sorted/{JOURNAL_NAME}").exists() and generator.random() < 0.4:
            kills += killed("--undo", "sorted") != 0
            assert contents(".") == wanted
    assert run(["sort", "labels.csv", "--into", "sorted", "--mode", "move", "--resume", "-q"]) == 0
    assert contents("sorted") == wanted
    assert run(["sort", "--undo", "sorted", "-q"]) == 0
    assert tree("photos") == before
    # The folder itself stays where a run was killed before its journal stood, or an undo after it was gone.
    assert not Path("sorted").exists() or os.listdir("sorted") == []
