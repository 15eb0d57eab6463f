"""The classes that there are enough images of."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from dinoclassify.discovery.labelled import Labelled
from dinoclassify.errors import UsageError
from dinoclassify.messages import name_some

log = logging.getLogger(__name__)

LEAST = 2  # images of a class: one to learn from, one to evaluate on


def drop_rare(
    images: Sequence[Labelled],
    classes: Sequence[str],
    least: int,
    *,
    multi_label: bool,
    units: Sequence[int] | None = None,
) -> tuple[list[Labelled], tuple[str, ...]]:
    """The images and the classes without the classes of fewer than ``least`` images, which a warning names.

    Images with the same number in ``units`` count once. With ``multi_label``, images only lose these labels.

    Raises:
        UsageError: too few classes are left to train on.
    """
    if not classes:
        raise UsageError("no image has a label: there is nothing to train")
    if len(classes) == 1 and not multi_label:
        raise UsageError(f"all images are of one class, {classes[0]}: training needs two or more")
    counts = _count(images, range(len(images)) if units is None else units)
    rare = [f"{label} ({counts[label]})" for label in classes if counts[label] < least]
    common = tuple(label for label in classes if counts[label] >= least)
    if not rare:
        return list(images), common
    few = f"fewer than {least} images" + ("" if units is None else ", where copies and groups count once")
    if len(common) < (1 if multi_label else 2):
        raise UsageError(f"too few classes are left: {name_some(rare)} have {few}: add some")
    log.warning("left out, with %s: %s", few, name_some(rare))
    names = set(common)
    kept = [replace(image, labels=tuple(label for label in image.labels if label in names)) for image in images]
    return [image for image in kept if multi_label or image.labels], common


def count_readable(images: Sequence[Labelled], classes: Sequence[str], *, multi_label: bool) -> dict[str, int]:
    """The number of images of each class; these are the images that could be read.

    Raises:
        UsageError: they are too few of a class, or too few lack a label.
    """
    counter = _count(images, range(len(images)))
    counts = {label: counter[label] for label in classes}
    if few := [f"{label} ({count})" for label, count in counts.items() if count < LEAST]:
        raise UsageError(
            f"each class needs {LEAST} readable images: add some to {name_some(few)}, or leave the class out"
        )
    if everywhere := [label for label in classes if multi_label and len(images) - counts[label] < LEAST]:
        raise UsageError(
            f"at least {LEAST} images must lack the label {everywhere[0]}: add some, or leave that label out"
        )
    return counts


def _count(images: Sequence[Labelled], units: Sequence[int]) -> Counter[str]:
    """The number of units of each label."""
    pairs = {(label, unit) for image, unit in zip(images, units, strict=True) for label in image.labels}
    return Counter(label for label, _ in pairs)
