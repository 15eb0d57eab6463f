"""Folds and samples of units."""

import numpy as np

from dinoclassify.training.folds import sample, split


def test_units_are_never_parted_and_each_image_is_judged_once() -> None:
    generator = np.random.default_rng(0)
    units = generator.integers(0, 60, 300)
    classes = np.where(generator.random(300) < 0.1, 2, units % 2)  # some units have several classes
    for seed in range(5):
        folds = split(classes, units, seed)
        assert len(folds) == 5
        assert sorted(np.concatenate([judged for _, judged in folds]).tolist()) == list(range(300))
        for train, judged in folds:
            assert not set(units[train]) & set(units[judged])
            assert len(judged) > 40


def test_folds_without_two_classes_to_train_on_are_left_out() -> None:
    """Two images of a class, and one large group of the other."""
    for seed in range(20):
        folds = split(np.array([1, 1, *[0] * 10]), np.array([0, 1, *[2] * 10]), seed)
        assert folds
        for train, judged in folds:
            assert set(train.tolist()) | set(judged.tolist()) == set(range(12))
            assert 0 in train or 1 in train
            assert 2 in train


def test_rare_classes_have_a_training_image_in_each_fold() -> None:
    classes = np.repeat([0, 1, 2], [40, 7, 2])
    for units in (np.arange(49), np.concatenate([np.arange(47), [47, 48]])):
        for train, _ in split(classes, units, 0):
            assert set(classes[train]) == {0, 1, 2}


def test_many_images_have_one_fold() -> None:
    classes = np.arange(20_000) % 3
    ((train, judged),) = split(classes, np.arange(20_000), 0)
    assert (len(train), len(judged)) == (16_000, 4_000)


def test_samples_are_nested_and_take_a_share_of_each_class() -> None:
    classes = np.repeat([0, 1, 2], [80, 40, 3])
    units = np.arange(123)
    quarter, half, most = (np.isin(units, sample(classes, units, share, seed=1)) for share in (0.25, 0.5, 0.8))
    assert np.bincount(classes[quarter]).tolist() == [20, 10, 1]
    assert np.bincount(classes[half]).tolist() == [40, 20, 2]
    assert np.bincount(classes[most]).tolist() == [64, 32, 2]
    assert (half | ~quarter).all()
    assert (most | ~half).all()
    assert np.bincount(classes[sample(classes, units, 0.01, seed=1, least=2)]).tolist() == [2, 2, 2]


def test_samples_have_each_class_also_where_units_have_several() -> None:
    """As in sequences of a camera trap: most images are empty, and the first one is."""
    classes = np.zeros(60, np.intp)
    units = np.repeat(np.arange(20), 3)
    classes[[3 * 3 + 1, 9 * 3 + 1, 15 * 3 + 1]] = 1
    for seed in range(20):
        for share in (0.25, 0.5):
            chosen = np.isin(units, sample(classes, units, share, seed))
            assert set(classes[chosen]) == {0, 1}
            assert share * 60 <= chosen.sum() <= share * 60 + 6
        assert (np.bincount(classes[np.isin(units, sample(classes, units, 0.1, seed, least=2))]) >= 2).all()
