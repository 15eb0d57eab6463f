"""JPEGs left to a GPU. None is at hand in tests: Pillow stands in for torchvision's decoder, the CPU for the device."""

import io
import os
import sys
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from conftest import PHOTOS
from PIL import Image
from torch import Tensor

from dinoclassify.errors import UsageError
from dinoclassify.loader import load_batches
from dinoclassify.nvjpeg import check_gpu_decoder, decode_jpegs
from dinoclassify.preprocessing import AsIs, Preprocessing
from dinoclassify.sources import MAX_PIXELS, Source
from dinoclassify.workers import Batch

DINOV2 = Preprocessing(resize=256, crop=(224, 224), resample=3, mean=(0.0,) * 3, std=(1.0,) * 3)
SQUARE = Preprocessing(resize=(224, 160), crop=None, resample=2, mean=(0.0,) * 3, std=(1.0,) * 3)
PADDED = Preprocessing(resize=100, crop=(224, 224), resample=3, mean=(0.0,) * 3, std=(1.0,) * 3)

Decoder = Callable[[bytes], Image.Image]


class ImageReadMode(Enum):
    RGB = "RGB"


def install(monkeypatch: pytest.MonkeyPatch, open_image: Decoder) -> list[int]:
    """Put a `torchvision.io` in place that decodes by ``open_image``; gives the numbers of JPEGs asked of it."""
    asked: list[int] = []

    def decode_jpeg(contents: Sequence[Tensor], *, mode: ImageReadMode, device: str) -> list[Tensor]:
        asked.append(len(contents))
        assert mode is ImageReadMode.RGB
        images = [open_image(content.numpy().tobytes()).convert("RGB") for content in contents]
        return [torch.tensor(np.asarray(image)).permute(2, 0, 1).to(device) for image in images]

    package, module = ModuleType("torchvision"), ModuleType("torchvision.io")
    module.__dict__.update(decode_jpeg=decode_jpeg, ImageReadMode=ImageReadMode)
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.io", module)
    return asked


