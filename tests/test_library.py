"""`from dinoclassify import Classifier`."""

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

import dinoclassify
from dinoclassify import Classifier, Encoder, UsageError
from dinoclassify.decoding.decode import decode
from dinoclassify.discovery.in_memory import in_memory
from dinoclassify.loaded_model import Input
from dinoclassify.models.open import open_model
from dinoclassify.types.source import Source
from tests.conftest import PHOTOS
from tests.helpers.checkpoints import LABELS, edit_json


def test_paths_folders_and_globs_are_accepted(tiny: str) -> None:
    classifier = Classifier(tiny)
    by_folder = list(classifier.predict([PHOTOS]))
    assert list(classifier.predict([f"{PHOTOS}/*.jpg"])) == by_folder
    assert list(classifier.predict(sorted(PHOTOS.glob("*.jpg")))) == by_folder
    assert Path(by_folder[0].path).name == "camera.jpg"
    assert {prediction.label for prediction in by_folder} <= set(LABELS)


def test_a_classifier_describes_itself(tiny: str) -> None:
    classifier = Classifier(tiny, device="cpu", precision="fp32", labels=list("abcdefg"))
    assert (classifier.model, classifier.revision) == (tiny, None)
    assert (classifier.device, classifier.precision) == ("cpu", "fp32")
    assert classifier.labels == tuple("abcdefg")


def test_predictions_are_lazy(tiny: str) -> None:
    predictions = Classifier(tiny).predict(str(PHOTOS / "coffee.jpg") for _ in range(10**9))
    assert [next(predictions).status for _ in range(20)] == ["ok"] * 20
    predictions.close()  # type: ignore[attr-defined]  # it is a generator


def test_failures_are_predictions(tiny: str) -> None:
    (prediction,) = Classifier(tiny).predict(["gone.jpg"])
    assert (prediction.status, prediction.label, prediction.score, prediction.index) == ("failed", None, None, None)
    assert prediction.failure == dinoclassify.Failure("vanished", "no such file")


def test_a_single_path_need_not_be_in_a_list(tiny: str) -> None:
    assert len(list(Classifier(tiny).predict(str(PHOTOS)))) == 5
    assert len(list(Classifier(tiny).predict(PHOTOS / "coffee.jpg"))) == 1


def test_multi_label_scores_do_not_add_up_to_one(checkpoints: Callable[[str], Path], tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(checkpoints("vit"), tmp_path / "vit"))
    edit_json(folder / "config.json", problem_type="multi_label_classification")
    (prediction,) = Classifier(str(folder)).predict([PHOTOS / "coffee.jpg"], top_k=7)
    assert sum(label.score for label in prediction.top) != pytest.approx(1, abs=0.01)


def test_labels_of_the_wrong_number_are_refused(tiny: str) -> None:
    with pytest.raises(
        UsageError, match=r"^the list of labels has 1 name, .* has 7 classes: give each class one name$"
    ):
        Classifier(tiny, labels=["only one"])


@pytest.mark.parametrize(
    "options", [{"top_k": 0}, {"threshold": 7}, {"batch_size": 0}, {"workers": -1}, {"max_pixels": 0}]
)
def test_wrong_arguments_are_refused(tiny: str, options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        Classifier(tiny).predict([PHOTOS], **options)  # type: ignore[arg-type]  # each is an int, by its name


def test_an_error_names_only_the_wrong_argument(tiny: str) -> None:
    classifier = Classifier(tiny)
    with pytest.raises(UsageError, match=r"^threshold 40: must be from 0 to 1, such as 0\.4$"):
        classifier.predict(["a.jpg"], threshold=40)
    with pytest.raises(UsageError, match=r"^top_k 0: must be at least 1$"):
        classifier.predict(["a.jpg"], top_k=0)


@pytest.mark.parametrize("options", [{"topk": 3}, {"batchsize": 2}, {"normalised": True}])
def test_unknown_arguments_are_refused(tiny: str, options: dict[str, int]) -> None:
    (name,) = options
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}' .did you mean "):  # at once
        cast(Any, Classifier(tiny)).predict([PHOTOS], **options)
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
        cast(Any, Encoder(tiny)).embed([PHOTOS], **options)
    for kind in (Classifier, Encoder):
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
            cast(Any, kind)(tiny, **options)


