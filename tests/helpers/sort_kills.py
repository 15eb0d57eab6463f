"""Sort in processes that are killed before every change of the disk, and check that nothing is lost."""

import hashlib
import os
from collections.abc import Callable
from functools import partial

from dinoclassify.results.sort.journal import JOURNAL_NAME
from dinoclassify.results.sort.plans import SortResult
from dinoclassify.results.sort.transfer import Mode
from dinoclassify.types.prediction import Prediction
from tests.helpers.crash import killed_at
from tests.helpers.images import image
from tests.helpers.rows import row_of
from tests.helpers.sorting import contents, files, sort, sort_with_companions, tree, undo

Work = Callable[[], list[SortResult]]

WANTED = [b"1", b"1", b"2", b"3"]
LABELLED = {"a/x.cr2": "dog", "a/x.jpg": "cat", "b/x.jpg": "dog"}
SHOTS = [*LABELLED, "a/x.xmp", "a/x.jpg.xmp", "b/x.xmp"]


def kill_images_at_every_step(mode: Mode, into: str, cure: str) -> None:
    """Sort images of the same name, two of them with the same content; then resume or undo."""

    def make_rows() -> list[Prediction]:
        paths = [image(f"{name}/x.jpg", content) for name, content in zip("abcd", "1213", strict=True)]
        return [row_of(path, label) for path, label in zip(paths, ["dog", "dog", "cat", "dog"], strict=True)]

    def resume(work: Work, folder: str, step: int) -> None:
        assert {outcome.done for outcome in work()} <= {"done", "there", "moved"}, step
        there = {path: what for path, what in tree(folder).items() if what and not path.endswith(JOURNAL_NAME)}
        assert len(there) == 4, (step, there)
        assert mode != "move" or sorted(contents() if not into else contents() + contents(folder)) == WANTED, step

    _kill_at_every_step(make_rows, partial(sort, mode=mode), into, resume if cure == "resume" else None)


def kill_shots_at_every_step(mode: Mode, into: str, cure: str) -> None:
    """Sort images with their RAW and sidecars; then resume, or undo."""
    digest = hashlib.sha256(b"b/x.jpg").hexdigest()[:8]
    wanted = {f"dog/x{path[3:]}": path for path in SHOTS if path.startswith("a")}
    wanted |= {f"dog/x-{digest}{path[3:]}": path for path in SHOTS if path.startswith("b")}

    def make_rows() -> list[Prediction]:
        for path in SHOTS:
            image(path)
        return [row_of(path, label) for path, label in LABELLED.items()]

    def resume(work: Work, folder: str, step: int) -> None:
        killed_at(step % 13, work, fsync=True)  # once more, on the way
        assert {outcome.done for outcome in work()} <= {"done", "there", "moved", "along"}, step
        assert files(folder) == wanted, step
        assert mode != "move" or sum(len(names) for *_, names in os.walk(".")) == (0 if into else 7), step

    _kill_at_every_step(make_rows, partial(sort_with_companions, mode=mode), into, resume if cure == "resume" else None)


def _kill_at_every_step(
    make_rows: Callable[[], list[Prediction]],
    sort_rows: Callable[..., list[SortResult]],
    into: str,
    resume: Callable[[Work, str, int], None] | None,
) -> None:
    """Sort in processes that are killed before the first, the second ... change of the disk; prints how many were.

    ``resume`` finishes the work and checks it. In the end all is taken back, and is as before.
    """
    step, killed = 0, True
    while killed:
        os.mkdir(f"{step}")
        os.chdir(f"{step}")
        rows = make_rows()
        before, originals, folder = tree(), set(contents()), os.path.join(into or os.getcwd(), f"sorted-{step}")
        work = partial(sort_rows, rows, into=folder)
        killed = killed_at(step, work, fsync=True)
        assert set(contents() + contents(folder)) == originals, step
        if resume is not None:
            resume(work, folder, step)
        if os.path.exists(f"{folder}/{JOURNAL_NAME}"):
            if killed_at(step, partial(undo, folder), fsync=True) and os.path.exists(f"{folder}/{JOURNAL_NAME}"):
                assert set(undo(folder)) <= {None}, step
            assert not os.path.exists(folder) or os.listdir(folder) == [], step
        assert {path: what for path, what in tree().items() if not path.startswith("sorted")} == before, step
        os.chdir("..")
        step += 1
    print(step)
