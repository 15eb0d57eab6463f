"""Features and labels -> a trained head, with its scores in cross-validation and on images of a test.

The regularisation is chosen, and the temperature fitted, by cross-validation. Beside the head stand methods that need
no training.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np

from dinoclassify.training.baselines import baselines
from dinoclassify.training.dataset import Dataset
from dinoclassify.training.extra import needs_train_extra
from dinoclassify.training.folds import ONE_FOLD_FROM, Fold, Integers, sample, split
from dinoclassify.training.head import (
    ClassWeight,
    Features,
    Head,
    Numbers,
    choose_strength,
    fit,
    judge_folds,
    log_loss,
    quiet,
    standardise,
)
from dinoclassify.training.scores import Outcome, Score, compare, mean_outcome, outcome_of
from dinoclassify.training.temperature import fit_temperature

with needs_train_extra():
    from threadpoolctl import threadpool_limits

T = TypeVar("T")

REPETITIONS = 3  # of cross-validation, each with other folds
HEAD = "linear head"

_CURVE = (0.25, 0.5)  # shares of the training images
_SMALLER = 0.75  # of the images of a larger share: with more, a smaller one tells nothing


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The score of heads that were trained on a share of the images; ``images`` is how many, on average."""

    share: float
    images: float
    score: Score


@dataclass(frozen=True, slots=True)
class Trained:
    """A head, and how it was found.

    strengths, temperatures: the inverse regularisation and the temperature of each problem: one, or one a label.
    log_losses: on held-out images, before and after the temperature.
    scores: of the head and the baselines on held-out images, by method.
    curve: of heads that were trained on all training images of their fold, then on half, then on a quarter. A share
        that is hardly smaller than the one before, because each class keeps an image, is left out.
    test: of the head and the baselines on the images of the test, by method; empty without one.
    """

    head: Head
    strengths: tuple[float, ...]
    temperatures: tuple[float, ...]
    log_losses: tuple[float, float]
    folds: int
    repetitions: int
    scores: Mapping[str, Score]
    curve: tuple[CurvePoint, ...]
    test: Mapping[str, Score]


@dataclass(frozen=True, slots=True)
class _Problem:
    """Images with a class each, to train on and for the test; F1 is the mean over ``f1_of``, or over all classes."""

    features: Features
    classes: Integers
    units: Integers
    test_features: Features
    test_classes: Integers
    f1_of: Sequence[int] | None = None

    def outcome(self, predictions: Sequence[Integers]) -> Outcome:
        """The outcome of predictions for the training images, one array a repetition."""
        return outcome_of(self.classes, predictions, self.f1_of)

    def test_outcome(self, predicted: Integers) -> Outcome:
        """The outcome of predictions for the images of the test."""
        return outcome_of(self.test_classes, [predicted], self.f1_of)


@dataclass(frozen=True, slots=True)
class _Solution:
    head: Head
    strength: float
    temperature: float
    log_losses: tuple[float, float]
    folds: int
    held_out: Mapping[str, Outcome]
    curve: Mapping[float, Outcome]
    curve_images: Mapping[float, float]
    test: Mapping[str, Outcome]


def train_head(
    images: Dataset,
    classes: Sequence[str],
    *,
    test: Dataset | None = None,
    multi_label: bool = False,
    class_weight: ClassWeight = "balanced",
    seed: int = 0,
) -> Trained:
    """Train a head whose outputs are ``classes``, in this order. The same arguments give the same head.

    Each image has one label or, with ``multi_label``, any number: each label is then a yes or no of its own. Each
    label is on two units or more; with ``multi_label``, two or more lack it. ``balanced`` weighs all classes the same,
    ``none`` all images. ``seed`` is for the folds.
    """
    problems = [*(_yes_or_no if multi_label else _one_of_many)(images, classes, test)]
    repetitions = REPETITIONS if len(problems) * len(images.labels) < ONE_FOLD_FROM else 1
    balanced = class_weight == "balanced"
    with quiet():
        solutions = [_solve(problem, repetitions, balanced=balanced, seed=seed) for problem in problems]
    held_out = _mean_outcomes([solution.held_out for solution in solutions])
    curve = _mean_outcomes([solution.curve for solution in solutions])
    return Trained(
        head=_one_head([solution.head for solution in solutions]) if multi_label else solutions[0].head,
        strengths=tuple(solution.strength for solution in solutions),
        temperatures=tuple(solution.temperature for solution in solutions),
        log_losses=_means([solution.log_losses for solution in solutions]),
        folds=max(solution.folds for solution in solutions),
        repetitions=repetitions,
        scores=compare(held_out, images.units),
        curve=_curve(compare(curve, images.units), [solution.curve_images for solution in solutions]),
        test=compare(_mean_outcomes([solution.test for solution in solutions]), test.units) if test else {},
    )


def _one_of_many(images: Dataset, classes: Sequence[str], test: Dataset | None) -> Iterator[_Problem]:
    number = {label: index for index, label in enumerate(classes)}
    known, judged = (
        np.array([number[label] for (label,) in (data.labels if data else ())], np.intp) for data in (images, test)
    )
    yield _Problem(images.features, known, images.units, _features(test, images), judged)


def _yes_or_no(images: Dataset, classes: Sequence[str], test: Dataset | None) -> Iterator[_Problem]:
    for label in classes:
        known, judged = (
            np.array([label in labels for labels in (data.labels if data else ())], np.intp) for data in (images, test)
        )
        yield _Problem(images.features, known, images.units, _features(test, images), judged, f1_of=[1])


