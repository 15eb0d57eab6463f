"""`sort --with-companions`: shots of which a file failed, changed, is shared or cannot be moved."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from dinoclassify.cli import run
from dinoclassify.results.companions import count_shots
from dinoclassify.results.sort.layout import parse_layout
from dinoclassify.results.sort.sort import SortedFolder, make_folder
from dinoclassify.results.sort.targets import SortOptions
from dinoclassify.results.sort.transfer import TRANSFERS, Mode
from dinoclassify.types.prediction import Failure, Prediction
from tests.helpers.images import image
from tests.helpers.rows import row_of, write_rows
from tests.helpers.sorting import ALONG, files, remove_end, shot, sort_with_companions, tree, undo


def test_sidecar_of_two_images_stays_and_is_reported_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("x.jpg", "x.png", "x.xmp", "y.jpg", "y.xmp"):
        image(f"a/{name}")
    write_rows("labels.csv", [row_of("a/x.jpg", "dog"), row_of("a/x.png", "cat"), row_of("a/y.jpg", "cat")])
    command = ["sort", "labels.csv", "--into", "sorted", "--with-companions"]
    assert run([*command, "--mode", "move"]) == 3
    told = "dinoclassify: a/x.xmp is called like x.jpg and x.png, and stays: call it x.jpg.xmp if it is of that\n"
    err = capsys.readouterr().err
    assert err.startswith(f"{told}dinoclassify: 3 moved, 1 compan")
    assert "1 companion of several images left alone -> sorted" in err
    assert list(files()) == ["cat/x.png", "cat/y.jpg", "cat/y.xmp", "dog/x.jpg"]
    assert files("a") == {"x.xmp": "a/x.xmp"}
    assert run(["sort", "--undo", "sorted"]) == 0
    assert run(command) == 0, "a copy gives it to both"
    assert list(files()) == ["cat/x.png", "cat/x.xmp", "cat/y.jpg", "cat/y.xmp", "dog/x.jpg", "dog/x.xmp"]


def test_sidecar_of_two_images_stays_after_a_kill_between_them(here: Path) -> None:
    for name in ("x.jpg", "x.png", "x.xmp"):
        image(f"a/{name}")
    rows = [row_of("a/x.jpg", "dog"), row_of("a/x.png", "cat")]
    assert [outcome.done for outcome in sort_with_companions(rows, "move")] == ["done", "shared", "done"]
    remove_end()
    os.rename("sorted/cat/x.png", "a/x.png")
    assert [outcome.done for outcome in sort_with_companions(rows, "move")] == ["moved", "done", "shared"]
    assert files("a") == {"x.xmp": "a/x.xmp"}


def failed_row(path: str) -> Prediction:
    return replace(row_of(path), status="failed", top=(), failure=Failure("truncated", "it ends"))


@pytest.mark.parametrize("is_stdin", [False, True])
@pytest.mark.parametrize("mode", ["copy", "move"])
def test_failed_raw_goes_along_with_its_jpeg(mode: Mode, is_stdin: bool, here: Path) -> None:
    for name in ("x.cr2", "x.jpg", "y.cr2"):
        image(f"a/{name}")
    folder = SortedFolder("sorted", mode, new_folders=make_folder("sorted"))
    rules = SortOptions(parse_layout("{label}/{name}"), failed_to="failed", with_companions=True)
    rows = [failed_row("a/x.cr2"), row_of("a/x.jpg"), failed_row("a/y.cr2")]
    shots = None if is_stdin else count_shots(rows, rules.find)
    outcomes = [outcome.done for outcome in folder.sort(rows, rules, shots=shots)]
    assert outcomes == (["failed", "done", "done"] if is_stdin else ["done", "along", "done"])
    assert list(files()) == ["dog/x.cr2", "dog/x.jpg", "failed/y.cr2"]


def test_shot_without_any_label_goes_to_the_failed_folder(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whether all its rows failed or its only one; but not if a row has a label that goes nowhere."""
    for name in ("a/x.cr2", "a/x.jpg", "b/x.jpg", "b/x.cr2", "a/z.cr2", "a/z.jpg", "y.jpg"):
        image(name)
    rows = [failed_row(path) for path in ("a/x.jpg", "b/x.jpg", "a/z.cr2", "y.jpg", "a/x.cr2")]
    write_rows("labels.csv", [*rows, row_of("a/z.jpg", score=0.1)])
    command = ["sort", "labels.csv", "--into", "sorted", "--mode", "move", "--min-score", "0.5", "--failed-to", "bad"]
    assert run([*command, "--with-companions"]) == 0
    told = "3 moved, 2 companions, 1 row of companions, 1 uncertain left alone, 1 without a label left alone -> sorted"
    assert told in capsys.readouterr().err
    assert sorted(files().values()) == ["a/x.cr2", "a/x.jpg", "b/x.cr2", "b/x.jpg", "y.jpg"]
    assert {Path(path).parent.name for path in files()} == {"bad"}


