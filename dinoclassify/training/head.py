"""Features and what is known of them -> a linear head, its regularisation chosen on images that it has not seen.

Multinomial logistic regression on standardised features, the standardisation folded into the weights. Nearest class
mean and nearest neighbours are judged on the same folds: a head that does not beat them is not worth its name.
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
Fold = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]  # images to learn from, images to judge by
ClassWeight = Literal["balanced", "none"]

FOLDS = 5
ONE_FOLD_FROM = 20_000  # images, from which on one fifth of them says enough
STRENGTHS = tuple(10.0 ** (step / 2) for step in range(-8, 5))  # inverse regularisation, C of scikit-learn

_NEIGHBOURS = 5
_MOST_COMPARED = 1000  # images of a fold whose neighbours are looked for: each is compared with all others


@dataclass(frozen=True, slots=True)
class Head:
    """A linear layer in float32: ``weight`` is classes x features, ``bias`` classes."""

    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class HoldoutScore:
    """How a method did on images that were held out: ``right`` answers of ``judged``, and the mean F1 of the classes.

    With many labels an image, an answer is a yes or no for one label.
    """

    method: str
    right: int
    judged: int
    f1: float


@dataclass(frozen=True, slots=True)
class Trained:
    """A head; the inverse regularisation of each of its problems; how it did, and the baselines behind it."""

    head: Head
    strengths: tuple[float, ...]
    held: tuple[HoldoutScore, ...]

    @property
    def warning(self) -> str | None:
        """What to do where the nearest neighbours are clearly better than the head on the same held-out images."""
        head, *_, nearest = self.held
        share, better = head.right / head.judged, nearest.right / nearest.judged
        if wilson(nearest.right, nearest.judged)[0] <= share:
            return None
        return (
            f"the {_NEIGHBOURS} nearest images beat the linear head ({better:.0%} against {share:.0%}): it cannot "
            "separate these classes. Split a class of several looks into one folder for each look, which predict "
            "--groups folds again; try a larger --model; and leave out near-duplicates, which flatter neighbours"
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
    """A head for labelled images.

    Args:
        features: images x features, float32.
        labels: those of each image: one or, with ``multi_label``, any number.
        classes: all labels, in the order that the head shall have.
        multi_label: see `train_multi`, else `train_single`.
        class_weight: see `train_single`.
        seed: see `train_single`.
    """
    if multi_label:
        marks = np.array([[label in some for label in classes] for some in labels])
        return train_multi(features, marks, class_weight=class_weight, seed=seed)
    number = {label: index for index, label in enumerate(classes)}
    of_each = np.array([number[label] for (label,) in labels])
    return train_single(features, of_each, class_weight=class_weight, seed=seed)


def train_single(
    features: Features, classes: Classes, *, class_weight: ClassWeight = "balanced", seed: int = 0
) -> Trained:
    """A head for images of one class each. The same arguments give the same head.

    Args:
        features: images x features, float32.
        classes: the class of each image, from 0; each has two images or more.
        class_weight: ``balanced`` has all classes count the same, ``none`` all images.
        seed: of the folds.
    """
    head, strength, found = _train(features, classes, class_weight, seed)
    held = [_judge(method, classes, answers) for method, answers in found.items()]
    return Trained(head, (strength,), tuple(held))


def train_multi(
    features: Features,
    marks: npt.NDArray[np.bool_],
    *,
    class_weight: ClassWeight = "balanced",
    seed: int = 0,
) -> Trained:
    """A head for images of any number of classes: each class is a problem, and a sigmoid, of its own.

    Args:
        features: images x features, float32.
        marks: images x classes; of each class there are two images or more, and two that are not of it.
        class_weight: see `train_single`.
        seed: see `train_single`.
    """
    parts = [_train(features, column.astype(np.intp), class_weight, seed) for column in marks.T]
    # The softmax of two logits is the sigmoid of their difference.
    weight = np.stack([head.weight[1] - head.weight[0] for head, _, _ in parts])
    bias = np.array([head.bias[1] - head.bias[0] for head, _, _ in parts], np.float32)
    held = []
    for method in parts[0][2]:
        each = [_judge(method, marks[:, n].astype(np.intp), part[2][method], of=[1]) for n, part in enumerate(parts)]
        right, judged = sum(one.right for one in each), sum(one.judged for one in each)
        held.append(HoldoutScore(method, right, judged, float(np.mean([one.f1 for one in each]))))
    return Trained(Head(weight, bias), tuple(strength for _, strength, _ in parts), tuple(held))


_Found = dict[str, Classes]  # method -> the class that it gives each image when that is held out; -1 where it is not


def _train(features: Features, classes: Classes, class_weight: ClassWeight, seed: int) -> tuple[Head, float, _Found]:
    folds = _folds(classes, seed)
    balanced = class_weight == "balanced"
    with _fitting(len(folds)):
        strength, answers = _choose(features, classes, folds, balanced=balanced)
        model = _model(strength, balanced=balanced).fit(features, classes)
        found = {"linear head": answers} | _baselines(features, classes, folds)
    return _folded(model), strength, found


def _folds(classes: Classes, seed: int) -> list[Fold]:
    """A class with two images has one to learn from in each fold."""
    most = int(np.bincount(classes).max())
    splitter = StratifiedKFold(min(FOLDS, most), shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer images than there are folds
        folds = list(splitter.split(np.zeros(len(classes)), classes))
    return folds[:1] if len(classes) >= ONE_FOLD_FROM else folds


def _choose(features: Features, classes: Classes, folds: Sequence[Fold], *, balanced: bool) -> tuple[float, Classes]:
    """The inverse regularisation with the least log loss on what is held out, and the answers it gives there."""
    models = [_model(STRENGTHS[0], balanced=balanced, warm_start=True) for _ in folds]
    judged = np.concatenate([held for _, held in folds])
    weights = compute_sample_weight("balanced" if balanced else None, classes[judged])

    def predict(number: int, strength: float) -> npt.NDArray[np.floating[Any]]:
        learned, held = folds[number]
        models[number].set_params(logisticregression__C=strength).fit(features[learned], classes[learned])
        probabilities: npt.NDArray[np.floating[Any]] = models[number].predict_proba(features[held])
        return probabilities

    best, least, answers = STRENGTHS[0], np.inf, np.full(len(classes), -1)
    with ThreadPoolExecutor(available_cpus()) as threads:
        for strength in STRENGTHS:  # from strong regularisation to weak: each begins where the one before has ended
            probabilities = np.concatenate(list(threads.map(predict, range(len(folds)), [strength] * len(folds))))
            loss = log_loss(classes[judged], probabilities, sample_weight=weights, labels=np.arange(classes.max() + 1))
            if loss >= least:  # it has one minimum, but for noise
                break
            best, least = strength, loss
            answers[judged] = probabilities.argmax(axis=1)
    return best, answers


def _model(strength: float, *, balanced: bool, warm_start: bool = False) -> Pipeline:
    weight = "balanced" if balanced else None
    regression = LogisticRegression(C=strength, class_weight=weight, max_iter=1000, warm_start=warm_start)
    return make_pipeline(StandardScaler(), regression)


def _baselines(features: Features, classes: Classes, folds: Sequence[Fold]) -> _Found:
    """What is done without training, on features of length 1."""
    unit = normalize(features)
    means, nearest = np.full((2, len(classes)), -1)
    for learned, held in folds:
        known, names = unit[learned], classes[learned]
        occurring = np.unique(names)
        of_class = [known[names == name].mean(axis=0) for name in occurring]
        means[held] = KNeighborsClassifier(1).fit(of_class, occurring).predict(unit[held])
        some = held[:: -(-len(held) // _MOST_COMPARED)]
        nearest[some] = KNeighborsClassifier(min(_NEIGHBOURS, len(known))).fit(known, names).predict(unit[some])
    return {"nearest class mean": means, f"{_NEIGHBOURS} nearest": nearest}


def _folded(model: Pipeline) -> Head:
    """The model as one layer on features as they are, with one row for each class."""
    scaler, regression = model
    weight = np.asarray(regression.coef_, np.float64) / scaler.scale_
    bias = regression.intercept_ - weight @ scaler.mean_
    if len(weight) == 1:  # of two classes: half of the difference of their logits to each
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return Head(weight.astype(np.float32), bias.astype(np.float32))


def _judge(method: str, classes: Classes, answers: Classes, of: Sequence[int] | None = None) -> HoldoutScore:
    """Answers on what was held out; F1 is the mean over all classes, or those of ``of``."""
    judged = answers >= 0
    right = int((answers == classes)[judged].sum())
    f1 = f1_score(classes[judged], answers[judged], labels=of, average="macro", zero_division=0)
    return HoldoutScore(method, right, int(judged.sum()), float(f1))


@contextmanager
def _fitting(folds: int) -> Iterator[None]:
    """Have folds, rather than the parts of one product of matrices, go on side by side: those are too small to part."""
    with warnings.catch_warnings(), threadpool_limits(1 if folds > 1 else None):
        warnings.simplefilter("ignore", ConvergenceWarning)  # of regularisation too weak to be chosen
        warnings.simplefilter("ignore", UserWarning)  # of class means, which are as many as there are classes
        yield
