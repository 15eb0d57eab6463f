"""The journal of `sort`: torn, void and damaged lines, and runs that were stopped."""

import json
import os
from pathlib import Path

import pytest

from dinoclassify.cli import run
from dinoclassify.results.sort.journal import JOURNAL_NAME, read_journal
from tests.helpers.images import image
from tests.helpers.rows import row_of
from tests.helpers.sorting import MADE, contents, sort, undo


def test_undo_after_a_kill_between_two_target_names(here: Path) -> None:
    sort([row_of(image("x.jpg", "ours"))], "move")
    path = Path(f"sorted/{JOURNAL_NAME}")
    entry = next(line for line in path.read_text().splitlines() if '"move"' in line)
    image("sorted/dog/other.jpg", "a stranger's")
    path.write_text(path.read_text().replace(entry, entry.replace("dog/x.jpg", "dog/other.jpg") + "\n" + entry))
    assert undo() == [None]
    assert contents() == [b"a stranger's", b"ours"]
    assert Path("x.jpg").exists()


def test_journal_with_a_torn_last_line_is_continued(here: Path) -> None:
    sort([row_of(image("x.jpg"))], "copy")
    whole = Path(f"sorted/{JOURNAL_NAME}").read_text()
    Path(f"sorted/{JOURNAL_NAME}").write_text(whole + '{"event": "copy", "sour')
    assert len(read_journal(f"sorted/{JOURNAL_NAME}").entries) == whole.count("\n")
    sort([row_of(image("y.jpg"))], "copy")
    assert Path(f"sorted/{JOURNAL_NAME}").read_text().startswith(whole)
    assert undo() == [None, None]


def test_void_cancels_only_its_own_entry(here: Path) -> None:
    sort([row_of(image("x.jpg", "first"))], "copy")
    path = Path(f"sorted/{JOURNAL_NAME}")
    first = next(json.loads(line) for line in path.read_text().splitlines() if '"copy"' in line)
    os.unlink("sorted/dog/x.jpg")
    sort([row_of("x.jpg")], "copy")
    with open(path, "a") as file:
        file.write(json.dumps(first | {"event": "void"}) + "\n")
    assert undo() == [None]
    assert not Path("sorted/dog/x.jpg").exists()


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
def test_invalid_journals_are_refused(line: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image("x.jpg")
    os.mkdir("sorted")
    Path(f"sorted/{JOURNAL_NAME}").write_text(line.replace("%s", MADE) + "\n")
    assert run(["sort", "--undo", "sorted"]) == 2
    assert "is not a journal of dinoclassify sort" in capsys.readouterr().err
    assert Path("x.jpg").exists()


def test_journal_removes_only_folders_inside_its_own(here: Path) -> None:
    (here / "empty").mkdir()
    (here / "sorted").mkdir()
    Path(f"sorted/{JOURNAL_NAME}").write_text(json.dumps({"event": "mkdir", "target": str(here / "empty")}) + "\n")
    assert undo() == []
    assert Path("empty").exists()


def test_undo_killed_before_it_deleted_its_journal(here: Path) -> None:
    sort([row_of(image("sorted/a.jpg"))], "move", "1/{name}")
    sort([row_of("sorted/1/a.jpg")], "move", "2/{name}")
    journal = Path(f"sorted/{JOURNAL_NAME}")
    entries = journal.read_bytes()
    assert undo() == [None, None]
    lines = [json.loads(line) for line in entries.splitlines()]
    undone = [line | {"event": "void"} for line in lines[::-1] if line["event"] == "move"]
    journal.write_bytes(entries + "".join(f"{json.dumps(line)}\n" for line in undone).encode())
    assert undo() == []
    assert contents() == [b"sorted/a.jpg"]


def test_resume_after_a_kill_with_a_file_at_the_label_folder(sorted_folder: Path) -> None:
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
    assert sort([row_of("x.jpg", "cat")], "move")[0].done == "done"
    assert undo() == [None]
    assert Path("x.jpg").exists()


def test_resume_does_not_complete_a_void_move(here: Path) -> None:
    """Another file of the same content has taken the name: the image must not be removed because of it."""
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
    assert [outcome.done for outcome in sort([row_of("x.jpg")], "move")] == ["there"]
    assert Path("x.jpg").exists()
