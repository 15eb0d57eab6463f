"""Features and labels -> a linear head, with its regularisation chosen by cross-validation.

The head is multinomial logistic regression on standardised features, with the standardisation folded into its weights.
Nearest class mean and nearest neighbours are scored on the same folds, as baselines.
"""

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dinoclassify.errors import UsageError
from dinoclassify.system.environment import available_cpus
from dinoclassify.types.share import wilson

try:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score, log_loss
    from sklearn.model_selection import StratifiedKFold
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import Pipeline, make_pipeline
    from sklearn.preprocessing import StandardScaler, normalize
    from sklearn.utils.class_weight import compute_sample_weight
    from threadpoolctl import threadpool_limits
except ImportError:
    raise UsageError("train needs scikit-learn: pip install 'dinoclassify[train]'") from None

Features = npt.NDArray[np.float32]  # images x features
Classes = npt.NDArray[np.intp]  # the class of each image, from 0
Fold = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]  # indices of training images, of held-out images
ClassWeight = Literal["balanced", "none"]

FOLDS = 5
ONE_FOLD_FROM = 20_000  # images: with as many, one fold of them is enough
STRENGTHS = tuple(10.0 ** (step / 2) for step in range(-8, 5))  # inverse regularisation, C of scikit-learn

_NEIGHBOURS = 5
_MOST_COMPARED = 1000  # held-out images of a fold that get a nearest-neighbour search: each costs a full scan


@dataclass(frozen=True, slots=True)
class Head:
    """A linear layer in float32: ``weight`` is classes x features, ``bias`` classes."""

    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class HoldoutScore:
    """A method's score on held-out images: ``right`` of ``judged`` predictions, and the mean F1 of the classes.

    With many labels an image, each label of each image is a prediction of its own.
    """

    method: str
    right: int
    judged: int
    f1: float


@dataclass(frozen=True, slots=True)
class Trained:
    """A head, the inverse regularisation of each of its problems, and the scores of the head and the baselines."""

    head: Head
    strengths: tuple[float, ...]
    holdout: tuple[HoldoutScore, ...]

    @property
    def warning(self) -> str | None:
        """Advice if nearest neighbours clearly beat the head on the same held-out images, else None."""
        head, *_, nearest = self.holdout
        share, better = head.right / head.judged, nearest.right / nearest.judged
        if wilson(nearest.right, nearest.judged)[0] <= share:
            return None
        return (
            f"the {_NEIGHBOURS} nearest images beat the linear head ({better:.0%} against {share:.0%}): split a class "
            "of several looks into a folder for each, leave out near-duplicates, or try a larger --model "
            "(dinoclassify guide train)"
        )


def train_head(
    features: Features,
    labels: Sequence[tuple[str, ...]],
    classes: Sequence[str],
    *,
    multi_label: bool = False,
    class_weight: ClassWeight = "balanced",
    seed: int = 0,
) -> Trained:
    """Train a head whose outputs are ``classes``, in this order, by `train_multi` or `train_single`.

    ``features`` is images x features; each image has one label or, with ``multi_label``, any number.
    """
    if multi_label:
        marks = np.array([[label in image_labels for label in classes] for image_labels in labels])
        return train_multi(features, marks, class_weight=class_weight, seed=seed)
    number = {label: index for index, label in enumerate(classes)}
    image_classes = np.array([number[label] for (label,) in labels])
    return train_single(features, image_classes, class_weight=class_weight, seed=seed)


def train_single(
    features: Features, classes: Classes, *, class_weight: ClassWeight = "balanced", seed: int = 0
) -> Trained:
    """Train a head on images of one class each. The same arguments give the same head.

    ``features`` is images x features. ``classes`` has the class of each image, from 0, and each at least two images.
    ``balanced`` weighs all classes the same, ``none`` all images; ``seed`` is for the folds.
    """
    head, strength, predictions = _fit(features, classes, class_weight, seed)
    return Trained(head, (strength,), tuple(_score(method, classes, each) for method, each in predictions.items()))


def train_multi(
    features: Features, marks: npt.NDArray[np.bool_], *, class_weight: ClassWeight = "balanced", seed: int = 0
) -> Trained:
    """Train a head on images of any number of classes: each class is a binary problem with a sigmoid of its own.

    ``marks`` is images x classes; each class has at least two images, and at least two images lack it. The other
    arguments are those of `train_single`.
    """
    problems = [column.astype(np.intp) for column in marks.T]
    heads, strengths, predictions = zip(
        *(_fit(features, classes, class_weight, seed) for classes in problems), strict=True
    )
    # The softmax of two logits is the sigmoid of their difference.
    weight = np.stack([head.weight[1] - head.weight[0] for head in heads])
    bias = np.array([head.bias[1] - head.bias[0] for head in heads], np.float32)
    holdout = []
    for method in predictions[0]:
        pairs = zip(problems, predictions, strict=True)
        scores = [_score(method, classes, predicted[method], f1_of=[1]) for classes, predicted in pairs]
        right, judged = sum(score.right for score in scores), sum(score.judged for score in scores)
        holdout.append(HoldoutScore(method, right, judged, float(np.mean([score.f1 for score in scores]))))
    return Trained(Head(weight, bias), strengths, tuple(holdout))