def _features(test: Dataset | None, images: Dataset) -> Features:
    return test.features if test is not None else images.features[:0]


def _solve(problem: _Problem, repetitions: int, *, balanced: bool, seed: int) -> _Solution:
    features, classes = problem.features, problem.classes
    splits = [split(classes, problem.units, seed + repetition) for repetition in range(repetitions)]
    strength = choose_strength(features, classes, splits[0], balanced=balanced)
    logits = _judge(problem, splits, strength, balanced=balanced)
    temperature, log_losses = _temperature(classes, splits, logits, problem.units)
    with threadpool_limits(1 if len(splits[0]) > 1 else None):  # as the folds: other threads round differently
        head = fit(standardise(features), classes, strength, balanced=balanced).with_temperature(temperature)
    predicted = {HEAD: [_predictions(classes, *each) for each in zip(splits, logits, strict=True)]}
    for folds in splits:
        for method, of_method in baselines(features, classes, folds).items():
            predicted.setdefault(method, []).append(of_method)
    curve, curve_images = {1.0: predicted[HEAD]}, {1.0: _mean_size(splits)}
    for share in reversed(_CURVE):
        smaller = [[(_share_of(problem, train, share, seed), judged) for train, judged in folds] for folds in splits]
        curve_images[share] = _mean_size(smaller)
        logits = _judge(problem, smaller, strength, balanced=balanced)
        curve[share] = [_predictions(classes, *each) for each in zip(splits, logits, strict=True)]
    return _Solution(
        head,
        strength,
        temperature,
        log_losses,
        folds=len(splits[0]),
        held_out={method: problem.outcome(of_method) for method, of_method in predicted.items()},
        curve={share: problem.outcome(of_share) for share, of_share in curve.items()},
        curve_images=curve_images,
        test=_test(problem, head) if len(problem.test_classes) else {},
    )


def _judge(
    problem: _Problem, splits: Sequence[Sequence[Fold]], strength: float, *, balanced: bool
) -> list[list[Numbers]]:
    """The logits of the held-out images of each fold of each split; all folds at once, for machines with many CPUs."""
    folds = [fold for folds in splits for fold in folds]
    logits = iter(judge_folds(problem.features, problem.classes, folds, strength, balanced=balanced))
    return [list(islice(logits, len(folds))) for folds in splits]


def _mean_size(splits: Sequence[Sequence[Fold]]) -> float:
    return float(np.mean([len(train) for folds in splits for train, _ in folds]))


def _curve(scores: Mapping[float, Score], images: Sequence[Mapping[float, float]]) -> tuple[CurvePoint, ...]:
    points: list[CurvePoint] = []
    for share, score in scores.items():
        count = float(np.mean([each[share] for each in images]))
        if not points or count < _SMALLER * points[-1].images:
            points.append(CurvePoint(share, count, score))
    return tuple(points)


def _share_of(problem: _Problem, train: Integers, share: float, seed: int) -> Integers:
    """The indices of a share of the images to train on."""
    units = problem.units[train]
    return train[np.isin(units, sample(problem.classes[train], units, share, seed))]


def _temperature(
    classes: Integers, splits: Sequence[Sequence[Fold]], logits: Sequence[Sequence[Numbers]], units: Integers
) -> tuple[float, tuple[float, float]]:
    """The temperature for held-out logits, and their log losses before and after it.

    Images of a class that their fold did not know do not count.
    """
    true = np.concatenate([classes[held_out] for folds in splits for _, held_out in folds])
    rows = np.concatenate([of_fold for of_split in logits for of_fold in of_split])
    is_known = np.isfinite(rows[np.arange(len(true)), true])
    true, rows = true[is_known], rows[is_known]
    temperature = fit_temperature(rows, true, len(np.unique(units)))
    return temperature, (log_loss(rows, true), log_loss(rows / temperature, true))


def _predictions(classes: Integers, folds: Sequence[Fold], logits: Sequence[Numbers]) -> Integers:
    """The predicted class of each image that is held out, -1 of others."""
    predicted = np.full(len(classes), -1)
    for (_, held_out), rows in zip(folds, logits, strict=True):
        predicted[held_out] = rows.argmax(axis=1)
    return predicted


def _test(problem: _Problem, head: Head) -> dict[str, Outcome]:
    """The outcomes on the images of the test: of the head itself, and of the baselines."""
    known = len(problem.classes)
    fold = np.arange(known), np.arange(known, known + len(problem.test_classes))
    features = np.concatenate([problem.features, problem.test_features])
    methods = baselines(features, np.concatenate([problem.classes, problem.test_classes]), [fold])
    predicted = {HEAD: head.logits(problem.test_features).argmax(axis=1)}
    predicted |= {method: values[known:] for method, values in methods.items()}
    return {method: problem.test_outcome(values) for method, values in predicted.items()}


def _one_head(heads: Sequence[Head]) -> Head:
    """The sigmoid head of many yes-or-no heads: the softmax of two logits is the sigmoid of their difference."""
    weight = np.stack([head.weight[1] - head.weight[0] for head in heads])
    return Head(weight, np.array([head.bias[1] - head.bias[0] for head in heads], np.float32))


def _mean_outcomes(solutions: Sequence[Mapping[T, Outcome]]) -> dict[T, Outcome]:
    return {key: mean_outcome([outcomes[key] for outcomes in solutions]) for key in solutions[0]}


def _means(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    before, after = np.mean(pairs, axis=0).tolist()
    return before, after
