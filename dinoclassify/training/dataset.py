"""Embedded images -> what a head is trained on and, apart from it, what it is tested on."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dinoclassify.discovery.labelled import Labelled
from dinoclassify.errors import UsageError
from dinoclassify.messages import count_of
from dinoclassify.training.classes import LEAST, check_lacking, common_classes
from dinoclassify.training.copies import as_units, check_labels, find_copies
from dinoclassify.training.folds import Integers, sample

log = logging.getLogger(__name__)

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Images:
    """Images that could be read: their labels, their features (images x features), and the sizes of their files."""

    labelled: Sequence[Labelled]
    features: npt.NDArray[np.float32]
    sizes: Sequence[int | None]


@dataclass(frozen=True, slots=True)
class Dataset:
    """Images as features, images x features, with the labels of each, and its unit, see `training.folds`."""

    features: npt.NDArray[np.float32]
    labels: Sequence[tuple[str, ...]]
    units: Integers


@dataclass(frozen=True, slots=True)
class Split:
    """The images to train on, those of the test, and the number of images of each class to train on.

    held_out: how many of the images were set apart as the test.
    """

    train: Dataset
    test: Dataset | None
    counts: Mapping[str, int]
    held_out: int = 0


def prepare(
    images: Images,
    classes: Sequence[str],
    *,
    test: Images | None = None,
    holdout: float | None = None,
    least: int = LEAST,
    multi_label: bool = False,
    seed: int = 0,
) -> Split:
    """Find copies among the images, leave out rare classes, and set apart the share ``holdout`` of the images.

    Images of ``test`` that are copies of others to train on, or of a group of them, are left out, as are those of
    classes that are left out.

    Raises:
        UsageError: copies have different labels, or too few images are left.
    """
    size = len(images.labelled)
    everything = [*images.labelled, *(test.labelled if test is not None else ())]
    paths, sizes = [image.path for image in everything], [*images.sizes, *(test.sizes if test is not None else ())]
    first = find_copies(paths, sizes)
    check_labels(everything, first)
    units = as_units(everything, first)
    _report_copies(first[:size])
    classes = common_classes(images.labelled, classes, least, multi_label=multi_label, units=units[:size].tolist())
    train = _select(images, units[:size], classes, np.ones(size, bool), multi_label=multi_label)
    tested = None
    if holdout is not None:
        train, tested = _hold_out(train, holdout, seed)
    elif test is not None:
        tested = _test(test, units[size:], classes, ~np.isin(units[size:], units[:size]), multi_label=multi_label)
    if multi_label:
        check_lacking(train.labels, train.units.tolist(), classes)
    counts = Counter(label for labels in train.labels for label in labels)
    held_out = len(tested.labels) if tested is not None and holdout is not None else 0
    return Split(train, tested, {label: counts[label] for label in classes}, held_out)


def _report_copies(first: Integers) -> None:
    if copies := int((first != np.arange(len(first))).sum()):
        are = "is a copy of another" if copies == 1 else "are copies of others"
        log.warning("%s %s: copies stay in one fold", count_of(copies, "image"), are)


def _select(images: Images, units: Integers, classes: Sequence[str], chosen: Flags, *, multi_label: bool) -> Dataset:
    """The chosen images that have one of the classes, with their labels among these; with ``multi_label`` also none."""
    names = set(classes)
    labels = [tuple(label for label in image.labels if label in names) for image in images.labelled]
    chosen = chosen & np.array([multi_label or bool(each) for each in labels], bool)
    return Dataset(images.features[chosen], _chosen(labels, chosen), units[chosen])


def _test(images: Images, units: Integers, classes: Sequence[str], is_new: Flags, *, multi_label: bool) -> Dataset:
    """The images of a test that are no copies, and of no group, of images to train on."""
    if seen := int((~is_new).sum()):
        are = "is a copy, or of a group, of images" if seen == 1 else "are copies, or of groups, of images"
        log.warning("%s of the test %s to train on: left out", count_of(seen, "image"), are)
    tested = _select(images, units, classes, is_new, multi_label=multi_label)
    if others := int(is_new.sum()) - len(tested.labels):
        log.warning("%s of the test: left out with their classes", count_of(others, "image"))
    if not tested.labels:
        raise UsageError("the test has no images of its own: name others with --test")
    return tested


def _hold_out(images: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset]:
    """The images to train on, and those that are held out: about this share of each class."""
    pairs = [
        (label, unit)
        for labels, unit in zip(images.labels, images.units.tolist(), strict=True)
        for label in labels or ("",)
    ]
    classes = np.unique([label for label, _ in pairs], return_inverse=True)[1]
    kept = sample(classes, np.array([unit for _, unit in pairs]), 1 - share, seed, least=LEAST)
    is_kept = np.isin(images.units, kept)
    if is_kept.all():
        raise UsageError(f"--holdout {share:g} holds no image back: choose a larger share, or label more images")
    return _part(images, is_kept), _part(images, ~is_kept)


def _part(images: Dataset, chosen: Flags) -> Dataset:
    return Dataset(images.features[chosen], _chosen(images.labels, chosen), images.units[chosen])


def _chosen(labels: Sequence[tuple[str, ...]], chosen: Flags) -> list[tuple[str, ...]]:
    return [each for each, is_chosen in zip(labels, chosen, strict=True) if is_chosen]
