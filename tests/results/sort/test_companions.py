"""`sort --with-companions`: what belongs to an image goes along with it, under its name, and comes back with it."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from dinoclassify.cli import run
from dinoclassify.results.companions import companion_finder, count_shots, together
from dinoclassify.results.image_file import current_file
from dinoclassify.results.sort.journal import JOURNAL_NAME
from dinoclassify.results.sort.layout import parse_layout
from dinoclassify.results.sort.plans import SortResult
from dinoclassify.results.sort.sort import SortedFolder, make_folder
from dinoclassify.results.sort.targets import SortOptions, candidate_targets
from dinoclassify.results.sort.transfer import TRANSFERS, Mode
from dinoclassify.types.prediction import Failure, Label, Prediction
from tests.helpers.crash import count_kills, killed_at
from tests.results.sort.test_sort import MODES, contents, here, image, other_file_system, row, tree, undo, write_rows

__all__ = ["here", "other_file_system"]  # fixtures


def sort(
    rows: Sequence[Prediction], mode: Mode = "copy", layout: str = "{label}/{name}", into: str = "sorted"
) -> list[SortResult]:
    folder = SortedFolder(into, mode, new_folders=make_folder(into), resume=True)
    rules = SortOptions(parse_layout(layout), with_companions=True)
    return list(folder.sort(rows, rules, batch=3, shots=count_shots(rows, rules.find)))


def files(folder: str = "sorted") -> dict[str, str]:
    """Path below the folder -> content."""
    found = (path for path in Path(folder).rglob("*") if path.is_file() and path.name != JOURNAL_NAME)
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(found)}


def shot(folder: str) -> dict[str, str]:
    """A RAW with its JPEG and what programs have put beside them; and other files."""
    names = ["x.CR2", "x.JPG", "x.xmp", "x.CR2.xmp", "x.JPG.xmp", "x.AAE", "x.wav", "x.jpg.json", "y.xmp", "x.pdf"]
    return {name: Path(image(f"{folder}/{name}")).read_text() for name in names}


ALONG = ["x.AAE", "x.CR2", "x.CR2.xmp", "x.JPG", "x.JPG.xmp", "x.wav", "x.xmp"]


@pytest.mark.parametrize("mode", MODES)
def test_a_shot_goes_with_its_first_row_and_comes_back(
    mode: Mode, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shot("a")
    before = tree()
    write_rows("labels.csv", [row("a/x.CR2", "dog"), row("a/x.JPG", "cat")])
    command = ["sort", "labels.csv", "--into", "sorted", "--mode", mode, "--with-companions"]
    assert run([*command, "--dry-run"]) == 0
    out, err = capsys.readouterr()
    assert err == "dinoclassify: would do: 1 {}, 6 companions, 1 row of companions -> sorted\n".format(
        done := {"copy": "copied", "move": "moved"}.get(mode, "linked")
    )
    assert sorted(out.splitlines()) == sorted(f"{mode} a/{name} -> sorted/dog/{name}" for name in ALONG)
    assert run(command) == 0
    assert f"1 {done}, 6 companions, 1 row of companions -> sorted; --undo" in capsys.readouterr().err
    assert files() == {f"dog/{name}": f"a/{name}" for name in ALONG}
    assert sorted(os.listdir("a")) == (
        ["x.jpg.json", "x.pdf", "y.xmp"] if mode == "move" else sorted([*ALONG, "x.jpg.json", "x.pdf", "y.xmp"])
    )
    assert run(command) == 0
    again = "2 moved before" if mode == "move" else "1 there already, 1 row of companions"
    assert capsys.readouterr().err == f"dinoclassify: {again} -> sorted\n"
    assert run(["sort", "--undo", "sorted"]) == 0
    assert capsys.readouterr().err == "dinoclassify: 7 taken back\n"
    os.unlink("labels.csv")
    assert tree() == before


def test_companions_are_called_like_their_image_whatever_that_is_called(here: Path) -> None:
    for folder in "ab":
        shot(folder)
    sort([row("a/x.JPG"), row("b/x.JPG"), row("b/x.CR2")], "move", "{label}/{stem} {score}{suffix}")
    digest = hashlib.sha256(b"b/x.JPG").hexdigest()[:8]
    first = {f"dog/x 0.9000{name[1:]}": f"a/{name}" for name in ALONG}
    assert files() == first | {f"dog/x 0.9000-{digest}{name[1:]}": f"b/{name}" for name in ALONG}
    assert set(undo()) == {None}


def test_a_name_is_free_only_if_it_is_for_all(here: Path) -> None:
    image("a/x.jpg")
    image("a/x.xmp")
    image("sorted/dog/x.xmp", "of another")
    digest = hashlib.sha256(b"a/x.jpg").hexdigest()[:8]
    (outcome,) = sort([row("a/x.jpg")], "move")
    assert (outcome.done, outcome.companions) == ("done", (("x.xmp", f"dog/x-{digest}.xmp"),))
    assert files() == {"dog/x.xmp": "of another", f"dog/x-{digest}.jpg": "a/x.jpg", f"dog/x-{digest}.xmp": "a/x.xmp"}


def test_images_of_one_stem_without_a_raw_are_no_shot(here: Path) -> None:
    for name in ("x.jpg", "x.png", "x.jpg.xmp", "x.png.xmp"):
        image(f"a/{name}")
    sort([row("a/x.jpg", "dog"), row("a/x.png", "cat")], "move")
    assert list(files()) == ["cat/x.png", "cat/x.png.xmp", "dog/x.jpg", "dog/x.jpg.xmp"]


def test_a_sidecar_of_two_images_stays_and_is_reported_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("x.jpg", "x.png", "x.xmp", "y.jpg", "y.xmp"):
        image(f"a/{name}")
    write_rows("labels.csv", [row("a/x.jpg", "dog"), row("a/x.png", "cat"), row("a/y.jpg", "cat")])
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


def test_a_sidecar_of_two_images_stays_where_one_was_moved_before_a_kill(here: Path) -> None:
    for name in ("x.jpg", "x.png", "x.xmp"):
        image(f"a/{name}")
    rows = [row("a/x.jpg", "dog"), row("a/x.png", "cat")]
    assert [outcome.done for outcome in sort(rows, "move")] == ["done", "shared", "done"]
    without_end()
    os.rename("sorted/cat/x.png", "a/x.png")
    assert [outcome.done for outcome in sort(rows, "move")] == ["moved", "done", "shared"]
    assert files("a") == {"x.xmp": "a/x.xmp"}


def failed_row(path: str) -> Prediction:
    return replace(row(path), status="failed", top=(), failure=Failure("truncated", "it ends"))


@pytest.mark.parametrize("is_stdin", [False, True])
@pytest.mark.parametrize("mode", ["copy", "move"])
def test_a_failed_raw_waits_for_its_jpeg(mode: Mode, is_stdin: bool, here: Path) -> None:
    for name in ("x.cr2", "x.jpg", "y.cr2"):
        image(f"a/{name}")
    folder = SortedFolder("sorted", mode, new_folders=make_folder("sorted"))
    rules = SortOptions(parse_layout("{label}/{name}"), failed_to="failed", with_companions=True)
    rows = [failed_row("a/x.cr2"), row("a/x.jpg"), failed_row("a/y.cr2")]
    shots = None if is_stdin else count_shots(rows, rules.find)
    outcomes = [outcome.done for outcome in folder.sort(rows, rules, shots=shots)]
    assert outcomes == (["failed", "done", "done"] if is_stdin else ["done", "along", "done"])
    assert list(files()) == ["dog/x.cr2", "dog/x.jpg", "failed/y.cr2"]


def test_a_shot_that_failed_goes_to_the_failed_ones(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whether all its rows did, or the one that it has; not if one has a label and no place."""
    for name in ("a/x.cr2", "a/x.jpg", "b/x.jpg", "b/x.cr2", "a/z.cr2", "a/z.jpg", "y.jpg"):
        image(name)
    rows = [failed_row(path) for path in ("a/x.jpg", "b/x.jpg", "a/z.cr2", "y.jpg", "a/x.cr2")]
    write_rows("labels.csv", [*rows, row("a/z.jpg", score=0.1)])
    command = ["sort", "labels.csv", "--into", "sorted", "--mode", "move", "--min-score", "0.5", "--failed-to", "bad"]
    assert run([*command, "--with-companions"]) == 0
    told = "3 moved, 2 companions, 1 row of companions, 1 uncertain left alone, 1 failed left alone -> sorted"
    assert told in capsys.readouterr().err
    assert sorted(files().values()) == ["a/x.cr2", "a/x.jpg", "b/x.cr2", "b/x.jpg", "y.jpg"]
    assert {Path(path).parent.name for path in files()} == {"bad"}


