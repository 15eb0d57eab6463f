"""Methods that need no training, on the folds of the head."""

from collections.abc import Sequence

import numpy as np

from dinoclassify.training.extra import needs_train_extra
from dinoclassify.training.folds import Fold, Integers
from dinoclassify.training.head import Features

with needs_train_extra():
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.preprocessing import normalize

NEIGHBOURS = 5
COMMONEST, CLASS_MEAN, NEAREST = "most common class", "nearest class mean", f"{NEIGHBOURS} nearest images"

_MOST_COMPARED = 1000  # held-out images of a fold that get a nearest-neighbour search: each costs a full scan


def baselines(features: Features, classes: Integers, folds: Sequence[Fold]) -> dict[str, Integers]:
    """The predicted class of each held-out image, by method, on features of length 1; -1 where none is predicted.

    The most common class is that of all images that some fold trains on.
    """
    unit = normalize(features)
    commonest, by_mean, by_neighbours = np.full((3, len(classes)), -1)
    most = int(np.bincount(classes[np.unique(np.concatenate([train for train, _ in folds]))]).argmax())
    for train, held_out in folds:
        known, names = unit[train], classes[train]
        occurring = np.unique(names)
        commonest[held_out] = most
        class_means = np.stack([known[names == name].mean(axis=0) for name in occurring])
        nearest = KNeighborsClassifier(1).fit(class_means, np.arange(len(occurring)))
        by_mean[held_out] = occurring[nearest.predict(unit[held_out])]
        sample = held_out[:: -(-len(held_out) // _MOST_COMPARED)]
        neighbours = KNeighborsClassifier(min(NEIGHBOURS, len(known))).fit(known, names)
        by_neighbours[sample] = neighbours.predict(unit[sample])
    return {CLASS_MEAN: by_mean, NEAREST: by_neighbours, COMMONEST: commonest}
