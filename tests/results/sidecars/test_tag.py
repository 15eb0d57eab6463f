"""`tag`: which labels are written, which images are left alone, and what the command says."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dinoclassify.results.sidecars.formats import txt as text
from dinoclassify.results.sidecars.formats import xmp
from dinoclassify.results.sidecars.formats.base import SidecarContent
from dinoclassify.types.prediction import Failure, Label, Prediction
from tests.conftest import Cli
from tests.helpers.invoke import Invoke
from tests.helpers.sidecars import FLAT, LIGHTROOM, NAMES, keywords, results, state, tagged_row

FORMATS = ("xmp", "txt", "json")


@pytest.mark.parametrize("made", FORMATS)
def test_second_run_writes_nothing_and_remove_restores_the_folder(made: str, photo: Path, tag: Invoke) -> None:
    folder = photo.parent
    rows = results(folder, tagged_row(photo, *NAMES))
    before = state(folder)
    assert tag(rows, "-f", made, "-k", "3")[0] == 0
    first = state(folder)
    assert len(first) == len(before) + 1
    code, _, err = tag(rows, "-f", made, "-k", "3")
    assert (code, err) == (0, "dinoclassify: 1 row: 0 sidecars written, 1 as it was\n")
    assert state(folder) == first
    code, _, err = tag(rows, "-f", made, "--remove")
    assert (code, err) == (0, "dinoclassify: 1 row: 0 sidecars written, 1 deleted\n")
    assert state(folder) == before  # and the image has never been touched


@pytest.mark.parametrize("made", ["xmp", "json"])
def test_uncertain_row_removes_earlier_labels(made: str, photo: Path, tag: Invoke) -> None:
    tag(results(photo.parent, tagged_row(photo, "tench")), "-f", made)
    rows = results(photo.parent, tagged_row(photo, "tench", uncertain=True))
    assert tag(rows, "-f", made)[2] == "dinoclassify: 1 row: 0 sidecars written, 1 deleted\n"
    assert tag(rows, "-f", made)[2] == "dinoclassify: 1 row: 0 sidecars written, 1 with nothing to write\n"


def test_top_k_and_min_score_choose_the_labels(photo: Path, tag: Invoke) -> None:
    rows = results(photo.parent, tagged_row(photo, "a", "b", "c"))  # 0.9, 0.45, 0.3
    for options, expected in (("", "a"), ("-k 2", "a b"), ("-k 3 --min-score 0.45", "a b"), ("-k 3", "a b c")):
        tag(rows, *options.split())
        assert keywords((photo.parent / "x.jpg.xmp").read_bytes(), FLAT) == expected.split()
    assert tag(rows, "--min-score", "0.95")[2].endswith("1 deleted\n")


def test_changed_or_missing_images_are_left_alone_but_remove_works(photo: Path, tag: Invoke) -> None:
    folder = photo.parent
    images = [Path(shutil.copy(photo, folder / f"{number:02}.jpg")) for number in range(30)]
    failed = Prediction(str(photo), "failed", (), Failure("truncated", "it ends too early"))
    rows = results(folder, *(tagged_row(image, "tench") for image in images), failed)
    assert tag(rows)[2] == "dinoclassify: 31 rows: 30 sidecars written, 1 with nothing to write\n"
    before = state(folder)
    os.utime(images[0], ns=(0, 0))
    for image in images[1:25]:
        image.unlink()
    code, _, err = tag(rows, "-k", "1", "--prefix", "other")
    lines = err.splitlines()
    assert (code, len(lines)) == (3, 22)
    assert lines[0] == f"dinoclassify: {images[0]} has changed since it was labelled"
    assert lines[1] == f"dinoclassify: {images[1]} is gone"
    assert lines[20] == "dinoclassify: and 5 more like these"
    assert lines[21].endswith("31 rows: 0 sidecars written, 5 changed, 1 with nothing to write, 25 images left alone "
                              "(24 gone, 1 changed)")  # fmt: skip
    assert state(folder)[f"{images[1]}.xmp"] == before[f"{images[1]}.xmp"]
    assert tag(rows, "-q")[2] == ""
    assert tag(rows, "--remove")[0] == 0
    assert not list(folder.glob("*.xmp"))


def test_dry_run_changes_nothing_and_lists_what_it_would_do(photo: Path, tag: Invoke) -> None:
    folder = photo.parent
    names = ("new", "other", "theirs", "ours", "same")
    images = {name: Path(shutil.copy(photo, folder / f"{name}.jpg")) for name in names}
    (folder / "theirs.jpg.xmp").write_text(LIGHTROOM)
    earlier = {"other": "carp", "theirs": "carp", "ours": "carp", "same": "tench"}
    tag(results(folder, *(tagged_row(images[name], label) for name, label in earlier.items())))
    rows = [tagged_row(image, "tench", uncertain=name in ("theirs", "ours")) for name, image in images.items()]
    file = results(folder, *rows)
    before = state(folder)
    code, out, err = tag(file, "-n")
    actions = {"new": "write", "other": "change", "theirs": "remove", "ours": "delete"}
    assert out == "".join(f"{action} {folder}/{name}.jpg.xmp\n" for name, action in actions.items())
    assert (code, "5 rows: 1 sidecar would be written, 1 changed" in err) == (0, True)
    assert tag(file, "-n", "--into", folder / "out")[0] == 0
    assert state(folder) == before
    assert not (folder / "out").exists()


def test_control_characters_in_names_are_escaped(photo: Path, tag: Invoke) -> None:
    odd = Path(shutil.copy(photo, photo.parent / "a\x1b[2Jb\nc.jpg"))
    code, out, _ = tag(results(photo.parent, tagged_row(odd, "tench")), "-n")
    assert (code, out) == (0, f"write {photo.parent}/a\\x1b[2Jb\\nc.jpg.xmp\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a file that predict wrote"),
        (["nothing.csv"], "nothing.csv is not there: "),
        (["ROWS", "--format", "txt", "--prefix", "x"], "leave out --prefix"),
        (["ROWS", "--remove", "--top-k", "2"], "leave out --top-k"),
        (["ROWS", "--remove", "--min-score", "0"], "leave out --min-score"),
        (["ROWS", "--prefix", ""], "--prefix is empty: give it a value"),
        (["ROWS", "--prefix", "a||b"], "--prefix 'a||b': choose a word"),
        (["ROWS", "--prefix", "a\nb"], "choose a word"),
        (["ROWS", "--into", ""], "--into is empty: give it a value"),
        (["ROWS", "--into", "ROWS"], "that is a file; name a folder, new or not"),
        (["ROWS", "-k", "9"], "--top-k 9: each row has 1 label; use -k 1, or run predict again with -k 9. See: "),
        (["x.jpg"], "is not what predict writes"),
    ],
)
def test_wrong_usage_is_reported_in_one_line(
    arguments: list[str], message: str, photo: Path, tag: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photo.parent)
    results(photo.parent, tagged_row("x.jpg", "tench"))
    before = state(photo.parent)
    code, out, err = tag(*("rows.jsonl" if argument == "ROWS" else argument for argument in arguments))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert state(photo.parent) == before


@pytest.mark.parametrize("made", [xmp.update, text.update])
def test_keyword_is_the_first_imagenet_synonym(
    made: Callable[[bytes | None, SidecarContent], bytes | None],
) -> None:
    tench = Label("tench, Tinca tinca", 0, 0.9)
    content = made(None, SidecarContent((tench,), (tench,), "dino"))
    assert content is not None
    assert b"tench" in content
    assert b"Tinca" not in content
    assert made(content, SidecarContent((), (tench,), "dino")) is None


def test_last_row_of_an_image_on_stdin_counts(photo: Path, cli: Cli) -> None:
    rows = results(photo.parent, tagged_row(photo, "tench"), tagged_row(photo, "carp"))
    with open(rows, "rb") as stdin:
        assert cli("tag", "-", "-f", "json", stdin=stdin).returncode == 0
    assert [one["label"] for one in json.loads(Path(f"{photo}.json").read_text())["dinoclassify"]["labels"]] == ["carp"]
