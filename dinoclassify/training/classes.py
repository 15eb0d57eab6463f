"""The classes that there are enough images of."""

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from itertools import count
from typing import TYPE_CHECKING

from dinoclassify.errors import NoInputsError, UsageError
from dinoclassify.messages import name_some

if TYPE_CHECKING:
    from dinoclassify.discovery.labelled import Labelled

log = logging.getLogger(__name__)

LEAST = 2  # images of a class: one to learn from, one to evaluate on


def common_classes(
    images: Sequence["Labelled"],
    classes: Sequence[str],
    least: int,
    *,
    multi_label: bool,
    units: Sequence[int] | None = None,
) -> tuple[str, ...]:
    """The classes of ``least`` images or more. A warning names the others.

    Images with the same number in ``units`` count once.

    Raises:
        UsageError: too few classes are left to train on.
    """
    if not classes:
        raise UsageError("no image has a label: there is nothing to train")
    if len(classes) == 1 and not multi_label:
        raise UsageError(f"all images are of one class, {classes[0]}: training needs two or more")
    counts = count_units((image.labels for image in images), count() if units is None else units)
    rare = [f"{label} ({counts[label]})" for label in classes if counts[label] < least]
    common = tuple(label for label in classes if counts[label] >= least)
    few = f"fewer than {least} images" + (
        "" if units is None else " that can be read; copies, and groups of --group-column, count once"
    )
    if len(common) < (1 if multi_label else 2):
        raise UsageError(f"too few classes are left: {name_some(rare)} have {few}: add some")
    if rare:
        log.warning("classes left out: %s have %s", name_some(rare), few)
    return common


def with_classes(images: Sequence["Labelled"], classes: Collection[str], *, multi_label: bool) -> list["Labelled"]:
    """The images with one of the classes; with ``multi_label`` all images, which may have other labels too."""
    return [image for image in images if multi_label or image.labels[0] in classes]


def check_readable(listed: Sequence["Labelled"], readable: Sequence["Labelled"]) -> None:
    """Check that each class has an image that could be read: otherwise its folder or disk is probably in trouble.

    Raises:
        NoInputsError: no image could be read.
        UsageError: no image of a class could be read.
    """
    if not readable:
        some = f"{len(listed):,} images can be read, such as {listed[0].path}"
        raise NoInputsError(f"none of the {some}: check where the paths start")
    before, after = (Counter(label for image in images for label in image.labels) for images in (listed, readable))
    if gone := [f"{label} ({before[label]:,})" for label in before if not after[label]]:
        raise UsageError(f"no image of these classes can be read: {name_some(gone)}: mend them, or leave the class out")


def check_lacking(labels: Sequence[tuple[str, ...]], units: Sequence[int], classes: Sequence[str]) -> None:
    """Check that `LEAST` units lack each label of a head with many labels an image.

    Raises:
        UsageError: they do not.
    """
    counts = count_units(labels, units)
    if everywhere := [label for label in classes if len(set(units)) - counts[label] < LEAST]:
        raise UsageError(
            f"at least {LEAST} images must lack the label {everywhere[0]}: add some, or leave that label out"
        )


def count_units(labels: Iterable[tuple[str, ...]], units: Iterable[int]) -> Counter[str]:
    """The number of units with each label; ``labels`` are those of each image."""
    pairs = {(label, unit) for of_image, unit in zip(labels, units, strict=False) for label in of_image}
    return Counter(label for label, _ in pairs)
