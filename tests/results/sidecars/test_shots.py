"""Several images of one shot, which share a sidecar."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from dinoclassify.results.sidecars.tag import TagOptions
from dinoclassify.results.sidecars.tag import tag as write_sidecars
from dinoclassify.types.prediction import Failure
from tests.helpers.invoke import Invoke
from tests.helpers.sidecars import FLAT, keywords, results, state, tagged_row


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize(
    ("raw", "jpeg", "label"),
    [("ok", "ok", "jpeg"), ("ok", "uncertain", "raw"), ("uncertain", "ok", "jpeg"), ("failed", "ok", "jpeg")],
)
def test_raw_and_its_jpeg_share_a_sidecar(
    raw: str, jpeg: str, label: str, order: tuple[int, int], photo: Path, tag: Invoke
) -> None:
    folder = photo.parent
    other = Path(shutil.copy(photo, folder / "x.NEF"))
    failure = Failure("unsupported_format", "Nikon RAW (NEF): not supported yet")
    failed = replace(tagged_row(other), status="failed", failure=failure)
    of_raw = failed if raw == "failed" else tagged_row(other, "raw", uncertain=raw == "uncertain")
    both = [of_raw, tagged_row(photo, "jpeg", uncertain=jpeg == "uncertain")]
    rows = results(folder, *(both[place] for place in order))
    code, _, err = tag(rows, "--naming", "stem")
    shared = "" if raw == "failed" else ", 1 with the labels of another image of the shot"
    nothing = ", 1 with nothing to write" if raw == "failed" else ""
    assert (code, err) == (0, f"dinoclassify: 2 rows: 1 sidecar written{shared}{nothing}\n")
    assert keywords((folder / "x.xmp").read_bytes(), FLAT) == [label]
    before = state(folder)
    assert tag(rows, "--naming", "stem")[0] == 0
    assert state(folder) == before
    assert tag(rows, "--naming", "stem", "--remove")[0] == 0
    assert not (folder / "x.xmp").exists()


def test_first_image_of_a_shot_that_is_not_raw_counts(photo: Path, tag: Invoke) -> None:
    folder = photo.parent
    raws = [Path(shutil.copy(photo, folder / name)) for name in ("x.cr2", "x.dng", "y.arw")]
    shutil.copy(photo, folder / "y.jpeg")  # which has no row
    tif = Path(shutil.copy(photo, folder / "x.tif"))
    rows = results(folder, *(tagged_row(one, one.name) for one in (*raws[:2], photo, tif, raws[2])))
    code, _, err = tag(rows, "--naming", "stem", "-f", "txt")
    told = "5 rows: 2 sidecars written, 3 with the labels of another image of the shot"
    assert (code, err) == (0, f"dinoclassify: {told}\n")
    assert ((folder / "x.txt").read_text(), (folder / "y.txt").read_text()) == ("x.jpg\n", "y.arw\n")


def test_last_row_of_an_image_of_a_shot_counts(photo: Path) -> None:
    raw = shutil.copy(photo, photo.parent / "x.cr2")
    rows = [tagged_row(photo, "first"), tagged_row(raw, "raw"), tagged_row(photo, "last", uncertain=True)]
    assert [outcome.action for outcome in write_sidecars(rows, TagOptions(naming="stem"))] == [
        "write",
        "shared",
        "delete",
    ]
    rows = [tagged_row(raw, "first"), tagged_row(raw, "last")]
    assert [outcome.action for outcome in write_sidecars(rows, TagOptions(naming="stem"))] == ["shared", "write"]
    assert keywords((photo.parent / "x.xmp").read_bytes(), FLAT) == ["last"]
