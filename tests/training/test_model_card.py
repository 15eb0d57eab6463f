"""The card of a trained model."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from dinoclassify.models.image_model import ImageEncoder
from dinoclassify.training.head import Trained
from dinoclassify.training.model_card import TrainingData, licence, write_card
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


def test_names_in_the_card_are_quoted_as_code() -> None:
    base = SimpleNamespace(name="./`<img src=x>`\n# y", folder=None, revision="main")
    trained = SimpleNamespace(strengths=[1.0], holdout=[], warning=None)
    data = TrainingData("photos`]", 1, {"a": 1}, {})
    card = write_card(cast(ImageEncoder, base), data, cast(Trained, trained), settings={}, multi_label=False)
    assert "# 1 class on `` ./`<img src=x>`\\n# y ``\n" in card
    assert "1 image of `` photos`] ``." in card


def test_warning_is_printed_and_in_the_card(here: Path, train: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dinoclassify.training.head.Trained.warning", "the neighbours are better")
    assert "dinoclassify: the neighbours are better\n" in train("labelled", "-o", "model")[2]
    assert "Beware: the neighbours are better." in Path("model/README.md").read_text()
    assert train("labelled", "-o", "model", "--force", "-q")[2] == ""