def test_a_failed_row_does_not_take_the_place_of_one_that_could_not_go(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("x.cr2", "x.jpg"):
        image(f"a/{name}")

    def refuse(*_: str) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("dinoclassify.results.sort.executor.TRANSFERS", {"move": refuse})
    rules = SortOptions(parse_layout("{label}/{name}"), failed_to="failed", with_companions=True)
    rows = [failed_row("a/x.cr2"), row("a/x.jpg")]
    folder = SortedFolder("sorted", "move", new_folders=make_folder("sorted"))
    outcomes = folder.sort(rows, rules, shots=count_shots(rows, rules.find))
    assert [outcome.done for outcome in outcomes] == ["error", "failed"]


@pytest.mark.parametrize("mode", ["copy", "move"])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("between", [0, 150])
def test_a_shot_of_which_an_image_has_changed_stays(
    between: int, order: tuple[int, int], mode: Mode, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("x.jpg", "x.cr2", "x.xmp"):
        image(f"a/{name}")
    shot = [row("a/x.jpg"), row("a/x.cr2")]
    others = [row(image(f"b/{number}.jpg")) for number in range(between)]
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


def test_rows_of_a_shot_come_together_and_none_is_lost(here: Path) -> None:
    names = ["x.jpg", "y.jpg", "x.cr2", "./y.cr2", "z.jpg"]
    rows = [row(image(name)) for name in names]
    counts = count_shots(rows, current_file)
    assert [[one.path for one in few] for few in together(rows, counts, current_file)] == [
        ["x.jpg", "x.cr2"],
        ["y.jpg", "./y.cr2"],
        ["z.jpg"],
    ]
    assert [len(few) for few in together(rows[:2], counts, current_file)] == [1, 1], "others have gone since"
    assert [len(few) for few in together(rows, None, current_file)] == [1] * 5


def test_places_by_rank_each_have_the_companions(here: Path) -> None:
    shot("a")
    sort([row("a/x.JPG", "dog", 0.9, 1, Label("cat", 2, 0.1)), row("a/x.CR2", "cat")], "hardlink", "{label}/{name}")
    assert len(files()) == 7
    sort(
        [row("a/x.JPG", "dog", 0.9, 1, Label("cat", 2, 0.1)), row("a/x.CR2", "cat")],
        "hardlink",
        "{rank} {label}/{name}",
    )
    assert len(files()) == 21


def test_companions_come_to_an_image_that_is_there_and_are_not_replaced(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image("a/x.jpg")
    sort([row("a/x.jpg")])
    image("a/x.xmp")
    write_rows("labels.csv", [row("a/x.jpg")])
    command = ["sort", "labels.csv", "--into", "sorted", "--with-companions"]
    assert run(command) == 0
    assert "1 companion, 1 there already -> sorted; --undo sorted" in capsys.readouterr().err
    assert files() == {"dog/x.jpg": "a/x.jpg", "dog/x.xmp": "a/x.xmp"}
    image("a/x.xmp", "rated")
    assert run(command) == 3
    assert capsys.readouterr().err == (
        f"dinoclassify: a/x.jpg has a companion x.xmp unlike {here}/sorted/dog/x.xmp, which stays\n"
        "dinoclassify: 1 there with other companions -> sorted\n"
    )
    assert files()["dog/x.xmp"] == "a/x.xmp"


def test_the_companions_of_an_image_that_stays_stay(here: Path) -> None:
    for folder in "ab":
        image(f"{folder}/x.jpg", "same")
        image(f"{folder}/x.xmp")
    outcomes = sort([row("a/x.jpg"), row("b/x.jpg")], "move")
    assert [outcome.done for outcome in outcomes] == ["done", "there"]
    assert files("b") == {"x.jpg": "same", "x.xmp": "b/x.xmp"}
    outcomes = sort([row("b/x.jpg")], "copy")
    assert [outcome.done for outcome in outcomes] == ["differs"]


@pytest.mark.parametrize("wrong", ["x.AAE", "x.CR2", "x.JPG"])
@pytest.mark.parametrize("mode", ["copy", "move", "hardlink"])
def test_a_shot_of_which_one_file_cannot_go_stays_whole_and_the_next_row_tries(
    mode: Mode, wrong: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shot("a")
    image("a/z.jpg")
    before = tree()
    rows = [row("a/x.JPG", "dog"), row("a/x.CR2", "cat"), row("a/z.jpg", "dog")]

    def refuse(source: str, target: str, made: str) -> None:
        if source.endswith(wrong):
            raise OSError(5, "Input/output error")
        TRANSFERS[mode](source, target, made)

    with monkeypatch.context() as patch:
        patch.setattr("dinoclassify.results.sort.executor.TRANSFERS", {mode: refuse})
        first, second, third = sort(rows, mode)
    of = "" if wrong == "x.JPG" else f"is left alone: its companion {wrong} "
    assert (first.done, first.why) == ("error", f"{of}cannot be put there: Input/output error")
    assert (second.done, third.done) == ("error", "done")
    assert list(files()) == ["dog/z.jpg"]
    assert [outcome.done for outcome in sort(rows, mode)] == ["done", "along", "moved" if mode == "move" else "there"]
    assert set(undo()) == {None}
    assert tree() == before


def test_a_companion_that_changes_just_now_keeps_its_image(here: Path) -> None:
    image("a/x.jpg")
    image("a/x.xmp")
    folder = SortedFolder("sorted", "move", new_folders=make_folder("sorted"))
    rows = [row(image("b.jpg")), row("a/x.jpg")]
    outcomes = folder.sort(rows, SortOptions(parse_layout("{label}/{name}"), with_companions=True))
    next(outcomes)
    image("a/x.xmp", "edited")
    outcome = next(outcomes)
    assert (outcome.done, outcome.why) == ("changed", "is left alone: its companion x.xmp has changed just now")
    assert files("a") == {"x.jpg": "a/x.jpg", "x.xmp": "edited"}


@pytest.mark.parametrize("mode", ["copy", "move"])
def test_somebody_who_takes_the_name_of_a_companion_in_between(
    mode: Mode, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shot("a")
    before, real = tree(), TRANSFERS[mode]

    def late(source: str, target: str, made: str) -> None:
        if target.endswith("dog/x.wav"):
            image(target, "of another")
        real(source, target, made)

    monkeypatch.setattr("dinoclassify.results.sort.executor.TRANSFERS", {mode: late})
    (outcome,) = sort([row("a/x.JPG")], mode)
    digest = hashlib.sha256(b"a/x.JPG").hexdigest()[:8]
    assert outcome.done == "done"
    assert files() == {"dog/x.wav": "of another"} | {f"dog/x-{digest}{name[1:]}": f"a/{name}" for name in ALONG}
    os.unlink("sorted/dog/x.wav")
    assert set(undo()) == {None}
    assert tree() == before


def test_two_companions_that_a_file_system_takes_for_one_end_in_an_error(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("x.jpg", "x.xmp", "x.XMP"):
        image(f"a/{name}")

    def blind(source: str, target: str, made: str) -> None:
        if target.endswith(".xmp") and os.path.exists(target.replace(".xmp", ".XMP")):
            raise FileExistsError(17, "File exists", target)
        TRANSFERS["move"](source, target, made)

    monkeypatch.setattr("dinoclassify.results.sort.executor.TRANSFERS", {"move": blind})
    (outcome,) = sort([row("a/x.jpg")], "move")
    assert (outcome.done, "its companion x.xmp cannot be put there: File exists" in outcome.why) == ("error", True)
    assert len(files("a")) == 3


def test_a_folder_that_cannot_be_listed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("dinoclassify.results.companions.os.scandir", refuse)
    (outcome,) = sort([row(image("a/x.jpg"))], "move")
    assert (outcome.done, outcome.why) == ("error", "cannot be read: Permission denied")


def test_links_are_companions_but_where_they_would_be_moved(here: Path) -> None:
    image("a/x.jpg")
    os.symlink(image("y.xmp"), "a/x.xmp")
    os.unlink("a/x.xmp")
    os.symlink("../y.xmp", "a/x.xmp")
    assert companion_finder()("a/x.jpg").names == ["x.xmp"]
    assert companion_finder({})("a/x.jpg").names == []


def test_a_folder_is_listed_once(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row(image(f"a/{number}.jpg")) for number in range(50)]
    listed: list[str] = []
    real = os.scandir

    def listing(path: str) -> Iterator[os.DirEntry[str]]:
        listed.append(path)
        return real(path)

    monkeypatch.setattr("dinoclassify.results.companions.os.scandir", listing)
    sort(rows, "move")
    assert len(listed) == 1


def test_the_longest_names_stay_paired(here: Path) -> None:
    stem = "é" * 121  # 242 bytes
    (place, others), *more = candidate_targets(
        f"dog/{stem}.jpg", image(f"{stem}.jpg"), [f"{stem}.jpg.xmp", f"{stem}.cr2"]
    )
    assert (place, others) == (f"dog/{stem}.jpg", [f"dog/{stem}.jpg.xmp", f"dog/{stem}.cr2"])
    assert len(more) == 3
    for place, others in more:
        assert others == [f"{place}.xmp", place.replace(".jpg", ".cr2")]
        assert len(os.fsencode(others[0])) <= 255 + len("dog/")


def without_end() -> None:
    """The journal as a kill leaves it before the run has come to its end."""
    journal = Path(f"sorted/{JOURNAL_NAME}")
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(line for line in lines if b'"event": "end"' not in line))


def test_resume_takes_no_companion_out_of_the_sorted_tree(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its image has gone along, and has another name there since."""
    for name in ("1.jpg", "1.cr2", "2.jpg", "2.xmp"):
        image(f"p/{name}")
    write_rows("labels.csv", [row("p/1.jpg"), row("p/2.jpg")])
    command = ["sort", "labels.csv", "--into", "sorted", "--mode", "move", "--with-companions"]
    assert run(command) == 0
    without_end()
    os.rename("sorted/dog/1.jpg", "sorted/best.jpg")
    capsys.readouterr()
    assert run([*command, "--resume"]) == 0
    assert capsys.readouterr().err == "dinoclassify: 2 moved before -> sorted\n"
    assert files("p") == {}
    assert files() == {name: f"p/{name[-5:]}" for name in ("dog/1.cr2", "dog/2.jpg", "dog/2.xmp")} | {
        "best.jpg": "p/1.jpg"
    }


def test_resume_says_what_it_takes_back(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image("p/1.jpg")
    image("p/1.xmp")
    write_rows("labels.csv", [row("p/1.jpg")])
    command = ["sort", "labels.csv", "--into", "sorted", "--mode", "move", "--with-companions"]
    assert run(command) == 0
    without_end()
    os.rename("sorted/dog/1.jpg", "p/1.jpg")
    write_rows("labels.csv", [])
    capsys.readouterr()
    assert run([*command, "--resume"]) == 0
    told = f"dinoclassify: {here}/p/1.xmp is taken back to its image, at which the run was stopped\n"
    assert capsys.readouterr().err == f"{told}dinoclassify: nothing to do -> sorted\n"
    assert files("p") == {"1.jpg": "p/1.jpg", "1.xmp": "p/1.xmp"}


KILLED = """
import sys
from tests.results.sort import test_companions
test_companions.kill_at_every_step(*sys.argv[1:])
"""
LABELLED = {"a/x.cr2": "dog", "a/x.jpg": "cat", "b/x.jpg": "dog"}
SHOTS = [*LABELLED, "a/x.xmp", "a/x.jpg.xmp", "b/x.xmp"]


def kill_at_every_step(mode: Mode, into: str, cure: str) -> None:
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
        rows = [row(path, label) for path, label in LABELLED.items()]
        before, folder = tree(), os.path.join(into or os.getcwd(), f"sorted-{step}")
        killed = killed_at(step, partial(sort, rows, mode, into=folder), fsync=True)
        assert set(contents() + contents(folder)) == set(map(os.fsencode, SHOTS)), step
        if cure == "resume":
            killed_at(step % 13, partial(sort, rows, mode, into=folder), fsync=True)  # once more, on the way
            outcomes = sort(rows, mode, into=folder)
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
def test_killed_at_every_step_no_shot_is_torn(mode: str, cure: str, here: Path, request: pytest.FixtureRequest) -> None:
    into = str(request.getfixturevalue("other_file_system")) if "across" in mode else ""
    assert count_kills(KILLED, mode.split()[0], into, cure, timeout=200) > 15, "it was killed at so many places"
