"""The card of a trained model."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from dinoclassify.models.image_model import ImageEncoder
from dinoclassify.training.head import Head
from dinoclassify.training.model_card import TrainingData, licence, write_card
from dinoclassify.training.scores import Score
from dinoclassify.training.train import CurvePoint, Trained
from tests.helpers.invoke import Invoke


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("license: cc-by-4.0", "cc-by-4.0"),
        ("license: 'MIT'", "mit"),
        ("license: mit](https://evil.example)", "unknown"),
        ("license: <img/src=x>", "unknown"),
        ("license: `x`", "unknown"),
        ("license: -" + "a" * 70, "unknown"),
        ("license: " + "a" * 70, "unknown"),
        ("license:\n- mit", "unknown"),
        ("license_name: mit", "unknown"),
    ],
)
def test_licence_of_the_base_model_is_one_plain_name(tmp_path: Path, line: str, found: str) -> None:
    (tmp_path / "README.md").write_text(f"---\n{line}\n---\n# Base\n")
    assert licence(cast(ImageEncoder, SimpleNamespace(name="./x", folder=str(tmp_path), revision=None))) == found


def trained(*, nearest: int = 0) -> Trained:
    """What is said of a head; ``nearest``: how many more of 100 images the nearest neighbours get right."""
    head = Score(0.8, 100, 100, 0.7)
    others = {
        "nearest class mean": Score(0.6, 100, 100, 0.5, -0.2, 20, 0),
        "5 nearest images": Score(0.8 + nearest / 100, 100, 100, 0.5, nearest / 100, 0, nearest),
        "most common class": Score(0.3, 100, 100, 0.1, -0.5, 60, 10),
    }
    return Trained(
        head=cast(Head, None),
        strengths=(0.1, 1.0),
        temperatures=(1.04, 1.04),
        log_losses=(0.5, 0.45),
        folds=5,
        repetitions=3,
        scores={"linear head": head, **others},
        curve=(CurvePoint(1.0, 80, head), CurvePoint(0.5, 40, Score(0.7, 100, 100, 0.6, -0.1, 12, 1))),
        test={},
    )


def test_names_in_the_card_are_quoted_as_code() -> None:
    base = SimpleNamespace(name="./`<img src=x>`\n# y", folder=None, revision="main")
    data = TrainingData("photos`]", 1, {"a": 1}, {})
    card = write_card(cast(ImageEncoder, base), data, trained(), settings={}, multi_label=False)
    assert "# 1 class on `` ./`<img src=x>`\\n# y ``\n" in card
    assert "1 image of `` photos`] ``." in card


def test_figures_settings_and_warnings_are_in_the_card() -> None:
    base = SimpleNamespace(name="builtin", folder=None, revision="0")
    data = TrainingData("photos", 1, {"a": 1}, {"truncated": 2}, ["b|", "c"], 7)
    settings = {"class weight": "balanced"}
    card = write_card(cast(ImageEncoder, base), data, trained(nearest=15), settings=settings, multi_label=False)
    for line in (
        "1 image of `photos`. 7 more were set apart as a test. 2 could not be used and were left out (2 truncated). ",
        "Classes with too few images were left out: b&#124;, c.",
        "Cross-validation in 5 folds, repeated 3 times. Images were judged by heads that had not seen them, ",
        "| linear head | 80.00% | 71.12% to 86.66% | 100 | 0.7000 |  |  |",
        "| 5 nearest images | 95.00% | 88.82% to 97.85% | 100 | 0.5000 | 0 | 15 |",
        "Beware: the 5 nearest images beat the linear head (95.0% against 80.0%)",
        "| 40 (50%) | 70.00% | 60.42% to 78.11% |",
        "| inverse regularisation (C) | 0.1 to 1 |",
        "| temperature | 1.04 |",
        "Log loss of held-out images: 0.5000 before, 0.4500 with it.",
        "The class weight is balanced: the head assumes that all classes are equally frequent or",
    ):
        assert line in card
    assert "On the images of the test" not in card
    card = write_card(cast(ImageEncoder, base), data, trained(), settings={"class weight": "none"}, multi_label=False)
    assert "balanced" not in card
    assert "Beware" not in card


def test_warning_is_printed(here: Path, train: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dinoclassify.training.scores.Score.beats_head", True)
    err = train("labelled", "-o", "model")[2]
    assert "dinoclassify: the 5 nearest images beat the linear head (100.0% against 100.0%): split" in err
