"""`from dinoclassify import Classifier`."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

import dinoclassify
from dinoclassify import Classifier, Encoder, UsageError
from dinoclassify.decoding.decode import decode
from dinoclassify.discovery.in_memory import in_memory
from dinoclassify.loaded_model import Input
from dinoclassify.models.open import open_model
from dinoclassify.types.source import Source
from tests.conftest import PHOTOS
from tests.helpers.checkpoints import LABELS, save_multi_label


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


def test_multi_label_predictions_have_the_labels_that_transformers_scores_at_least_a_half(multi_label: str) -> None:
    from transformers import pipeline

    classifier = Classifier(multi_label, runtime="torch", precision="fp32")
    assert (classifier.default_top_k, classifier.default_threshold) == (7, 0.5)
    images = [str(image) for image in sorted(PHOTOS.glob("*.jpg"))]
    likely = list(classifier.predict(images, exact=True))
    all_scores = list(classifier.predict(images, exact=True, top_k=7, threshold=0))
    reference = pipeline("image-classification", model=multi_label, device="cpu", dtype=torch.float32)
    answers = reference(images, top_k=7, function_to_apply="sigmoid")
    for prediction, complete, answer in zip(likely, all_scores, answers, strict=True):
        scores = {item["label"]: item["score"] for item in answer}
        assert {label.label: label.score for label in complete.top} == pytest.approx(scores, abs=1e-5)
        assert [label.label for label in prediction.top] == [item["label"] for item in answer if item["score"] >= 0.5]
        assert prediction.status == "ok"
    assert len({len(prediction.top) for prediction in likely}) > 1


def test_a_multi_label_prediction_without_a_likely_label_is_uncertain(tiny: str, tmp_path: Path) -> None:
    classifier = Classifier(save_multi_label(tiny, tmp_path / "model", shift=-0.9), runtime="torch")
    statuses = {Path(row.path).stem: (row.status, len(row.top)) for row in classifier.predict(PHOTOS)}
    assert statuses.pop("chelsea") == ("uncertain", 1)
    assert set(statuses.values()) == {("ok", 1)}
    assert [len(row.top) for row in classifier.predict(PHOTOS, top_k=2, threshold=0.3)] == [2] * 5


def test_single_label_predictions_have_one_label_and_no_threshold(tiny: str) -> None:
    classifier = Classifier(tiny, runtime="torch")
    assert (classifier.default_top_k, classifier.default_threshold) == (1, 0)
    assert list(classifier.predict(PHOTOS)) == list(classifier.predict(PHOTOS, top_k=1, threshold=0))
    assert [len(row.top) for row in classifier.predict(PHOTOS, top_k=3, threshold=0.99)] == [3] * 5


def test_multi_label_predictions_have_ten_labels_at_most(multi_label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dinoclassify.classifier._MOST_LABELS", 3)
    classifier = Classifier(multi_label, runtime="torch")
    assert [len(row.top) for row in classifier.predict(PHOTOS)] == [3] * 5


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
    say = "print('numpy' in sys.modules, 'torch' in sys.modules)"
    code = f"import sys, dinoclassify; {say}; dinoclassify.Classifier; {say}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "True", "False"]


def test_types_are_published() -> None:
    assert (Path(dinoclassify.__file__).parent / "py.typed").exists()
