"""Features and classes -> a linear head: multinomial logistic regression, with its regularisation and temperature.

Features are standardised first. The standardisation and the temperature are folded into the weights.
"""

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dinoclassify.system.environment import available_cpus
from dinoclassify.training.extra import needs_train_extra
from dinoclassify.training.folds import ONE_FOLD_FROM, Fold, Integers

with needs_train_extra():
    from scipy.special import log_softmax
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.utils.class_weight import compute_sample_weight
    from threadpoolctl import threadpool_limits

Features = npt.NDArray[np.float32]  # images x features
Numbers = npt.NDArray[np.float64]
Floats = npt.NDArray[np.floating[Any]]
ClassWeight = Literal["balanced", "none"]

STRENGTHS = tuple(10.0 ** (step / 2) for step in range(-8, 5))  # inverse regularisation, C of scikit-learn

_FLOOR = 0.1  # of the standard deviation of a feature, as a share of their root mean square
_ERROR = 1e-3  # distance of weights from the optimum; probabilities are then within a few thousandths
_TOLERANCES = 1e-7, 1e-4  # of the gradient


@dataclass(frozen=True, slots=True)
class Head:
    """A linear layer in float32: ``weight`` is classes x features, ``bias`` classes."""

    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]

    def logits(self, features: Features) -> npt.NDArray[np.float32]:
        """The logits of images, images x classes."""
        return features @ self.weight.T + self.bias


@dataclass(frozen=True, slots=True)
class Fit:
    """A linear layer in float64, with a row for each of the ``classes`` that it was fitted to."""

    weight: Numbers
    bias: Numbers
    classes: Integers

    def logits(self, features: Features, count: int) -> Numbers:
        """The logits of images, images x ``count`` classes; -inf where a class is unknown."""
        logits = np.full((len(features), count), -np.inf)
        logits[:, self.classes] = features @ self.weight.T + self.bias
        return logits

    def with_temperature(self, temperature: float) -> Head:
        """The head whose logits are these, divided by the temperature."""
        return Head((self.weight / temperature).astype(np.float32), (self.bias / temperature).astype(np.float32))


def fit(
    features: Features, classes: Integers, strength: float, *, balanced: bool, start: LogisticRegression | None = None
) -> Fit:
    """Fit a head to convergence, from ``start`` if given: a regression that was fitted to the same images.

    The curvature of the penalty is 1 / (C n): a gradient below `_ERROR` times that is close to the optimum.
    """
    least, most = _TOLERANCES
    regression = start if start is not None else LogisticRegression()
    regression.set_params(
        C=strength,
        class_weight="balanced" if balanced else None,
        max_iter=5000,
        tol=min(max(_ERROR / (strength * len(features)), least), most),
        warm_start=start is not None,
    )
    mean, scale = standardisation(features)
    dtype = np.float64 if len(features) < ONE_FOLD_FROM else np.float32  # to save memory
    standardised: Floats = (features.astype(dtype) - mean.astype(dtype)) / scale.astype(dtype)
    axes = _axes(standardised)
    regression.fit(standardised if axes is None else standardised @ axes.T, classes)
    coefficients = np.asarray(regression.coef_, np.float64)
    weight = (coefficients if axes is None else coefficients @ axes) / scale
    bias = regression.intercept_ - weight @ mean
    if len(weight) == 1:  # two classes: the row is the difference of their logits, and each gets half of it
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return Fit(weight, bias, regression.classes_)


def standardisation(features: Features) -> tuple[Numbers, Numbers]:
    """The mean of each feature, and the scale to divide by: its standard deviation, with a floor.

    Without a floor, features that hardly vary in training get huge weights, and decide about other images.
    """
    mean, deviation = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    scale = np.sqrt(deviation**2 + _FLOOR**2 * (deviation**2).mean())
    return mean, np.where(scale > 0, scale, 1)


def _axes(features: Floats) -> Floats | None:
    """Orthonormal axes, axes x features, that hold images which are few for their features; None if they are many.

    The regression is the same along these axes, since its penalty has no direction, and faster.
    """
    if len(features) > features.shape[1] / 2:
        return None
    axes: Floats = np.linalg.svd(features, full_matrices=False)[2]
    return axes


def choose_strength(
    features: Features, classes: Integers, folds: Sequence[Fold], *, balanced: bool
) -> tuple[float, list[Numbers]]:
    """The inverse regularisation with the least log loss on held-out images; and the logits of these, by fold."""
    starts = [LogisticRegression() for _ in folds]
    held_out = np.concatenate([judged for _, judged in folds])
    weights = _sample_weights(classes[held_out], balanced=balanced)
    best, least, best_logits = STRENGTHS[0], np.inf, list[Numbers]()
    for strength in STRENGTHS:  # from strong to weak regularisation: each fit starts from the solution before it
        logits = judge_folds(features, classes, folds, strength, balanced=balanced, starts=starts)
        loss = log_loss(np.concatenate(logits), classes[held_out], weights)
        if loss >= least:  # apart from noise, the loss has a single minimum
            break
        best, least, best_logits = strength, loss, logits
    return best, best_logits


def judge_folds(
    features: Features,
    classes: Integers,
    folds: Sequence[Fold],
    strength: float,
    *,
    balanced: bool,
    starts: Sequence[LogisticRegression] | None = None,
) -> list[Numbers]:
    """The logits of the held-out images of each fold, by a head that was fitted to the fold's training images.

    For ``starts`` see `fit`.
    """

    def judge(number: int) -> Numbers:
        train, judged = folds[number]
        start = starts[number] if starts is not None else None
        fitted = fit(features[train], classes[train], strength, balanced=balanced, start=start)
        return fitted.logits(features[judged], int(classes.max()) + 1)

    # Folds run in parallel rather than the matrix products inside them, which are too small to split.
    with ThreadPoolExecutor(available_cpus()) as threads, threadpool_limits(1 if len(folds) > 1 else None):
        return list(threads.map(judge, range(len(folds))))


def _sample_weights(classes: Integers, *, balanced: bool) -> Numbers:
    """The weight of each image; if ``balanced``, the images of each class weigh the same together."""
    weights: Numbers = compute_sample_weight("balanced" if balanced else None, classes)
    return weights


def log_loss(logits: Numbers, classes: Integers, weights: Numbers | None = None) -> float:
    """The mean negative log probability of the true classes, each clipped as scikit-learn does; perhaps weighted."""
    chances = log_softmax(logits, axis=1)[np.arange(len(classes)), classes]
    return float(-np.average(np.maximum(chances, np.log(np.finfo(np.float64).eps)), weights=weights))


@contextmanager
def quiet() -> Iterator[None]:
    """Hide the warnings of scikit-learn: of weak regularisation, which is not chosen, and of many classes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", UserWarning)
        yield
