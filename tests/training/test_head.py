"""The linear head: against scikit-learn, with rare, equal and many classes."""

import numpy as np
import pytest
import torch

from dinoclassify.training.head import Head, train_head, train_multi, train_single


def test_heads_agree_with_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    generator = np.random.default_rng(0)
    classes = np.repeat(np.arange(4), [60, 50, 40, 7])
    features = (
        generator.normal(size=(len(classes), 12)) * 3 + 5 + classes[:, None] * generator.normal(size=12)
    ).astype(np.float32)
    for some in (classes >= 0, classes < 2):  # many classes, and two
        trained = train_single(features[some], classes[some])
        scaled = StandardScaler().fit_transform(features[some])
        model = LogisticRegression(C=trained.strengths[0], class_weight="balanced", max_iter=1000).fit(
            scaled, classes[some]
        )
        logits = torch.from_numpy(features[some] @ trained.head.weight.T + trained.head.bias)
        assert logits.softmax(1).numpy() == pytest.approx(model.predict_proba(scaled), abs=1e-3)
    marks = np.stack([classes % 2 == 0, classes > 1], axis=1)
    many = train_multi(features, marks, class_weight="none")
    scores = torch.from_numpy(features @ many.head.weight.T + many.head.bias).sigmoid().numpy()
    for label in range(2):
        scaled = StandardScaler().fit_transform(features)
        model = LogisticRegression(C=many.strengths[label], max_iter=1000).fit(scaled, marks[:, label])
        assert scores[:, label] == pytest.approx(model.predict_proba(scaled)[:, 1], abs=1e-3)


def test_warning_if_nearest_neighbours_beat_the_head() -> None:
    generator = np.random.default_rng(0)
    corners = np.repeat(
        [(0, 0), (1, 1), (0, 1), (1, 0)], 30, axis=0
    )  # two looks a class, crosswise: no line parts them
    features = (corners * 4 + generator.normal(size=corners.shape) / 4).astype(np.float32)
    crosswise, beside = np.repeat([0, 0, 1, 1], 30), corners[:, 0].astype(np.intp)
    assert train_single(features, beside).warning is None
    warning = train_single(features, crosswise).warning or ""
    assert "the 5 nearest images beat the linear head (94% against " in warning
    assert "split a class of several looks into a folder for each" in warning
    assert train_single(features, np.arange(120) % 2).warning is None  # nobody knows these
    assert train_multi(features, np.stack([crosswise == 0, beside == 0], axis=1)).warning
    names = ("a", "b")
    assert train_head(features, [(names[index],) for index in crosswise], names).warning == warning


def test_rare_classes_are_balanced_by_default() -> None:
    generator = np.random.default_rng(0)
    classes = np.repeat([0, 1], [400, 20])
    features = (generator.normal(size=(420, 4)) + classes[:, None] * 1.2).astype(np.float32)

    def recall(head: Head) -> float:
        logits = features @ head.weight.T + head.bias
        return float((logits.argmax(1) == 1)[classes == 1].mean())

    balanced, plain = (train_single(features, classes, class_weight=weight) for weight in ("balanced", "none"))
    assert recall(balanced.head) > recall(plain.head) + 0.2


def test_identical_images_give_a_finite_head() -> None:
    for features in (np.ones((4, 3), np.float32), np.repeat(np.eye(2, 3, dtype=np.float32), 2, axis=0)):
        trained = train_single(features, np.array([0, 0, 1, 1]))
        assert np.isfinite(trained.head.weight).all()
        assert [held.judged for held in trained.holdout] == [4, 4, 4]
    assert trained.holdout[0].right == trained.holdout[1].right == 4


def test_many_classes_with_few_images() -> None:
    generator = np.random.default_rng(0)
    classes = np.repeat(np.arange(60), 2)
    features = (np.eye(60)[classes] + generator.normal(size=(120, 60)) / 100).astype(np.float32)
    assert [held.right for held in train_single(features, classes).holdout[:2]] == [120, 120]
