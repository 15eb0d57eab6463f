"""A trained head: what it is worth, and what is said of it."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss

from dinoclassify.training.advice import warnings_of, would_more_help
from dinoclassify.training.dataset import Dataset
from dinoclassify.training.folds import Integers
from dinoclassify.training.head import ClassWeight, Features
from dinoclassify.training.train import HEAD, Trained, train_head


def dataset(features: Features, classes: Integers) -> Dataset:
    """Images of one class each, none a copy of another."""
    return Dataset(features, [(str(index),) for index in classes], np.arange(len(classes)))


def train(
    features: Features, classes: Integers, test: Dataset | None = None, *, class_weight: ClassWeight = "balanced"
) -> Trained:
    names = [str(index) for index in range(classes.max() + 1)]
    return train_head(dataset(features, classes), names, test=test, class_weight=class_weight)


def clouds(count: int, classes: int, distance: float, seed: int = 0, width: int = 8) -> tuple[Features, Integers]:
    """Images around a centre for each class, which is the same for each seed."""
    centres = np.random.default_rng(9).normal(size=(classes, width)) * distance
    generator = np.random.default_rng(seed)
    truth = generator.permutation(np.arange(count) % classes)
    return (centres[truth] + generator.normal(size=(count, width))).astype(np.float32), truth


def test_scores_of_a_saved_head_say_how_often_it_is_right() -> None:
    features, classes = clouds(150, 3, 0.6)
    trained = train(features, classes)
    others, truth = clouds(20_000, 3, 0.6, seed=1)
    scores = softmax(trained.head.logits(others).astype(float), axis=1)
    right = scores.argmax(axis=1) == truth
    assert scores.max(axis=1).mean() == pytest.approx(right.mean(), abs=0.04)
    assert trained.log_losses[1] <= trained.log_losses[0] + 1e-3
    low, high = trained.scores[HEAD].interval
    assert low < right.mean() < high
    assert log_loss(truth, scores) == pytest.approx(trained.log_losses[1], abs=0.1)


def test_test_images_are_judged_by_the_head_itself() -> None:
    features, classes = clouds(90, 3, 0.7)
    others, truth = clouds(60, 3, 0.7, seed=1)
    trained = train(features, classes, dataset(others, truth))
    right = (trained.head.logits(others).argmax(axis=1) == truth).mean()
    assert trained.test[HEAD].accuracy == pytest.approx(right)
    assert trained.test[HEAD].images == 60
    assert list(trained.test) == list(trained.scores)
    assert not train(features, classes).test


def test_more_images_help_only_where_they_do() -> None:
    trained = train(*clouds(600, 20, 0.5, width=60))
    assert [(point.share, point.images) for point in trained.curve] == [(1, 480), (0.5, 240), (0.25, 120)]
    assert trained.curve[0].score == trained.scores[HEAD]
    assert would_more_help(trained).startswith("more images are likely to help: ")
    easy = train(*clouds(200, 2, 5))
    assert would_more_help(easy) == "all held-out images are right: more images like these cannot show a gain"
    features = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    pairs = train(features, np.arange(20) // 2)  # a fold has one image of each class, of which there is no half
    assert [point.share for point in pairs.curve] == [1]
    assert would_more_help(pairs).startswith("whether more images would help cannot be seen: ")


def test_warning_if_a_method_without_training_is_better() -> None:
    generator = np.random.default_rng(0)
    # two looks a class, crosswise: no line parts them
    corners = np.repeat([(0, 0), (1, 1), (0, 1), (1, 0)], 30, axis=0)
    features = (corners * 4 + generator.normal(size=corners.shape) / 4).astype(np.float32)
    crosswise, beside = np.repeat([0, 0, 1, 1], 30), corners[:, 0].astype(np.intp)
    assert warnings_of(train(features, beside)) == []
    nearest, commonest = warnings_of(train(features, crosswise))
    assert nearest.startswith("the 5 nearest images beat the linear head (")
    assert "split a class of several looks into a folder for each" in nearest
    assert commonest.startswith(
        "these images do not show that the linear head is better than always naming the most common class ("
    )
    marks = Dataset(
        features,
        [("a",) * int(a == 0) + ("b",) * int(b == 0) for a, b in zip(crosswise, beside, strict=True)],
        np.arange(120),
    )
    many = train_head(marks, ["a", "b"], multi_label=True)
    assert many.head.weight.shape == (2, 2)
    assert any("nearest images beat" in warning for warning in warnings_of(many))


@pytest.mark.slow
def test_no_verdict_from_noise() -> None:
    """On labels at random no method beats another beyond noise, and more images do not help."""
    generator = np.random.default_rng(0)
    verdicts = 0
    for _ in range(20):
        features = generator.normal(size=(60, 4)).astype(np.float32)
        trained = train(features, np.arange(60) % 2)
        verdicts += any("beat" in warning for warning in warnings_of(trained))
        verdicts += would_more_help(trained).startswith("more images are likely")
    assert verdicts <= 3  # of 60, at a level of 5 %


def test_rare_classes_are_balanced_by_default() -> None:
    generator = np.random.default_rng(0)
    classes = np.repeat([0, 1], [400, 20])
    features = (generator.normal(size=(420, 4)) + classes[:, None] * 1.2).astype(np.float32)

    def recall(trained: Trained) -> float:
        return float((trained.head.logits(features).argmax(axis=1) == 1)[classes == 1].mean())

    assert recall(train(features, classes)) > recall(train(features, classes, class_weight="none")) + 0.2


def test_identical_images_give_a_finite_head() -> None:
    for features in (np.ones((4, 3), np.float32), np.repeat(np.eye(2, 3, dtype=np.float32), 2, axis=0)):
        trained = train(features, np.array([0, 0, 1, 1]))
        assert np.isfinite(trained.head.weight).all()
        assert [score.images for score in trained.scores.values()] == [4, 4, 4, 4]
    assert trained.scores[HEAD].accuracy == 1


def test_many_classes_with_few_images() -> None:
    generator = np.random.default_rng(0)
    classes = np.repeat(np.arange(60), 2)
    features = (np.eye(60)[classes] + generator.normal(size=(120, 60)) / 100).astype(np.float32)
    trained = train(features, classes)
    assert [score.accuracy for score in trained.scores.values()][:2] == [1, 1]


def test_labels_of_a_multi_label_head_are_problems_of_their_own() -> None:
    features, classes = clouds(60, 4, 1.5)
    labels = [tuple(name for name, bit in (("a", 1), ("b", 2)) if index & bit) for index in classes.tolist()]
    trained = train_head(Dataset(features, labels, np.arange(60)), ["a", "b"], multi_label=True)
    assert len(trained.strengths) == len(trained.temperatures) == 2
    for number, name in enumerate("ab"):
        own = train(features, np.array([name in each for each in labels], np.intp))
        assert trained.head.weight[number] == pytest.approx(own.head.weight[1] - own.head.weight[0], rel=1e-5)
    alone = [train(features, np.array([name in each for each in labels], np.intp)).scores[HEAD] for name in "ab"]
    assert trained.scores[HEAD].accuracy == pytest.approx(np.mean([score.accuracy for score in alone]))
