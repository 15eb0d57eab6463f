"""One fit of the head: against scikit-learn, and converged."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss as theirs
from sklearn.utils.class_weight import compute_sample_weight

from dinoclassify.training.folds import Integers, split
from dinoclassify.training.head import (
    _FLOOR,
    STRENGTHS,
    Features,
    choose_strength,
    fit,
    judge_folds,
    log_loss,
    standardise,
)


def labelled(width: int = 12) -> tuple[Features, Integers]:
    """Images of four classes, one of them rare."""
    generator = np.random.default_rng(0)
    classes = np.repeat(np.arange(4), [60, 50, 40, 7])
    offsets = classes[:, None] * generator.normal(size=width)
    return (generator.normal(size=(len(classes), width)) * 3 + 5 + offsets).astype(np.float32), classes


@pytest.mark.parametrize("width", [12, 600])  # more images than features, and fewer
@pytest.mark.parametrize("balanced", [True, False])
def test_fits_agree_with_scikit_learn(width: int, *, balanced: bool) -> None:
    features, classes = labelled(width)
    for some in (classes >= 0, classes < 2):  # many classes, and two
        images = standardise(features[some])
        fitted = fit(images, classes[some], 0.3, balanced=balanced)
        scaled = (features[some] - images.mean) / images.scale
        weight = "balanced" if balanced else None
        model = LogisticRegression(C=0.3, class_weight=weight, tol=1e-10, max_iter=10_000).fit(scaled, classes[some])
        chances = softmax(fitted.logits(features[some], 4), axis=1)[:, fitted.classes]
        assert chances == pytest.approx(model.predict_proba(scaled), abs=5e-3)
        head = fitted.with_temperature(2)
        logits = fitted.logits(features[some], 4)[:, fitted.classes]
        assert head.logits(features[some]) == pytest.approx(logits / 2, abs=1e-3)


def test_features_that_hardly_vary_get_small_weights() -> None:
    """As after ReLU pooling: a feature that is nearly always 0 must not decide about other images."""
    features, classes = labelled()
    features[:, 0] = 0
    features[:3, 0] = 1e-4
    fitted = fit(standardise(features), classes, 1.0, balanced=True)
    others = np.abs(fitted.weight[:, 1:]).max()
    assert np.abs(fitted.weight[:, 0]).max() < others
    rms = np.sqrt((features.std(axis=0, dtype=float) ** 2).mean())
    assert standardise(features).scale[0] == pytest.approx(_FLOOR * rms, rel=1e-3)
    assert standardise(np.ones((4, 3), np.float32)).scale.tolist() == [1, 1, 1]


def test_judged_heads_are_converged() -> None:
    """The saved head comes from the same procedure: a far tighter one gives the same labels."""
    features, classes = labelled(200)
    folds = split(classes, np.arange(len(classes)), 0)
    for strength in (0.1, 1.0, 10.0):
        judged = judge_folds(features, classes, folds, strength, balanced=True)
        for (train, held_out), logits in zip(folds, judged, strict=True):
            known = standardise(features[train])
            scaled = (features[held_out] - known.mean) / known.scale
            tight = LogisticRegression(C=strength, class_weight="balanced", tol=1e-10, max_iter=20_000)
            tight.fit((features[train] - known.mean) / known.scale, classes[train])
            assert (logits.argmax(axis=1) == tight.predict(scaled)).all()
            assert softmax(logits, axis=1) == pytest.approx(tight.predict_proba(scaled), abs=0.01)


def test_strength_has_the_least_log_loss_of_its_neighbours() -> None:
    features, classes = labelled()
    folds = split(classes, np.arange(len(classes)), 0)
    strength = choose_strength(features, classes, folds, balanced=True)
    held_out = classes[np.concatenate([judged for _, judged in folds])]
    weights = compute_sample_weight("balanced", held_out)

    def loss(strength: float) -> float:
        logits = np.concatenate(judge_folds(features, classes, folds, strength, balanced=True))
        expected = theirs(held_out, softmax(logits, axis=1), sample_weight=weights)
        assert log_loss(logits, held_out, weights) == pytest.approx(expected, rel=1e-6)
        return float(expected)

    place = STRENGTHS.index(strength)
    assert all(loss(strength) <= loss(other) + 1e-3 for other in STRENGTHS[place - 1 : place + 2])


def test_classes_that_a_fold_does_not_know_are_impossible() -> None:
    features, classes = labelled()
    fitted = fit(standardise(features[classes != 1]), classes[classes != 1], 1.0, balanced=True)
    logits = fitted.logits(features[:5], 4)
    assert np.isneginf(logits[:, 1]).all()
    assert np.isfinite(logits[:, [0, 2, 3]]).all()
    assert log_loss(logits, np.array([1] * 5)) == pytest.approx(-np.log(np.finfo(float).eps))
