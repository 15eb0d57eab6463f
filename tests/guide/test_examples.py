"""The examples of the guide run."""

import os
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from dinoclassify.cli import run
from tests.conftest import PHOTOS
from tests.helpers.one_liners import run_line
from tests.helpers.pages import PAGES, README, blocks

SHELL = [line for page in PAGES.values() if page != README for line in "".join(blocks(page, "sh")).splitlines()]


def page(topic: str) -> str:
    return PAGES[f"dinoclassify/guide/{topic}.md"]


@pytest.mark.slow
@pytest.mark.parametrize("line", SHELL)
def test_one_liners_run(line: str, tmp_path: Path) -> None:
    run_line(line, tmp_path)


@pytest.mark.slow
def test_the_example_of_features_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    shutil.copytree(PHOTOS, "photos")
    Path("photos/zebra.jpg").touch()
    (code,) = blocks(page("embed"), "python")
    exec(code, {})
    assert "photos/zebra.jpg" not in (out := capsys.readouterr().out)
    assert out.startswith("photos/camera.jpg (1280,)\n['photos/camera.jpg' ")


def first_commands(topic: str) -> list[list[str]]:
    """The commands of the first block of a page, each as its arguments."""
    return [shlex.split(line, comments=True)[1:] for line in blocks(page(topic))[0].splitlines()]


def vary(name: str, number: int, path: str) -> None:
    """Write a sample image in another quality for each number, as `train` counts copies of a file once."""
    with Image.open(PHOTOS / f"{name}.jpg") as image:
        image.save(path, quality=90 - number)


@pytest.mark.slow
def test_the_example_of_own_classes_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("TRAIN", "PREDICT", "EVALUATE"):
        monkeypatch.setenv(f"DINOCLASSIFY_{name}_MODEL", "builtin")
    names = ("camera", "chelsea")
    for folder in ("photos", "new", *(f"labelled/{name}" for name in names)):
        Path(folder).mkdir(parents=True)
    for name in names:
        for number in range(2):
            vary(name, number, f"labelled/{name}/{number}.jpg")
            vary(name, number, f"photos/{name}-{number}.jpg")
        shutil.copy(PHOTOS / f"{name}.jpg", "new")
    for table, label in (("table.csv", "{}"), ("tags.csv", "{};image")):
        rows = [f"{name}-{number}.jpg,{label.format(name)}" for name in names for number in range(2)]
        more = [f"{name}-{number}.jpg," for name in ("rocket", "coffee") for number in range(2)]
        Path(table).write_text("\n".join(["path,label", *rows, *more]))
    for name in ("rocket", "coffee"):
        for number in range(2):
            vary(name, number, f"photos/{name}-{number}.jpg")
    for command in first_commands("train"):
        assert run(command) == 0, command
    lines = Path("labels.csv").read_text().splitlines()[1:]
    assert [line.split(",")[:3] for line in lines] == [[f"new/{name}.jpg", "ok", name] for name in names]
    shutil.copytree("labelled", "test")
    Path("truth.csv").write_text("\n".join(["path,label", *(f"new/{name}.jpg,{name}" for name in names)]))
    for command in first_commands("evaluate"):
        assert run(command) == 0, command
    assert len(list(Path("plots").iterdir())) == 3


@pytest.mark.slow
def test_the_figures_can_be_checked_without_imagenet(tmp_path: Path) -> None:
    shutil.copytree(PHOTOS, tmp_path / "tests" / "photos")
    (compare,) = [code for code in blocks(page("check"), "python") if "labels are the same" in code]
    (tmp_path / "compare.py").write_text(compare)
    *_, session = blocks(page("check"), "text")
    assert "mkdir -p val" in session
    for line in session.splitlines():
        out = run_line(line, tmp_path)
    assert out == "5 of 5 labels are the same\n"


@pytest.mark.parametrize(
    "code",
    [
        text
        for name in ("README.md", "dinoclassify/guide/python.md")
        for text in blocks(PAGES[name], "python")
        if "failure.code" in text
    ],
)
def test_python_examples_run(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(PHOTOS, "photos")
    Path("photos/broken.jpg").touch()
    exec(code.replace('"small"', '"builtin"'), {})
    out = capsys.readouterr().out
    assert "photos/broken.jpg not_image the file is empty\n" in out
    assert "photos/coffee.jpg ok espresso 0.93" in out


def test_the_example_of_images_in_memory_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(PHOTOS, "photos")
    (code,) = [text for text in blocks(page("python"), "python") if "Image.open" in text]
    exec(code.replace('"small"', '"builtin"'), {})
    assert capsys.readouterr().out == "photos/coffee.jpg espresso\n<image 1> missile\n<image 2> tripod\n"
