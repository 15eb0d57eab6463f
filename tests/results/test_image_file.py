"""Images are found from any folder, by the one in which `predict` ran."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import PHOTOS
from tests.helpers.invoke import Invoke
from tests.helpers.rows import row_of, write_rows


def predicted(folder: str, *names: str) -> None:
    """A folder with images, and rows of them with the metadata that `predict` writes there."""
    Path(folder).mkdir(parents=True)
    rows = []
    for name in names:
        Path(folder, name).parent.mkdir(exist_ok=True)
        shutil.copy2(PHOTOS / "coffee.jpg", Path(folder, name))
        rows.append(replace(row_of(str(Path(folder, name))), path=name))
    write_rows(f"{folder}/labels.jsonl", rows)
    meta = {"working_folder": os.path.abspath(folder)}
    Path(f"{folder}/labels.jsonl.meta.json").write_text(json.dumps(meta))


def test_images_are_found_from_another_folder(here: Path, monkeypatch: pytest.MonkeyPatch, invoke: Invoke) -> None:
    predicted("a", "photos/x.jpg")
    Path("b").mkdir()
    monkeypatch.chdir("b")
    labels = "../a/labels.jsonl"
    assert invoke("tag", labels)[0] == 0
    assert (here / "a/photos/x.jpg.xmp").exists()
    assert invoke("tag", labels, "--into", "sidecars")[0] == 0
    assert Path("sidecars/photos/x.jpg.xmp").exists()
    assert invoke("report", labels, "-o", "page.html", "--link")[0] == 0
    assert "../a/photos/x.jpg" in Path("page.html").read_text()
    assert invoke("sort", labels, "--into", "sorted", "--mode", "move", "-v")[0] == 0
    assert Path("sorted/dog/x.jpg").exists()
    code, _, err = invoke("sort", labels, "--into", "sorted", "--mode", "move")
    assert (code, err) == (0, "dinoclassify: 1 moved before -> sorted\n")
    assert invoke("sort", "--undo", "sorted")[0] == 0
    code, _, err = invoke("sort", labels, "--into", "others")
    assert code == 0
    (here / "a/photos/x.jpg").unlink()
    code, _, err = invoke("tag", labels, "-f", "txt")
    assert (code, err.splitlines()[0]) == (3, "dinoclassify: photos/x.jpg is gone")


def test_images_are_found_in_a_renamed_folder(here: Path, monkeypatch: pytest.MonkeyPatch, invoke: Invoke) -> None:
    predicted("a", "photos/x.jpg")
    os.rename("a", "b")
    monkeypatch.chdir("b")
    assert invoke("sort", "labels.jsonl", "--into", "sorted")[0] == 0
    assert Path("sorted/dog/x.jpg").exists()


def test_image_in_two_folders_is_the_one_that_was_labelled(
    here: Path, monkeypatch: pytest.MonkeyPatch, invoke: Invoke
) -> None:
    predicted("a", "x.jpg", "y.jpg")
    shutil.copytree("a", "b")
    Path("a/x.jpg").write_bytes(b"another")
    monkeypatch.chdir("b")
    code, _, err = invoke("sort", "labels.jsonl", "--into", "sorted", "--mode", "move")
    assert code == 0
    assert f"y.jpg exists here and in {here}/a, where predict ran: the files there count" in err
    assert sorted(os.listdir("sorted/dog")) == ["x.jpg", "y.jpg"]
    assert [sorted(Path(folder).glob("*.jpg")) for folder in ("../a", ".")] == [[Path("../a/x.jpg")], [Path("y.jpg")]]


@pytest.mark.parametrize("odd", [7, "relative", "/nowhere/at/all", "/\0", None, ["/"]])
def test_invalid_working_folder_is_ignored(
    odd: object, here: Path, monkeypatch: pytest.MonkeyPatch, invoke: Invoke
) -> None:
    predicted("a", "x.jpg")
    Path("a/labels.jsonl.meta.json").write_text(json.dumps({"working_folder": odd}))
    monkeypatch.chdir("a")
    assert invoke("sort", "labels.jsonl", "--into", "sorted")[0] == 0


@pytest.mark.parametrize("output", ["labels.csv", "labels.parquet", "labels.db", "parts/", "merged.jsonl"])
def test_every_output_records_its_working_folder(
    output: str, here: Path, tiny: str, monkeypatch: pytest.MonkeyPatch, invoke: Invoke
) -> None:
    Path("a/photos").mkdir(parents=True)
    Path("b").mkdir()
    shutil.copy(PHOTOS / "coffee.jpg", "a/photos")
    monkeypatch.chdir("a")
    if output == "merged.jsonl":
        for number in (1, 2):
            assert invoke("predict", "photos", "-m", tiny, "--shard", f"{number}/2", "-o", f"{number}.jsonl")[0] in (
                0,
                4,
            )
        parts = [name for name in ("1.jsonl", "2.jsonl") if Path(name).exists()]
        assert invoke("merge", *parts, "-o", output, "--allow-gaps")[0] == 0
    else:
        assert invoke("predict", "photos", "-m", tiny, "-o", output)[0] == 0
    monkeypatch.chdir("../b")
    code, _, err = invoke("sort", f"../a/{output}", "--into", "sorted")
    assert (code, err.count("1 copied")) == (0, 1), err
