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
    quarter, half, most = (sample(classes, units, share, seed=1) for share in (0.25, 0.5, 0.8))
    assert np.bincount(classes[quarter]).tolist() == [20, 10, 1]
    assert np.bincount(classes[half]).tolist() == [40, 20, 2]
    assert np.bincount(classes[most]).tolist() == [64, 32, 2]
    assert (half | ~quarter).all()
    assert (most | ~half).all()
    assert np.bincount(classes[sample(classes, units, 0.01, seed=1, least=2)]).tolist() == [2, 2, 2]
    units = np.repeat(np.arange(41), 3)  # units of three
    chosen = sample(classes, units, 0.5, seed=1)
    assert all(len(set(chosen[units == unit])) == 1 for unit in range(41))