_Predictions = dict[str, Classes]  # method -> the predicted class of each held-out image; -1 where none is predicted


def _fit(
    features: Features, classes: Classes, class_weight: ClassWeight, seed: int
) -> tuple[Head, float, _Predictions]:
    """A head, its inverse regularisation, and the predictions of all methods for the held-out images."""
    folds = _folds(classes, seed)
    balanced = class_weight == "balanced"
    with _one_thread_each(len(folds)):
        strength, predicted = _choose_strength(features, classes, folds, balanced=balanced)
        model = _model(strength, balanced=balanced).fit(features, classes)
        predictions = {"linear head": predicted} | _baselines(features, classes, folds)
    return _as_head(model), strength, predictions


def _folds(classes: Classes, seed: int) -> list[Fold]:
    """Stratified folds: even a class with two images has a training image in each."""
    most = int(np.bincount(classes).max())
    splitter = StratifiedKFold(min(FOLDS, most), shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer images than folds
        folds = list(splitter.split(np.zeros(len(classes)), classes))
    return folds[:1] if len(classes) >= ONE_FOLD_FROM else folds


def _choose_strength(
    features: Features, classes: Classes, folds: Sequence[Fold], *, balanced: bool
) -> tuple[float, Classes]:
    """The inverse regularisation with the least log loss on the held-out images, and its predictions for these."""
    models = [_model(STRENGTHS[0], balanced=balanced, warm_start=True) for _ in folds]
    judged = np.concatenate([held_out for _, held_out in folds])
    weights = compute_sample_weight("balanced" if balanced else None, classes[judged])

    def predict(number: int, strength: float) -> npt.NDArray[np.floating[Any]]:
        train, held_out = folds[number]
        models[number].set_params(logisticregression__C=strength).fit(features[train], classes[train])
        probabilities: npt.NDArray[np.floating[Any]] = models[number].predict_proba(features[held_out])
        return probabilities

    best, least, predicted = STRENGTHS[0], np.inf, np.full(len(classes), -1)
    with ThreadPoolExecutor(available_cpus()) as threads:
        for strength in STRENGTHS:  # from strong to weak regularisation: each fit starts from the solution before it
            probabilities = np.concatenate(list(threads.map(predict, range(len(folds)), [strength] * len(folds))))
            loss = log_loss(classes[judged], probabilities, sample_weight=weights, labels=np.arange(classes.max() + 1))
            if loss >= least:  # apart from noise, the loss has a single minimum
                break
            best, least = strength, loss
            predicted[judged] = probabilities.argmax(axis=1)
    return best, predicted


def _model(strength: float, *, balanced: bool, warm_start: bool = False) -> Pipeline:
    weight = "balanced" if balanced else None
    regression = LogisticRegression(C=strength, class_weight=weight, max_iter=1000, warm_start=warm_start)
    return make_pipeline(StandardScaler(), regression)


def _baselines(features: Features, classes: Classes, folds: Sequence[Fold]) -> _Predictions:
    """The predictions of methods without training, on features of length 1."""
    unit = normalize(features)
    by_mean, by_neighbours = np.full((2, len(classes)), -1)
    for train, held_out in folds:
        known, names = unit[train], classes[train]
        occurring = np.unique(names)
        class_means = [known[names == name].mean(axis=0) for name in occurring]
        by_mean[held_out] = KNeighborsClassifier(1).fit(class_means, occurring).predict(unit[held_out])
        sample = held_out[:: -(-len(held_out) // _MOST_COMPARED)]
        neighbours = KNeighborsClassifier(min(_NEIGHBOURS, len(known))).fit(known, names)
        by_neighbours[sample] = neighbours.predict(unit[sample])
    return {"nearest class mean": by_mean, f"{_NEIGHBOURS} nearest": by_neighbours}


def _as_head(model: Pipeline) -> Head:
    """The scaler and the regression folded into one layer, with one row for each class."""
    scaler, regression = model
    weight = np.asarray(regression.coef_, np.float64) / scaler.scale_
    bias = regression.intercept_ - weight @ scaler.mean_
    if len(weight) == 1:  # two classes: the row is the difference of their logits, and each gets half of it
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return Head(weight.astype(np.float32), bias.astype(np.float32))


def _score(method: str, classes: Classes, predicted: Classes, f1_of: Sequence[int] | None = None) -> HoldoutScore:
    """The score of predictions; F1 is the mean over the classes ``f1_of``, or over all."""
    judged = predicted >= 0
    right = int((predicted == classes)[judged].sum())
    f1 = f1_score(classes[judged], predicted[judged], labels=f1_of, average="macro", zero_division=0)
    return HoldoutScore(method, right, int(judged.sum()), float(f1))


@contextmanager
def _one_thread_each(folds: int) -> Iterator[None]:
    """Run folds in parallel rather than the matrix products inside them, which are too small to split."""
    with warnings.catch_warnings(), threadpool_limits(1 if folds > 1 else None):
        warnings.simplefilter("ignore", ConvergenceWarning)  # weak regularisation, which is not chosen
        warnings.simplefilter("ignore", UserWarning)  # class means: as many classes as samples
        yield
