"""Sort in processes that are killed before every change of the disk, and check that nothing is lost."""

import hashlib
import os
from functools import partial

from dinoclassify.results.sort.journal import JOURNAL_NAME
from dinoclassify.results.sort.transfer import Mode
from tests.helpers.crash import killed_at
from tests.helpers.images import image
from tests.helpers.rows import row_of
from tests.helpers.sorting import contents, files, sort, sort_with_companions, tree, undo


def kill_images_at_every_step(mode: Mode, into: str, cure: str) -> None:
    """Sort in processes that are killed before the first, the second ... change of the disk; then resume or undo."""
    step, killed = 0, True
    while killed:
        os.mkdir(f"{step}")
        os.chdir(f"{step}")
        paths = [image(f"{name}/x.jpg", content) for name, content in zip("abcd", "1213", strict=True)]
        rows = [row_of(path, label) for path, label in zip(paths, ["dog", "dog", "cat", "dog"], strict=True)]
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


LABELLED = {"a/x.cr2": "dog", "a/x.jpg": "cat", "b/x.jpg": "dog"}


SHOTS = [*LABELLED, "a/x.xmp", "a/x.jpg.xmp", "b/x.xmp"]


def kill_shots_at_every_step(mode: Mode, into: str, cure: str) -> None:
    """Sort in processes that are killed before the first, the second ... change of the disk; then resume or undo."""
    digest = hashlib.sha256(b"b/x.jpg").hexdigest()[:8]
    wanted = {f"dog/x{path[3:]}": path for path in SHOTS if path.startswith("a")}
    wanted |= {f"dog/x-{digest}{path[3:]}": path for path in SHOTS if path.startswith("b")}
    step, killed = 0, True
    while killed:
        os.mkdir(f"{step}")
        os.chdir(f"{step}")
        for path in SHOTS:
            image(path)
        rows = [row_of(path, label) for path, label in LABELLED.items()]
        before, folder = tree(), os.path.join(into or os.getcwd(), f"sorted-{step}")
        killed = killed_at(step, partial(sort_with_companions, rows, mode, into=folder), fsync=True)
        assert set(contents() + contents(folder)) == set(map(os.fsencode, SHOTS)), step
        if cure == "resume":
            killed_at(
                step % 13, partial(sort_with_companions, rows, mode, into=folder), fsync=True
            )  # once more, on the way
            outcomes = sort_with_companions(rows, mode, into=folder)
            assert {outcome.done for outcome in outcomes} <= {"done", "there", "moved", "along"}, step
            assert files(folder) == wanted, step
            assert mode != "move" or sum(len(names) for *_, names in os.walk(".")) == (0 if into else 7), step
        if os.path.exists(f"{folder}/{JOURNAL_NAME}"):
            if killed_at(step, partial(undo, folder), fsync=True) and os.path.exists(f"{folder}/{JOURNAL_NAME}"):
                assert set(undo(folder)) <= {None}, step
            assert not os.path.exists(folder) or os.listdir(folder) == [], step
        assert {path: what for path, what in tree().items() if not path.startswith("sorted")} == before, step
        os.chdir("..")
        step += 1
    print(step)
