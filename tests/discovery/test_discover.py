"""What counts as an input, and in which order inputs come."""

from pathlib import Path

import pytest

from dinoclassify.discovery.discover import discover
from dinoclassify.errors import UsageError
from dinoclassify.storage.remote import opening
from tests.helpers.image_tree import ALL, found


def test_named_paths_are_always_tried(tree: Path) -> None:
    names = ["photos/notes.txt", "photos/.hidden.jpg", "nowhere.jpg", "photos/b.jpg", "photos/b.jpg", "-rf.jpg"]
    assert found(*names) == names


def test_discovery_is_lazy(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = discover(["photos", "photos/**/*"])
    assert next(sources).path == ALL[0]
    (tree / "photos/z.jpg").touch()  # the folder being walked has been read, the ones after it have not
    assert "photos/z.jpg" not in [next(sources).path for _ in ALL[1:]]
    assert "photos/z.jpg" in [source.path for source in sources]


def test_the_command_line_may_name_any_scheme() -> None:
    fs, path = opening.filesystem("memory://scheme/a.jpg")
    fs.pipe_file(path, b"content")
    assert [source.content for source in discover(["memory://scheme/a.jpg"])] == [None]


def test_options_for_lists_need_a_list(tree: Path) -> None:
    with pytest.raises(UsageError, match=r"--column: there are no .parquet or .arrow tables in photos"):
        next(discover(["photos"], column="x"))
    with pytest.raises(UsageError, match=r"--column goes with tables, .parquet or .arrow, and with --files-from"):
        next(discover(["photos/a.jpg"], column="x"))
    with pytest.raises(UsageError, match="-0 goes with a list"):
        discover(["photos"], null=True)


def test_files_from_comes_after_the_paths(tree: Path) -> None:
    (tree / "list.txt").write_text("x.jpg")
    assert found("photos/b.jpg", files_from="list.txt") == ["photos/b.jpg", "x.jpg"]
