"""`sort --with-companions`: what belongs to an image goes along with it, under its name, and comes back with it."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dinoclassify.cli import run
from dinoclassify.results.companions import companion_finder, count_shots, together
from dinoclassify.results.image_file import current_file
from dinoclassify.results.sort.targets import candidate_targets
from dinoclassify.results.sort.transfer import Mode
from dinoclassify.types.prediction import Label
from tests.helpers.images import image
from tests.helpers.rows import row_of, write_rows
from tests.helpers.sorting import ALONG, MODES, files, remove_end, shot, sort_with_companions, tree, undo


@pytest.mark.parametrize("mode", MODES)
def test_files_of_a_shot_follow_its_first_row_and_undo_returns_them(
    mode: Mode, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shot("a")
    before = tree()
    write_rows("labels.csv", [row_of("a/x.CR2", "dog"), row_of("a/x.JPG", "cat")])
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


def test_companions_take_the_new_name_of_their_image(here: Path) -> None:
    for folder in "ab":
        shot(folder)
    sort_with_companions(
        [row_of("a/x.JPG"), row_of("b/x.JPG"), row_of("b/x.CR2")], "move", "{label}/{stem} {score}{suffix}"
    )
    digest = hashlib.sha256(b"b/x.JPG").hexdigest()[:8]
    first = {f"dog/x 0.9000{name[1:]}": f"a/{name}" for name in ALONG}
    assert files() == first | {f"dog/x 0.9000-{digest}{name[1:]}": f"b/{name}" for name in ALONG}
    assert set(undo()) == {None}


def test_target_name_must_be_free_for_image_and_companions(here: Path) -> None:
    image("a/x.jpg")
    image("a/x.xmp")
    image("sorted/dog/x.xmp", "of another")
    digest = hashlib.sha256(b"a/x.jpg").hexdigest()[:8]
    (outcome,) = sort_with_companions([row_of("a/x.jpg")], "move")
    assert (outcome.done, outcome.companions) == ("done", (("x.xmp", f"dog/x-{digest}.xmp"),))
    assert files() == {"dog/x.xmp": "of another", f"dog/x-{digest}.jpg": "a/x.jpg", f"dog/x-{digest}.xmp": "a/x.xmp"}


def test_images_of_one_stem_are_a_shot_only_with_a_raw(here: Path) -> None:
    for name in ("x.jpg", "x.png", "x.jpg.xmp", "x.png.xmp"):
        image(f"a/{name}")
    sort_with_companions([row_of("a/x.jpg", "dog"), row_of("a/x.png", "cat")], "move")
    assert list(files()) == ["cat/x.png", "cat/x.png.xmp", "dog/x.jpg", "dog/x.jpg.xmp"]


def test_rows_of_a_shot_are_grouped_and_none_is_lost(here: Path) -> None:
    names = ["x.jpg", "y.jpg", "x.cr2", "./y.cr2", "z.jpg"]
    rows = [row_of(image(name)) for name in names]
    counts = count_shots(rows, current_file)
    assert [[one.path for one in few] for few in together(rows, counts, current_file)] == [
        ["x.jpg", "x.cr2"],
        ["y.jpg", "./y.cr2"],
        ["z.jpg"],
    ]
    assert [len(few) for few in together(rows[:2], counts, current_file)] == [1, 1], "others have gone since"
    assert [len(few) for few in together(rows, None, current_file)] == [1] * 5


def test_every_place_of_an_image_gets_the_companions(here: Path) -> None:
    shot("a")
    sort_with_companions(
        [row_of("a/x.JPG", "dog", 0.9, 1, Label("cat", 2, 0.1)), row_of("a/x.CR2", "cat")], "hardlink", "{label}/{name}"
    )
    assert len(files()) == 7
    sort_with_companions(
        [row_of("a/x.JPG", "dog", 0.9, 1, Label("cat", 2, 0.1)), row_of("a/x.CR2", "cat")],
        "hardlink",
        "{rank} {label}/{name}",
    )
    assert len(files()) == 21


def test_companions_join_an_image_already_there_without_replacing_others(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image("a/x.jpg")
    sort_with_companions([row_of("a/x.jpg")])
    image("a/x.xmp")
    write_rows("labels.csv", [row_of("a/x.jpg")])
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


def test_companions_of_an_image_that_stays_also_stay(here: Path) -> None:
    for folder in "ab":
        image(f"{folder}/x.jpg", "same")
        image(f"{folder}/x.xmp")
    outcomes = sort_with_companions([row_of("a/x.jpg"), row_of("b/x.jpg")], "move")
    assert [outcome.done for outcome in outcomes] == ["done", "there"]
    assert files("b") == {"x.jpg": "same", "x.xmp": "b/x.xmp"}
    outcomes = sort_with_companions([row_of("b/x.jpg")], "copy")
    assert [outcome.done for outcome in outcomes] == ["differs"]


def test_links_count_as_companions_except_for_moves(here: Path) -> None:
    image("a/x.jpg")
    os.symlink(image("y.xmp"), "a/x.xmp")
    os.unlink("a/x.xmp")
    os.symlink("../y.xmp", "a/x.xmp")
    assert companion_finder()("a/x.jpg").names == ["x.xmp"]
    assert companion_finder({})("a/x.jpg").names == []


def test_each_folder_is_listed_once(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row_of(image(f"a/{number}.jpg")) for number in range(50)]
    listed: list[str] = []
    real = os.scandir

    def listing(path: str) -> Iterator[os.DirEntry[str]]:
        listed.append(path)
        return real(path)

    monkeypatch.setattr("dinoclassify.results.companions.os.scandir", listing)
    sort_with_companions(rows, "move")
    assert len(listed) == 1


def test_long_names_are_shortened_alike_for_image_and_companions(here: Path) -> None:
    stem = "é" * 121  # 242 bytes
    (place, others), *more = candidate_targets(
        f"dog/{stem}.jpg", image(f"{stem}.jpg"), [f"{stem}.jpg.xmp", f"{stem}.cr2"]
    )
    assert (place, others) == (f"dog/{stem}.jpg", [f"dog/{stem}.jpg.xmp", f"dog/{stem}.cr2"])
    assert len(more) == 3
    for place, others in more:
        assert others == [f"{place}.xmp", place.replace(".jpg", ".cr2")]
        assert len(os.fsencode(others[0])) <= 255 + len("dog/")


def test_resume_takes_no_companion_out_of_the_sorted_tree(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The image was moved with it and has since been renamed in the sorted tree."""
    for name in ("1.jpg", "1.cr2", "2.jpg", "2.xmp"):
        image(f"p/{name}")
    write_rows("labels.csv", [row_of("p/1.jpg"), row_of("p/2.jpg")])
    command = ["sort", "labels.csv", "--into", "sorted", "--mode", "move", "--with-companions"]
    assert run(command) == 0
    remove_end()
    os.rename("sorted/dog/1.jpg", "sorted/best.jpg")
    capsys.readouterr()
    assert run([*command, "--resume"]) == 0
    assert capsys.readouterr().err == "dinoclassify: 2 moved before -> sorted\n"
    assert files("p") == {}
    assert files() == {name: f"p/{name[-5:]}" for name in ("dog/1.cr2", "dog/2.jpg", "dog/2.xmp")} | {
        "best.jpg": "p/1.jpg"
    }


def test_resume_reports_companions_it_returns(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image("p/1.jpg")
    image("p/1.xmp")
    write_rows("labels.csv", [row_of("p/1.jpg")])
    command = ["sort", "labels.csv", "--into", "sorted", "--mode", "move", "--with-companions"]
    assert run(command) == 0
    remove_end()
    os.rename("sorted/dog/1.jpg", "p/1.jpg")
    write_rows("labels.csv", [])
    capsys.readouterr()
    assert run([*command, "--resume"]) == 0
    told = f"dinoclassify: {here}/p/1.xmp is put back beside its image, which the interrupted run had not reached\n"
    assert capsys.readouterr().err == f"{told}dinoclassify: nothing to do -> sorted\n"
    assert files("p") == {"1.jpg": "p/1.jpg", "1.xmp": "p/1.xmp"}