def test_paths_images_and_bytes_may_be_mixed(tiny: str, tmp_path: Path) -> None:
    path = tmp_path / "coffee.png"
    with Image.open(PHOTOS / "coffee.jpg") as image:
        image.save(path)
    half = io.BytesIO(path.read_bytes()[:5000])
    inputs: list[Input] = [
        PHOTOS,
        path,
        Image.open(path),
        path.read_bytes(),
        Image.open(half),
        b"nothing",
        Image.new("L", (9, 9)),
    ]
    rows = list(Classifier(tiny).predict(inputs, top_k=3))[5:]
    assert [row.path for row in rows] == [str(path), *(f"<image {number}>" for number in range(2, 7))]
    assert [row.status for row in rows] == ["ok"] * 3 + ["failed"] * 2 + ["ok"]
    assert [row.failure.code for row in rows if row.failure] == ["truncated", "not_image"]
    assert rows[0].top == rows[1].top == rows[2].top
    classifier = Classifier(tiny)
    for alone in (path.read_bytes(), Image.open(path)):
        (row,) = classifier.predict(alone, top_k=3)
        assert (row.path, row.top) == ("<image 0>", rows[0].top)
    (embedding,) = Encoder(tiny).embed(Image.open(path))
    assert (embedding.path, embedding.status) == ("<image 0>", "ok")


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_an_image_in_memory_gives_the_pixels_of_its_file(mode: str, exact: bool, tiny: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    colours = Image.fromarray(generator.integers(0, 256, (60, 80, 4), np.uint8))
    image = colours.convert("L").convert(mode) if mode in {"I;16", "I", "F", "LA"} else colours.convert(mode)
    path = tmp_path / "image.tiff"
    image.save(path)
    preprocessing = open_model(tiny).preprocessing
    given, read = (decode(source, preprocessing, exact=exact) for source in (in_memory(image, 0), Source(str(path))))
    assert given.failure is read.failure is None
    assert np.array_equal(given.pixels, read.pixels)  # type: ignore[arg-type]  # there are some


def test_transparent_and_turned_images_give_the_pixels_of_their_files(tiny: str, tmp_path: Path) -> None:
    preprocessing = open_model(tiny).preprocessing
    palette = Image.open(PHOTOS / "coffee.jpg").resize((60, 80)).quantize(16)
    palette.save(tmp_path / "palette.png", transparency=3)
    turned = Image.open(PHOTOS / "rocket.jpg")
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    for name in ("palette.png", "turned.png"):
        path = str(tmp_path / name)
        for exact in (False, True):
            with Image.open(path) as image:
                given = decode(in_memory(image, 0), preprocessing, exact=exact)
            assert np.array_equal(given.pixels, decode(Source(path), preprocessing, exact=exact).pixels)  # type: ignore[arg-type]  # there are some


def test_an_image_is_classified_as_by_transformers(tiny: str) -> None:
    from transformers import pipeline

    image = Image.open(PHOTOS / "chelsea.jpg")
    (row,) = Classifier(tiny, device="cpu", runtime="torch", precision="fp32").predict(image, top_k=7, exact=True)
    theirs = pipeline("image-classification", model=tiny, top_k=7)(image)
    assert {label.label: label.score for label in row.top} == pytest.approx(
        {answer["label"]: answer["score"] for answer in theirs}, abs=1e-5
    )


def test_public_names_are_listed_and_exist() -> None:
    assert all(hasattr(dinoclassify, name) for name in dinoclassify.__all__)
    assert not hasattr(dinoclassify, "no_such_name")


def test_importing_the_package_is_light() -> None:
    say = "print('torch' in sys.modules)"
    code = f"import sys, dinoclassify; {say}; dinoclassify.Classifier; {say}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_types_are_published() -> None:
    assert (Path(dinoclassify.__file__).parent / "py.typed").exists()
