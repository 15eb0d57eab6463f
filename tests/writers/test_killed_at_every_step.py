"""Runs that are killed before each change of the disk, and resumed."""

import os
import random
import shutil
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from tests.helpers.crash import in_small_process, killed_at
from tests.helpers.outputs import (
    KINDS,
    PATHS,
    DiskStore,
    content,
    in_store,
    labels,
    leftovers,
    prepare,
    prepare_folder,
    rows,
    write_output,
)

pytestmark = pytest.mark.usefixtures("eleven_images")


QUICK = ("file.csv", "folder/")


@pytest.mark.parametrize("before_it", ["nothing", "an output", "the same output"])
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind in QUICK else pytest.mark.slow) for kind in KINDS]
)
def test_a_run_killed_before_any_change_of_the_disk_and_resumed_writes_the_same_output(
    tmp_path: Path, kind: str, before_it: str
) -> None:
    in_small_process(kill_before_any_change, tmp_path, kind, before_it)


def kill_before_any_change(tmp_path: Path, kind: str, before_it: str) -> None:
    update, changes = before_it != "nothing", before_it != "the same output"
    here, before, seed = tmp_path / "here", tmp_path / "before", random.Random(0)
    here.mkdir()
    prepare_folder(here, pytest.MonkeyPatch())
    name = in_store(kind)
    inputs = prepare(name, update=update, changes=changes)
    shutil.copytree(here, before)
    for step in count():
        killed = killed_at(step, partial(write_output, name, inputs, resume=update, prune=update), DiskStore)
        killed_at(seed.randrange(25), partial(write_output, name, inputs, resume=True, prune=update), DiskStore)
        write_output(name, inputs, resume=True, prune=update)
        found = content(name)
        assert leftovers() == [], step
        if step == 0:
            expected = found
            assert [row.path for row in rows(name)] == ([*PATHS[6:8], *inputs] if update and changes else PATHS)
            assert labels(name)["2.jpg"] == ("old 1" if update and changes else "fish 1")
        assert found == expected, step
        if not killed:
            break
        os.chdir(tmp_path)
        shutil.rmtree(here)
        shutil.copytree(before, here)
        os.chdir(here)
    assert step > (10 if changes else 5)
