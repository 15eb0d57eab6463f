"""Folders: walked by name, to the bottom, and never in circles."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dinoclassify.discovery.filters import Filters
from tests.helpers.image_tree import ALL, found


def test_a_folder_is_walked_in_name_order_to_the_bottom(tree: Path) -> None:
    assert found("photos") == ALL


def test_the_folder_name_stays_as_it_was_typed(tree: Path) -> None:
    assert found("photos/") == ALL
    assert found("./photos/2024/") == ["./photos/2024/d.webp", "./photos/2024/raw/e.jpg"]
    assert found(str(tree / "photos/2024/raw")) == [str(tree / "photos/2024/raw/e.jpg")]
    assert "./photos/b.jpg" in found(".")


def test_hidden_files_are_found_only_on_request(tree: Path) -> None:
    hidden = set(found("photos", filters=Filters(hidden=True))) - set(ALL)
    assert hidden == {"photos/.hidden.jpg", "photos/.cache/c.jpg"}


def test_links_to_folders_are_followed_on_request_and_never_in_a_loop(
    tree: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tree / "photos/2024/loop").symlink_to(tree / "photos")
    (tree / "elsewhere").mkdir()
    (tree / "elsewhere/f.jpg").touch()
    (tree / "photos/more").symlink_to(tree / "elsewhere")
    (tree / "photos/link.jpg").symlink_to("b.jpg")
    (tree / "photos/broken.jpg").symlink_to("gone")
    (tree / "photos/folder.jpg").symlink_to(tree / "elsewhere")
    links = ["photos/broken.jpg", "photos/link.jpg"]
    assert found("photos") == sorted([*ALL, *links])
    followed = found("photos", filters=Filters(follow=True))
    assert followed == sorted([*ALL, *links, "photos/folder.jpg/f.jpg", "photos/more/f.jpg"])
    assert caplog.messages == ["photos/2024/loop links to a folder above itself and is not entered again"]
    assert found("photos/**/e.jpg") == ["photos/2024/raw/e.jpg"]


def test_a_link_to_itself_is_an_input(tree: Path) -> None:
    (tree / "photos/self.jpg").symlink_to("self.jpg")
    for follow in (False, True):
        assert found("photos", filters=Filters(follow=follow)) == sorted([*ALL, "photos/self.jpg"])
    assert found("photos/s*.jpg") == ["photos/self.jpg"]
    assert found("photos/s*.jpg/x") == []


def test_folders_may_be_nested_1200_deep(tree: Path) -> None:
    folders = ["/".join("d" * depth) for depth in range(1, 1200)]
    for folder in folders:
        os.mkdir(folder)
    deep = f"{folders[-1]}/x.jpg"
    open(deep, "w").close()
    walked, matched = found("d"), found("d/**/*.jpg")
    os.unlink(deep)
    for folder in reversed(folders):  # pytest's own cleaning does not reach that deep
        os.rmdir(folder)
    assert walked == matched == [deep]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can step down to a user who may not read")
def test_an_unreadable_folder_is_an_input_of_its_own(shown_tree: Path) -> None:
    (shown_tree / "photos/2024").chmod(0)
    code = (
        "import os, pathspec; from dinoclassify.discovery.discover import *; os.setuid(65534);"
        "print(*(s.path for s in discover(['photos'])))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.split() == ["photos/2024", *ALL[2:]]


def test_nothing_is_logged_on_a_plain_walk(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    found("photos", "photos/**/*.jpg")
    assert caplog.messages == []
