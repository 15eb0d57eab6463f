"""`sort` that is killed at every moment: each image is still there once, and resume and undo finish the work."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from dinoclassify.cli import run
from dinoclassify.results.sort.journal import JOURNAL_NAME
from tests.helpers.crash import count_kills
from tests.helpers.images import image
from tests.helpers.rows import row_of, write_rows
from tests.helpers.sorting import contents, tree

IMAGES_KILLED = """
import sys
from tests.helpers.sort_kills import kill_images_at_every_step
kill_images_at_every_step(*sys.argv[1:])
"""


@pytest.mark.parametrize("cure", ["resume", "undo"])
@pytest.mark.parametrize("mode", ["copy", "move", "move across file systems", "symlink", "hardlink"])
def test_no_image_is_lost_by_a_kill_at_any_step(
    mode: str, cure: str, here: Path, request: pytest.FixtureRequest
) -> None:
    into = str(request.getfixturevalue("other_file_system")) if "across" in mode else ""
    assert count_kills(IMAGES_KILLED, mode.split()[0], into, cure, timeout=120) > 15, "it was killed at so many places"


@pytest.mark.slow
def test_no_image_is_lost_in_a_thousand_collisions_and_fifty_kills(here: Path) -> None:
    rows = [row_of(image(f"photos/{number}/img.jpg", os.urandom(2000))) for number in range(1000)]
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


SHOTS_KILLED = """
import sys
from tests.helpers.sort_kills import kill_shots_at_every_step
kill_shots_at_every_step(*sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("mode", "cure"),
    [
        ("move", "resume"),
        ("move", "undo"),
        pytest.param("copy", "resume", marks=pytest.mark.slow),
        pytest.param("copy", "undo", marks=pytest.mark.slow),
        pytest.param("move across file systems", "resume", marks=pytest.mark.slow),
        pytest.param("move across file systems", "undo", marks=pytest.mark.slow),
        pytest.param("symlink", "resume", marks=pytest.mark.slow),
        pytest.param("hardlink", "resume", marks=pytest.mark.slow),
    ],
)
def test_no_shot_is_torn_by_a_kill_at_any_step(
    mode: str, cure: str, here: Path, request: pytest.FixtureRequest
) -> None:
    into = str(request.getfixturevalue("other_file_system")) if "across" in mode else ""
    assert count_kills(SHOTS_KILLED, mode.split()[0], into, cure, timeout=200) > 15, "it was killed at so many places"