def by_pillow(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def batches(paths: Sequence[Path | str], preprocessing: Preprocessing, *, leave_jpegs: bool) -> list[Batch]:
    sources = [Source(os.fspath(path)) for path in paths]
    return list(
        load_batches(
            sources,
            preprocessing,
            batch_size=3,
            workers=1,
            exact=not leave_jpegs,
            max_pixels=MAX_PIXELS,
            leave_jpegs=leave_jpegs,
        )
    )


def both_ways(paths: Sequence[Path | str], preprocessing: Preprocessing) -> list[tuple[Batch, Batch]]:
    """Batches as the GPU makes them, each with the exact one of the workers."""
    left = batches(paths, preprocessing, leave_jpegs=True)
    made = decode_jpegs(left, preprocessing, "cpu", max_pixels=MAX_PIXELS)
    return list(zip(made, batches(paths, preprocessing, leave_jpegs=False), strict=True))


def assert_alike(made: Batch, exact: Batch) -> None:
    assert [(item.source, item.failure, item.size, item.mtime_ns) for item in made.inputs] == [
        (item.source, item.failure, item.size, item.mtime_ns) for item in exact.inputs
    ]
    assert all(item.jpeg is None and item.pixels is None for item in made.inputs)
    assert made.pixels.shape == exact.pixels.shape
    assert made.pixels.dtype == torch.uint8
    for one, other in zip(made.pixels, exact.pixels, strict=True):
        assert (one.int() - other.int()).abs().float().mean() < 0.6


@pytest.fixture
def mixed(tmp_path: Path) -> list[Path]:
    """What a folder may hold, the JPEGs that a GPU must not be given among it."""
    photo = Image.open(PHOTOS / "chelsea.jpg").convert("RGB")
    names = ["a.jpg", "b.png", "grey.jpg", "cmyk.jpg", "cut.jpg", "gone.jpg", "text.jpg", "last.jpg"]
    photo.save(tmp_path / "a.jpg")
    photo.rotate(90, expand=True).save(tmp_path / "b.png")
    photo.convert("L").save(tmp_path / "grey.jpg")
    photo.convert("CMYK").save(tmp_path / "cmyk.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:9000])
    (tmp_path / "text.jpg").write_text("no picture")
    photo.rotate(180).save(tmp_path / "last.jpg", progressive=True)
    return [tmp_path / name for name in names]


@pytest.mark.parametrize("preprocessing", [DINOV2, SQUARE, PADDED])
def test_rows_keep_their_order_and_their_pixels(
    mixed: list[Path], preprocessing: Preprocessing, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = install(monkeypatch, by_pillow)
    pairs = both_ways(mixed, preprocessing)
    for pair in pairs:
        assert_alike(*pair)
    assert asked == [2, 1]  # a and grey, none of the second batch, last
    failures = [item.failure.code for made, _ in pairs for item in made.inputs if item.failure is not None]
    assert failures == ["truncated", "vanished", "not_image"]


def test_every_orientation_is_turned_upright(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, by_pillow)
    photo = Image.open(PHOTOS / "chelsea.jpg").convert("RGB").resize((300, 240))
    paths = [tmp_path / f"{orientation}.jpg" for orientation in range(1, 9)]
    for orientation, path in enumerate(paths, start=1):
        exif = Image.Exif()
        exif[0x0112] = orientation
        photo.save(path, exif=exif)
    for made, exact in both_ways(paths, DINOV2):
        assert_alike(made, exact)


def test_what_the_gpu_cannot_decode_the_cpu_does(mixed: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: bytes) -> Image.Image:
        raise RuntimeError("nvjpegDecode failed: 4")

    asked = install(monkeypatch, fail)
    for made, exact in both_ways(mixed, DINOV2):
        assert [item.failure for item in made.inputs] == [item.failure for item in exact.inputs]
        assert all(item.jpeg is None for item in made.inputs)
        for one, other in zip(made.pixels, exact.pixels, strict=True):
            assert (one.int() - other.int()).abs().float().mean() < 2  # scaled while decoding
    assert asked == [2, 1]


def test_a_file_that_changed_on_its_way_gets_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jpg"
    Image.open(PHOTOS / "chelsea.jpg").save(path)
    left = batches([path], DINOV2, leave_jpegs=True)
    path.unlink()

    def fail(_: bytes) -> Image.Image:
        raise RuntimeError("no memory")

    install(monkeypatch, fail)
    (made,) = decode_jpegs(left, DINOV2, "cpu", max_pixels=MAX_PIXELS)
    assert made.inputs[0].failure is not None
    assert made.inputs[0].failure.code == "vanished"
    assert len(made.pixels) == 0


def test_a_strip_is_not_resized_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "dinoclassify")
    install(monkeypatch, by_pillow)
    Image.new("RGB", (20_000, 4), "red").save(tmp_path / "strip.jpg")  # 1,280,000 x 256 after the resize
    (pair,) = both_ways([tmp_path / "strip.jpg"], DINOV2)
    made, _ = pair
    assert made.inputs[0].failure is None
    assert made.pixels.shape == (1, 3, 224, 224)
    assert "1280000 x 256 pixels are too many to resize to" in caplog.text


@pytest.mark.parametrize(
    ("device", "preprocessing", "exact", "message"),
    [
        ("cpu", DINOV2, False, "needs a CUDA GPU and the model runs on cpu"),
        ("cuda:0", DINOV2, True, "is not --exact"),
        ("cuda:0", AsIs(lambda *_, **__: None, None), False, "runs on the CPU alone"),
        ("cuda:0", DINOV2, False, "needs torchvision built for CUDA"),
    ],
)
def test_what_is_missing_is_said_before_the_run(
    device: str,
    preprocessing: Preprocessing | AsIs,
    exact: bool,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(UsageError, match=message):
        check_gpu_decoder(device, preprocessing, exact=exact)
