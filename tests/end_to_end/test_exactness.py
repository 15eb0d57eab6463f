"""The contract of --exact: the same pixels and the same predictions as transformers itself."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image
from transformers.image_utils import load_image

from dinoclassify import Classifier
from dinoclassify.decoding.decode import decode
from dinoclassify.models.image_processor import read_processor
from dinoclassify.models.open import open_model
from dinoclassify.types.preprocessing import ImageProcessor, OpaqueProcessor, Preprocessing
from dinoclassify.types.source import Source
from tests.conftest import PHOTOS, SHARED
from tests.helpers.checkpoints import FAMILIES, edit_json, save_dinov2_small

IMAGES = sorted(map(str, [*PHOTOS.glob("*.jpg"), *(SHARED / "photos").glob("n0*[05]_*.JPEG")]))


@pytest.fixture(scope="module")
def odd_images(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Images of unusual shapes and modes, made from one photo."""
    folder = tmp_path_factory.mktemp("odd")
    photo = Image.open(PHOTOS / "chelsea.jpg")
    made = {
        "grey.png": photo.convert("L"),
        "palette.gif": photo.quantize(64),
        "alpha.png": photo.convert("RGBA").rotate(30, expand=True),
        "cmyk.jpg": photo.convert("CMYK"),
        "la.png": photo.convert("LA"),
        "16.png": photo.convert("I;16"),
        "progressive.jpg": photo,
        "small.png": photo.resize((20, 33)),
        "wide.jpg": photo.resize((900, 61)),
        "tall.webp": photo.resize((31, 640)),
        "odd.jpg": photo.resize((1017, 765)),
        "three.png": photo.resize((400, 3)),
    }
    for name, image in made.items():
        image.save(folder / name, progressive=name == "progressive.jpg")
    photo.quantize(64).save(folder / "transparent.png", transparency=3)
    photo.save(folder / "key.png", transparency=photo.getpixel((60, 60)))
    return sorted(map(str, folder.iterdir()))


@pytest.mark.parametrize("family", FAMILIES)
def test_pixels_are_the_same_as_those_of_the_transformers_processor(
    family: str, checkpoints: Callable[[str], Path], odd_images: list[str]
) -> None:
    folder = checkpoints(family)
    processor = hf.AutoImageProcessor.from_pretrained(folder, backend="pil")
    preprocessing = open_model(str(folder)).preprocessing
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    for path in [*IMAGES[:8], *odd_images]:
        decoded = decode(Source(path), preprocessing, exact=True)
        assert decoded.failure is None, path
        ours = (torch.tensor(decoded.pixels) - mean) / std
        with Image.open(path) as image:
            theirs = processor(load_image(image), return_tensors="pt")["pixel_values"][0]
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6, msg=path)


def test_nearest_resampling_gives_the_same_pixels_even_without_exact(
    checkpoints: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(checkpoints("dinov2"), tmp_path / "nearest")
    edit_json(folder / "preprocessor_config.json", resample=0)
    processor = hf.AutoImageProcessor.from_pretrained(folder, backend="pil", do_rescale=False, do_normalize=False)
    preprocessing = open_model(str(folder)).preprocessing
    assert isinstance(preprocessing, Preprocessing)
    large = tmp_path / "large.jpg"
    with Image.open(PHOTOS / "chelsea.jpg") as photo:
        photo.resize((2011, 1503)).save(large)
    with Image.open(large) as image:
        theirs = processor(load_image(image), return_tensors="np")["pixel_values"][0]
    assert np.array_equal(decode(Source(str(large)), preprocessing).pixels, theirs)  # type: ignore[arg-type]  # there are some


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "mobilevit"])
def test_settings_of_known_processors_are_understood(family: str, checkpoints: Callable[[str], Path]) -> None:
    preprocessing = open_model(str(checkpoints(family))).preprocessing
    assert not isinstance(preprocessing, OpaqueProcessor)
    assert decode(Source(IMAGES[0]), preprocessing).pixels.dtype == np.uint8  # type: ignore[union-attr]  # it is there


def test_a_processor_with_unknown_settings_is_opaque(checkpoints: Callable[[str], Path]) -> None:
    def read(**settings: Any) -> Preprocessing | OpaqueProcessor:
        return read_processor(cast(ImageProcessor, hf.CLIPImageProcessorPil(do_center_crop=False, **settings)))

    assert isinstance(read(size={"shortest_edge": 64, "longest_edge": 120}), OpaqueProcessor)
    assert isinstance(read(size={"max_height": 64, "max_width": 64}), OpaqueProcessor)
    assert isinstance(read(do_pad=True, pad_size={"height": 3000, "width": 3000}), OpaqueProcessor)


def test_a_processor_of_an_unknown_class_is_opaque(checkpoints: Callable[[str], Path]) -> None:
    preprocessing = open_model(str(checkpoints("mobilevit"))).preprocessing
    assert isinstance(preprocessing, OpaqueProcessor)
    assert preprocessing.output_size == (64, 64)


@pytest.mark.parametrize("family", FAMILIES)
def test_predictions_are_the_same_as_those_of_the_transformers_pipeline(
    family: str, checkpoints: Callable[[str], Path]
) -> None:
    _assert_as_pipeline(checkpoints(family), IMAGES[:12], top_k=5, least_spread=0.01)


def test_images_of_different_sizes_are_predicted_one_by_one(
    checkpoints: Callable[[str], Path], tmp_path: Path, odd_images: list[str]
) -> None:
    model = hf.AutoModelForImageClassification.from_pretrained(checkpoints("convnext"))
    model.save_pretrained(tmp_path)
    hf.CLIPImageProcessorPil(size={"shortest_edge": 64}, do_center_crop=False).save_pretrained(tmp_path)
    _assert_as_pipeline(tmp_path, IMAGES[:5], top_k=5, least_spread=0.01)


@pytest.mark.slow
def test_full_size_dinov2_small_agrees_with_the_pipeline(tmp_path: Path) -> None:
    save_dinov2_small(tmp_path)
    _assert_as_pipeline(tmp_path, IMAGES, top_k=5, least_spread=0.001)


def _assert_as_pipeline(folder: Path, images: list[str], *, top_k: int, least_spread: float) -> None:
    pipeline = hf.pipeline("image-classification", model=str(folder), device="cpu", top_k=top_k)
    classifier = Classifier(str(folder), precision="fp32", device="cpu")
    predictions = list(classifier.predict(images, top_k=top_k, exact=True))
    assert [prediction.path for prediction in predictions] == images
    label_to_index = pipeline.model.config.label2id or {}
    best = []
    for prediction, answer in zip(predictions, pipeline(images), strict=True):
        assert prediction.status == "ok"
        assert [label.index for label in prediction.top] == [label_to_index[entry["label"]] for entry in answer]
        assert [label.label for label in prediction.top] == [entry["label"] for entry in answer]
        assert [label.score for label in prediction.top] == pytest.approx([e["score"] for e in answer], abs=1e-5)
        best.append(prediction.top[0].score)
    assert max(best) - min(best) > least_spread, "the model tells no images apart: the comparison says nothing"
