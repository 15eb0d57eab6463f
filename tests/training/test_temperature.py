"""The temperature of a head."""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from dinoclassify.training.temperature import fit_temperature


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_known_temperature_is_found(temperature: float) -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(20_000, 4)) * 2
    chances = softmax(logits, axis=1)
    classes = (chances.cumsum(axis=1) < generator.random((20_000, 1))).sum(axis=1)
    found = fit_temperature(logits * temperature, classes, 20_000)
    assert found == pytest.approx(temperature, rel=0.03)


def test_temperature_has_the_least_log_loss() -> None:
    generator = np.random.default_rng(1)
    classes = generator.integers(0, 3, 5000)
    logits = generator.normal(size=(5000, 3)) * 4 + np.eye(3)[classes] * 3
    tried = np.exp(np.linspace(-1, 2, 601))
    losses = [-log_softmax(logits / each, axis=1)[np.arange(5000), classes].mean() for each in tried]
    assert fit_temperature(logits, classes, 5000) == pytest.approx(tried[np.argmin(losses)], rel=0.02)


def test_few_images_that_are_all_right_claim_no_more_than_they_show() -> None:
    for images in (10, 1000):
        logits = np.tile([[9.0, 0.0]], (images, 1))
        temperature = fit_temperature(logits, np.zeros(images, int), images)
        score = softmax(logits[0] / temperature)[0]
        assert score == pytest.approx((images + 1) / (images + 2), abs=1e-3)


def test_classes_that_a_fold_did_not_know_change_nothing() -> None:
    logits = np.array([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0]])
    with_unknown = np.column_stack([logits, np.full(3, -np.inf)])
    classes = np.array([0, 0, 1])
    assert fit_temperature(with_unknown, classes, 3) == pytest.approx(fit_temperature(logits, classes, 3))
