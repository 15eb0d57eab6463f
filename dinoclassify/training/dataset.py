"""Embedded images -> what a head is trained on and, apart from it, what it is tested on."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dinoclassify.discovery.labelled import Labelled
from dinoclassify.errors import UsageError
from dinoclassify.training.classes import LEAST, count_readable, drop_rare
from dinoclassify.training.copies import as_units, check_labels, find_copies
from dinoclassify.training.folds import Flags, Integers, sample

log = logging.getLogger(__name__)


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
class Prepared:
    """The images to train on, those of the test, and the number of images of each class to train on."""

    known: Dataset
    test: Dataset | None
    counts: Mapping[str, int]


def prepare(
    images: Images,
    classes: Sequence[str],
    *,
    test: Images | None = None,
    holdout: float = 0.0,
    least: int = LEAST,
    multi_label: bool = False,
    seed: int = 0,
) -> Prepared:
    """Find copies among the images, leave out rare classes, and set apart the share ``holdout`` of the images.

    Images of ``test`` that are copies of others to train on are left out, as is what no class to train on has.

    Raises:
        UsageError: copies have different labels, or too few images are left.
    """
    count_readable(images.labelled, classes, multi_label=multi_label)
    tested = test if test is not None else Images((), images.features[:0], ())
    everything = [*images.labelled, *tested.labelled]
    first = find_copies([image.path for image in everything], [*images.sizes, *tested.sizes])
    check_labels(everything, first)
    units = as_units(everything, first)
    size = len(images.labelled)
    _report_copies(first[:size])
    kept, classes = drop_rare(images.labelled, classes, least, multi_label=multi_label, units=units[:size].tolist())
    known = _select(images, kept, units[:size])
    if holdout:
        known, held_out = _hold_out(known, classes, holdout, seed)
        return Prepared(known, held_out, _count(known, classes))
    judged = _test(tested, classes, is_new=first[size:] >= size, units=units[size:]) if test is not None else None
    return Prepared(known, judged, _count(known, classes))


def _report_copies(first: Integers) -> None:
    if copies := int((first != np.arange(len(first))).sum()):
        log.warning("%s images are copies of others: each stays in one fold with its original", f"{copies:,}")


def _select(images: Images, kept: Sequence[Labelled], units: Integers) -> Dataset:
    """The kept images, which may have lost labels, as a dataset."""
    labels = {image.path: image.labels for image in kept}
    chosen = np.array([image.path in labels for image in images.labelled])
    return Dataset(images.features[chosen], [image.labels for image in kept], units[chosen])


def _test(test: Images, classes: Sequence[str], *, is_new: Flags, units: Integers) -> Dataset:
    """The images of a test that are no copies and have labels of these classes only."""
    if copies := int((~is_new).sum()):
        log.warning("%s images of the test are copies of images to train on, and are left out", f"{copies:,}")
    is_known = np.array([set(image.labels) <= set(classes) for image in test.labelled], bool)
    if others := int((~is_known).sum()):
        log.warning("%s images of the test are of classes that are left out", f"{others:,}")
    chosen = is_new & is_known
    if not chosen.any():
        raise UsageError("the test has no images of its own: name others with --test")
    labels = [image.labels for image, is_chosen in zip(test.labelled, chosen, strict=True) if is_chosen]
    return Dataset(test.features[chosen], labels, units[chosen])


def _hold_out(images: Dataset, classes: Sequence[str], share: float, seed: int) -> tuple[Dataset, Dataset]:
    """The images to train on, and the share that is held out of each class."""
    is_known = sample(_strata(images.labels, classes), images.units, 1 - share, seed, least=LEAST)
    known, held_out = _part(images, is_known), _part(images, ~is_known)
    if not len(held_out.labels):
        raise UsageError(f"--holdout {share:g} holds no image back: choose a larger share")
    if few := [label for label, count in _count(known, classes).items() if count < LEAST]:
        raise UsageError(f"--holdout {share:g} leaves too few images of {few[0]}: choose a smaller share")
    return known, held_out


def _strata(labels: Sequence[tuple[str, ...]], classes: Sequence[str]) -> Integers:
    """A class for each image, to part images by: its label, or the rarest of many; one more if it has none."""
    number = {label: index for index, label in enumerate(classes)}
    counts = Counter(label for image_labels in labels for label in image_labels)
    rarest = [min(image_labels, key=counts.__getitem__, default="") for image_labels in labels]
    return np.array([number.get(label, len(classes)) for label in rarest], np.intp)


def _part(images: Dataset, chosen: Flags) -> Dataset:
    labels = [labels for labels, is_chosen in zip(images.labels, chosen, strict=True) if is_chosen]
    return Dataset(images.features[chosen], labels, images.units[chosen])


def _count(images: Dataset, classes: Sequence[str]) -> dict[str, int]:
    counts = Counter(label for labels in images.labels for label in labels)
    return {label: counts[label] for label in classes}
