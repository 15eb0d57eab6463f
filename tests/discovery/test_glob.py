"""Patterns: what they match, and what cannot be listed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.image_tree import ALL, found


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("photos/*.jpg", ["photos/[1].jpg", "photos/b.jpg"]),
        ("photos/**/*.jpg", ["photos/[1].jpg", "photos/b.jpg", "photos/2024/raw/e.jpg"]),
        ("photos/**", ["photos/[1].jpg", "photos/a.PNG", "photos/b.jpg", "photos/notes.txt", *ALL[:2]]),
        ("**/raw/?.jpg", ["photos/2024/raw/e.jpg"]),
        ("photos/*/raw/e.jpg", ["photos/2024/raw/e.jpg"]),
        ("photos/20*", ["photos/2024/d.webp", "photos/2024/raw/e.jpg"]),
        ("photos/2024/*/", ["photos/2024/raw/e.jpg"]),
        ("photos/[ab].*", ["photos/a.PNG", "photos/b.jpg"]),
        ("photos/[!ab]*.jpg", ["photos/[1].jpg"]),
        ("photos/[^ab]*.jpg", ["photos/[1].jpg"]),
        ("photos/**/**/*.jpg", ["photos/[1].jpg", "photos/b.jpg", "photos/2024/raw/e.jpg"]),
        ("photos/.h*", ["photos/.hidden.jpg"]),
        ("./photos/b*", ["./photos/b.jpg"]),
    ],
)
def test_globs_match_as_in_a_shell(tree: Path, pattern: str, expected: list[str]) -> None:
    assert sorted(found(pattern)) == sorted(expected)
    assert found(f"{tree}/{pattern}") == [f"{tree}/{path}" for path in found(pattern)]


def test_a_file_named_like_a_glob_is_that_file(tree: Path) -> None:
    assert found("photos/[1].jpg") == ["photos/[1].jpg"]


def test_a_glob_without_matches_is_reported(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert found("photos/*.heic") == []
    assert caplog.messages == ["nothing matches photos/*.heic"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can step down to a user who may not read")
def test_an_unreadable_folder_in_a_glob_is_an_input_of_its_own(shown_tree: Path) -> None:
    (shown_tree / "photos/2024").chmod(0)
    below = ["photos/[1].jpg", "photos/b.jpg"]
    expected = {
        "photos/**/*.jpg": [*below, "photos/2024"],
        "photos/**/raw/**/*.jpg": ["photos/2024"],
        "*/*/*": ["photos/2024"],
        "photos/2024/raw/*.jpg": ["photos/2024/raw"],  # whether it is there cannot be seen
        "photos/*": ["photos/2024", "photos/[1].jpg", "photos/a.PNG", "photos/b.jpg", "photos/notes.txt"],
        "photos/*.jpg": below,
        "photos/*/d.webp": ["photos/2024/d.webp"],  # lists only what may be listed, and cannot see this
    }
    code = (
        "import sys, os; from dinoclassify.discovery.filters import Filters;"
        "from tests.helpers.image_tree import found; os.setuid(65534);"
        "print({pattern: found(pattern) for pattern in sys.argv[1:]},"
        "found('photos/**/*.jpg', filters=Filters(exclude=['2024/'])))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, *expected]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    (shown_tree / "photos/2024").chmod(0o755)
    assert (done.stdout, done.stderr) == (f"{expected} {below}\n", "")
