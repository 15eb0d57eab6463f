"""Features and classes -> a linear head: multinomial logistic regression, with its regularisation and temperature.

Features are standardised first. The standardisation and the temperature are folded into the weights.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dinoclassify.system.environment import available_cpus
from dinoclassify.training.extra import needs_train_extra
from dinoclassify.training.folds import Fold, Integers

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

# C of scikit-learn, from strong to weak regularisation
STRENGTHS: tuple[float, ...] = tuple(10.0 ** (step / 2) for step in range(-8, 5))

_FLOOR = 0.3  # of the standard deviation of a feature, as a share of their root mean square
_ERROR, _LOOSE = 1e-3, 1e-2  # distance of weights from the optimum; probabilities are then within a few thousandths
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


@dataclass(frozen=True, slots=True)
class Standardised:
    """Features as a regression takes them, and the way back.

    values: images x axes: standardised features, along ``axes`` if there are any.
    mean, scale: what was subtracted from each feature, and what the rest was divided by.
    axes: orthonormal, axes x features; None if the values are along the features.
    """

    values: Floats
    mean: Numbers
    scale: Numbers
    axes: Floats | None


def standardise(features: Features, dtype: type[np.floating[Any]] = np.float64) -> Standardised:
    """Standardise features by their mean and their standard deviation, which has a floor.

    Without a floor, features that hardly vary in training get huge weights, and decide about other images. Where images
    are few for their features, the values are along axes that hold them all: the regression is the same, since its
    penalty has no direction, and faster.
    """
    mean, deviation = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    scale = np.sqrt(deviation**2 + _FLOOR**2 * (deviation**2).mean())
    scale = np.where(scale > 0, scale, 1)
    values: Floats = features.astype(dtype)
    np.subtract(values, mean.astype(dtype), out=values)  # in place, as features may be many
    np.divide(values, scale.astype(dtype), out=values)
    if len(values) > values.shape[1] / 2:
        return Standardised(values, mean, scale, None)
    left, lengths, axes = np.linalg.svd(values, full_matrices=False)
    return Standardised(left * lengths, mean, scale, axes)


def fit(
    images: Standardised,
    classes: Integers,
    strength: float,
    *,
    balanced: bool,
    regression: LogisticRegression | None = None,
    error: float = _ERROR,
) -> Fit:
    """Fit a head to convergence, from a ``regression`` with a warm start if given.

    The curvature of the penalty is 1 / (C n): a gradient below ``error`` times that is close to the optimum.
    """
    least, most = _TOLERANCES
    regression = regression if regression is not None else LogisticRegression()
    regression.set_params(
        C=strength,
        class_weight="balanced" if balanced else None,
        max_iter=5000,
        tol=min(max(error / (strength * len(classes)), least), most),
    )
    regression.fit(images.values, classes)
    coefficients = np.asarray(regression.coef_, np.float64)
    weight = (coefficients if images.axes is None else coefficients @ images.axes) / images.scale
    bias = regression.intercept_ - weight @ images.mean
    if len(weight) == 1:  # two classes: the row is the difference of their logits, and each gets half of it
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return Fit(weight, bias, regression.classes_)


def choose_strength(features: Features, classes: Integers, folds: Sequence[Fold], *, balanced: bool) -> float:
    """The inverse regularisation with the least log loss on held-out images.

    The fits are looser than those that count, and in float32: the loss is the same in its first three digits.
    """
    count, held_out = int(classes.max()) + 1, np.concatenate([judged for _, judged in folds])
    weights = _sample_weights(classes[held_out], balanced=balanced)
    known = [standardise(features[train], np.float32) for train, _ in folds]
    regressions = [LogisticRegression(warm_start=True) for _ in folds]

    def judge(number: int, strength: float) -> Numbers:
        train, judged = folds[number]
        fitted = fit(
            known[number], classes[train], strength, balanced=balanced, regression=regressions[number], error=_LOOSE
        )
        return fitted.logits(features[judged], count)

    best, least = STRENGTHS[0], np.inf
    for strength in STRENGTHS:  # from strong to weak regularisation: each fit starts from the solution before it
        logits = _in_threads(partial(judge, strength=strength), len(folds))
        loss = log_loss(np.concatenate(logits), classes[held_out], weights)
        if loss >= least:  # apart from noise, the loss has a single minimum
            break
        best, least = strength, loss
    return best


def judge_folds(
    features: Features, classes: Integers, folds: Sequence[Fold], strength: float, *, balanced: bool
) -> list[Numbers]:
    """The logits of the held-out images of each fold, by a head that was fitted to the fold's training images."""

    def judge(number: int) -> Numbers:
        train, judged = folds[number]
        fitted = fit(standardise(features[train]), classes[train], strength, balanced=balanced)
        return fitted.logits(features[judged], int(classes.max()) + 1)

    return _in_threads(judge, len(folds))


def _in_threads(judge: Callable[[int], Numbers], folds: int) -> list[Numbers]:
    """Run folds in parallel rather than the matrix products inside them, which are too small to split."""
    with ThreadPoolExecutor(available_cpus()) as threads, threadpool_limits(1 if folds > 1 else None):
        return list(threads.map(judge, range(folds)))


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
