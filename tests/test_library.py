"""`from dinoclassify import Classifier`."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from checkpoints import LABELS, edit_json
from conftest import PHOTOS

import dinoclassify
from dinoclassify import Classifier, UsageError


def test_paths_folders_and_globs(tiny: str) -> None:
    classifier = Classifier(tiny)
    by_folder = list(classifier.predict([PHOTOS]))
    assert list(classifier.predict([f"{PHOTOS}/*.jpg"])) == by_folder
    assert list(classifier.predict(sorted(PHOTOS.glob("*.jpg")))) == by_folder
    assert Path(by_folder[0].path).name == "camera.jpg"
    assert {prediction.label for prediction in by_folder} <= set(LABELS)


def test_what_a_classifier_says_of_itself(tiny: str) -> None:
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


def test_one_string_is_not_a_list_of_letters(tiny: str) -> None:
    assert len(list(Classifier(tiny).predict(str(PHOTOS)))) == 5
    assert len(list(Classifier(tiny).predict(PHOTOS / "coffee.jpg"))) == 1


def test_multi_label_scores_do_not_add_up_to_one(checkpoints: Callable[[str], Path], tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(checkpoints("vit"), tmp_path / "vit"))
    edit_json(folder / "config.json", problem_type="multi_label_classification")
    (prediction,) = Classifier(str(folder)).predict([PHOTOS / "coffee.jpg"], top_k=7)
    assert sum(label.score for label in prediction.top) != pytest.approx(1, abs=0.01)


def test_wrong_labels_are_refused(tiny: str) -> None:
    with pytest.raises(UsageError, match="1 labels for the 7 classes"):
        Classifier(tiny, labels=["only one"])


@pytest.mark.parametrize(
    "options", [{"top_k": 0}, {"threshold": 7}, {"batch_size": 0}, {"workers": -1}, {"max_pixels": 0}]
)
def test_wrong_arguments_are_refused(tiny: str, options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        Classifier(tiny).predict([PHOTOS], **options)  # type: ignore[arg-type]  # each is an int, by its name


def test_the_public_names_are_listed_and_there() -> None:
    assert all(hasattr(dinoclassify, name) for name in dinoclassify.__all__)
    assert not hasattr(dinoclassify, "no_such_name")


def test_importing_the_package_is_light() -> None:
    say = "print('torch' in sys.modules)"
    code = f"import sys, dinoclassify; {say}; dinoclassify.Classifier; {say}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_types_are_published() -> None:
    assert (Path(dinoclassify.__file__).parent / "py.typed").exists()
