"""Images -> folds for cross-validation, and samples. Images of one unit are never parted.

A unit is an image with its copies or, with ``--group-column``, all images of a group. It is a whole number.
"""

import warnings

import numpy as np
import numpy.typing as npt

from dinoclassify.training.extra import needs_train_extra

with needs_train_extra():
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

Integers = npt.NDArray[np.intp]
Fold = tuple[Integers, Integers]  # indices of training images, of held-out images

FOLDS = 5
ONE_FOLD_FROM = 20_000  # images: with as many, one fold of them is enough


def split(classes: Integers, units: Integers, seed: int) -> list[Fold]:
    """The folds of images by class, stratified; from `ONE_FOLD_FROM` images on, one fold of five.

    Each class has two units or more. A fold without two classes to train on is left out.
    """
    pairs = np.unique(np.stack([classes, units]), axis=1)  # each class with each of its units
    count = min(FOLDS, int(np.bincount(pairs[0]).max()))
    has_groups = len(np.unique(units)) < len(units)
    splitter = (StratifiedGroupKFold if has_groups else StratifiedKFold)(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a class with fewer images than folds
        folds = [
            (train, held_out)
            for train, held_out in splitter.split(np.zeros(len(classes)), classes, units if has_groups else None)
            if len(held_out) and len(np.unique(classes[train])) > 1
        ]
    return folds[:1] if len(classes) >= ONE_FOLD_FROM else folds


def sample(classes: Integers, units: Integers, share: float, seed: int, *, least: int = 1) -> Integers:
    """Units at random: of each class this share of its units, ``least`` or more.

    ``classes`` and ``units`` are pairs: a unit may have several classes. It is taken if one of them takes it. A smaller
    share with the same seed is part of a larger one.
    """
    names, unit_of = np.unique(units, return_inverse=True)
    pair_classes, pair_units = np.unique(np.stack([classes, unit_of]), axis=1)
    rank = np.random.default_rng(seed).permutation(len(names))
    order = np.lexsort((rank[pair_units], pair_classes))  # by class, at random within it
    counts = np.bincount(pair_classes)
    place = np.concatenate([np.arange(count) for count in counts])
    wanted = np.maximum(np.round(share * counts), least)
    taken = place < wanted[pair_classes[order]]
    chosen: Integers = names[np.unique(pair_units[order][taken])]
    return chosen