def test_failed_row_does_not_replace_one_that_could_not_be_moved(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("x.cr2", "x.jpg"):
        image(f"a/{name}")

    def refuse(*_: str) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("dinoclassify.results.sort.executor.TRANSFERS", {"move": refuse})
    rules = SortOptions(parse_layout("{label}/{name}"), failed_to="failed", with_companions=True)
    rows = [failed_row("a/x.cr2"), row_of("a/x.jpg")]
    folder = SortedFolder("sorted", "move", new_folders=make_folder("sorted"))
    outcomes = folder.sort(rows, rules, shots=count_shots(rows, rules.find))
    assert [outcome.done for outcome in outcomes] == ["error", "failed"]


@pytest.mark.parametrize("mode", ["copy", "move"])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("between", [0, 150])
def test_shot_stays_if_one_of_its_images_changed(
    between: int, order: tuple[int, int], mode: Mode, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("x.jpg", "x.cr2", "x.xmp"):
        image(f"a/{name}")
    shot = [row_of("a/x.jpg"), row_of("a/x.cr2")]
    others = [row_of(image(f"b/{number}.jpg")) for number in range(between)]
    write_rows("labels.csv", [shot[order[0]], *others, shot[order[1]]])
    image("a/x.jpg", "edited since")
    before = files("a")
    assert run(["sort", "labels.csv", "--into", "sorted", "--mode", mode, "--with-companions"]) == 3
    err = capsys.readouterr().err
    assert "dinoclassify: a/x.jpg has changed since it was labelled\n" in err
    told = "dinoclassify: a/x.cr2 is left alone: its companion x.jpg has changed since it was labelled\n"
    assert (told in err, "2 changed -> sorted" in err) == (True, True)
    assert files("a") == before
    assert len(files()) == between


@pytest.mark.parametrize("wrong", ["x.AAE", "x.CR2", "x.JPG"])
@pytest.mark.parametrize("mode", ["copy", "move", "hardlink"])
def test_shot_stays_whole_if_one_of_its_files_cannot_be_moved(
    mode: Mode, wrong: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shot("a")
    image("a/z.jpg")
    before = tree()
    rows = [row_of("a/x.JPG", "dog"), row_of("a/x.CR2", "cat"), row_of("a/z.jpg", "dog")]

    def refuse(source: str, target: str, made: str) -> None:
        if source.endswith(wrong):
            raise OSError(5, "Input/output error")
        TRANSFERS[mode](source, target, made)

    with monkeypatch.context() as patch:
        patch.setattr("dinoclassify.results.sort.executor.TRANSFERS", {mode: refuse})
        first, second, third = sort_with_companions(rows, mode)
    of = "" if wrong == "x.JPG" else f"is left alone: its companion {wrong} "
    assert (first.done, first.why) == ("error", f"{of}cannot be put there: Input/output error")
    assert (second.done, third.done) == ("error", "done")
    assert list(files()) == ["dog/z.jpg"]
    assert [outcome.done for outcome in sort_with_companions(rows, mode)] == [
        "done",
        "along",
        "moved" if mode == "move" else "there",
    ]
    assert set(undo()) == {None}
    assert tree() == before


def test_image_stays_if_its_companion_changes_during_the_run(here: Path) -> None:
    image("a/x.jpg")
    image("a/x.xmp")
    folder = SortedFolder("sorted", "move", new_folders=make_folder("sorted"))
    rows = [row_of(image("b.jpg")), row_of("a/x.jpg")]
    outcomes = folder.sort(rows, SortOptions(parse_layout("{label}/{name}"), with_companions=True))
    next(outcomes)
    image("a/x.xmp", "edited")
    outcome = next(outcomes)
    assert (outcome.done, outcome.why) == ("changed", "is left alone: its companion x.xmp has changed just now")
    assert files("a") == {"x.jpg": "a/x.jpg", "x.xmp": "edited"}


@pytest.mark.parametrize("mode", ["copy", "move"])
def test_companion_name_taken_by_another_program_just_before_the_transfer(
    mode: Mode, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shot("a")
    before, real = tree(), TRANSFERS[mode]

    def late(source: str, target: str, made: str) -> None:
        if target.endswith("dog/x.wav"):
            image(target, "of another")
        real(source, target, made)

    monkeypatch.setattr("dinoclassify.results.sort.executor.TRANSFERS", {mode: late})
    (outcome,) = sort_with_companions([row_of("a/x.JPG")], mode)
    digest = hashlib.sha256(b"a/x.JPG").hexdigest()[:8]
    assert outcome.done == "done"
    assert files() == {"dog/x.wav": "of another"} | {f"dog/x-{digest}{name[1:]}": f"a/{name}" for name in ALONG}
    os.unlink("sorted/dog/x.wav")
    assert set(undo()) == {None}
    assert tree() == before


def test_companions_that_differ_only_in_case_are_an_error_on_such_a_file_system(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("x.jpg", "x.xmp", "x.XMP"):
        image(f"a/{name}")

    def blind(source: str, target: str, made: str) -> None:
        if target.endswith(".xmp") and os.path.exists(target.replace(".xmp", ".XMP")):
            raise FileExistsError(17, "File exists", target)
        TRANSFERS["move"](source, target, made)

    monkeypatch.setattr("dinoclassify.results.sort.executor.TRANSFERS", {"move": blind})
    (outcome,) = sort_with_companions([row_of("a/x.jpg")], "move")
    assert (outcome.done, "its companion x.xmp cannot be put there: File exists" in outcome.why) == ("error", True)
    assert len(files("a")) == 3


def test_unlistable_folder_is_an_error(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("dinoclassify.results.companions.os.scandir", refuse)
    (outcome,) = sort_with_companions([row_of(image("a/x.jpg"))], "move")
    assert (outcome.done, outcome.why) == ("error", "cannot be read: Permission denied")
