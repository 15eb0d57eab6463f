"""EXIF orientation: applied once, and the same whichever way an image is named."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from dinoclassify import Classifier
from dinoclassify.cli import run
from tests.conftest import PHOTOS, UNDO

ORIENTATIONS = range(10)  # 0 and 9 are invalid, and mean upright


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One image, stored losslessly under each orientation, so that all look the same."""
    folder = tmp_path_factory.mktemp("turned")
    image = Image.open(PHOTOS / "coffee.jpg").crop((0, 0, 301, 222))
    paths = []
    for orientation in ORIENTATIONS:
        path = folder / f"{orientation}.png"
        stored = image.transpose(UNDO[orientation]) if orientation in UNDO else image
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored.save(path, exif=exif)
        with Image.open(path) as saved:
            assert ImageOps.exif_transpose(saved).tobytes() == image.tobytes()
        paths.append(path)
    return paths


@pytest.mark.parametrize("exact", [(), ("--exact",)])
@pytest.mark.parametrize("kind", ["files", "stdin", "glob", "list"])
def test_all_orientations_give_the_same_row(
    kind: str,
    exact: tuple[str, ...],
    turned: list[Path],
    tiny: str,
    tmp_path: Path,
    stdin: Callable[[bytes], None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    listed = "\n".join(map(str, turned)).encode()
    (tmp_path / "list.txt").write_bytes(listed)
    stdin(listed if kind == "stdin" else b"")
    arguments: dict[str, list[str]] = {
        "files": [*map(str, turned)],
        "stdin": ["-"],
        "glob": [str(turned[0].parent / "?.png")],
        "list": ["--files-from", str(tmp_path / "list.txt")],
    }
    assert run(["predict", *arguments[kind], *exact, "-m", tiny, "-k", "3", "-f", "jsonl", "-q"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["path"] for row in rows] == [*map(str, turned)]
    assert len({json.dumps(row["top"]) for row in rows}) == 1


def test_the_model_would_notice_a_turned_image(turned: list[Path], tiny: str, tmp_path: Path) -> None:
    paths = []
    for path in turned:
        with Image.open(path) as image:
            image.getexif().clear()
            image.convert("RGB").save(tmp_path / path.name)
        paths.append(str(tmp_path / path.name))
    scores = {prediction.score for prediction in Classifier(tiny).predict(paths)}
    assert len(scores) == 8, "the rows above are the same because of the orientation, not in spite of it"
