"""The calibration of scores."""

import tracemalloc
from time import perf_counter

import numpy as np
import pytest

from dinoclassify.results.evaluation.calibration import Calibration, calibrate, error_by_chance
from tests.helpers.guesses import guesses


def calibration_of(score: float, right: int, of: int) -> Calibration:
    found = calibrate(np.full(of, score), np.arange(of) < right)
    assert found is not None
    return found


def test_calibration_error_follows_its_definition() -> None:
    assert calibration_of(0.8, 8, 10).error == pytest.approx(0)
    assert calibration_of(1.0, 10, 10).error == pytest.approx(0)
    assert calibration_of(0.9, 5, 10).error == pytest.approx(0.4)
    scores, truth = guesses(500)
    best, right = scores.max(axis=1), scores.argmax(axis=1) == truth
    found = calibrate(best, right)
    assert found is not None
    expected = 0.0
    for number in range(15):  # as Guo et al. (2017) define it
        here = (best > number / 15) & (best <= (number + 1) / 15)
        if here.any():
            expected += here.mean() * abs(right[here].mean() - best[here].mean())
    assert found.error == pytest.approx(expected)
    assert sum(one.count for one in found.bins) == 500


def test_the_sign_tells_too_confident_from_too_modest() -> None:
    assert calibration_of(0.9, 5, 10).signed_error == pytest.approx(0.4)
    assert calibration_of(0.5, 9, 10).signed_error == pytest.approx(-0.4)


@pytest.mark.parametrize("count", [20, 300])
def test_error_by_chance_is_that_of_simulated_hits(count: int) -> None:
    generator = np.random.default_rng(3)
    scores = generator.beta(5, 1, count)
    hits = generator.random((1000, count)) < scores
    bins = np.minimum(np.ceil(scores * 15), 15)
    gaps = [np.abs(((hits - scores) * (bins == number)).sum(axis=1)) for number in range(1, 16)]
    errors = np.sum(gaps, axis=0) / count
    found = error_by_chance(scores)
    assert found.mean == pytest.approx(errors.mean(), rel=0.05)
    assert found.percentile95 == pytest.approx(np.quantile(errors, 0.95), rel=0.1)


def test_many_scores_cost_little_time_and_memory() -> None:
    scores = np.random.default_rng(0).beta(5, 1, 100_000)
    tracemalloc.start()
    started = perf_counter()
    found = error_by_chance(scores)
    seconds, (_, peak) = perf_counter() - started, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100e6  # bytes
    assert seconds < 10
    assert 0 < found.mean < found.percentile95 < 0.01
