"""Rows that `predict` wrote and what is known of their images -> answers that can be judged."""

import logging
import os
from collections.abc import Mapping, Sequence

from dinoclassify.discovery.labelled import Labelled
from dinoclassify.errors import UsageError
from dinoclassify.labels.groups import Groups, fold_ranks, group_finder, match_groups
from dinoclassify.labels.matching import are_imagenets, imagenet_labels, match_classes
from dinoclassify.messages import name_some
from dinoclassify.results.evaluation.figures import LabelledPrediction
from dinoclassify.results.reader import file_finder, read_predictions
from dinoclassify.types.prediction import Prediction

log = logging.getLogger(__name__)

_LONGEST_INDEX = 5  # digits
_MOST_CLASSES = 1_000_000


def match_to_truth(
    name: str,
    images: Sequence[Labelled],
    classes: Sequence[str],
    groups: Groups | None = None,
    *,
    multi_label: bool,
) -> tuple[list[LabelledPrediction], list[str]]:
    """The rows of a file for images of which something is known, and the names of the classes, by index.

    Args:
        name: see `read_predictions`.
        images: what is known of them. Paths are the same if they lead to the same place.
        classes: all labels that these have.
        groups: fold the rows into these, if they are not already, and the labels too.
        multi_label: rows have the scores of all classes, so that there are no others; nor are there of ImageNet's.

    Raises:
        UsageError: see `read_predictions`; or there are no such rows.
    """
    truths = {os.path.abspath(image.path): image.labels for image in images}
    find = file_finder(name)
    rows = {os.path.abspath(find(row)): row for row in read_predictions(name)}
    found = {path: row for path, row in rows.items() if path in truths}
    if not found:
        raise UsageError(f"{name} has no rows for these images, such as {images[0].path}: are paths the same?")
    if lacking := len(truths) - len(found):
        log.warning("%s images have no row in %s", f"{lacking:,}", name)
    if others := len(rows) - len(found):
        log.warning("%s rows of %s are of other images and left out", f"{others:,}", name)
    known = {label.index: label.label for row in found.values() for label in row.top}
    if max(known, default=0) >= _MOST_CLASSES:
        raise UsageError(f"{name} has a class of index {max(known)}: is it what predict wrote?")
    if groups is not None:
        return _grouped(found, truths, classes, known, groups, name), list(groups.names)
    labels = _labels(known, classes)
    index_of = match_classes(classes, labels, name, all_known=multi_label or are_imagenets(known))
    if lacking_classes := [label for label in classes if label not in index_of]:
        log.warning("never predicted in %s: %s", name, name_some(lacking_classes))
    for label in classes:
        if label not in index_of:
            index_of[label] = len(labels)
            labels.append(label)
        elif not labels[index_of[label]]:
            labels[index_of[label]] = label  # an index
    return [(row, tuple(index_of[label] for label in truths[path])) for path, row in found.items()], labels


def _grouped(
    rows: Mapping[str, Prediction],
    truths: Mapping[str, Sequence[str]],
    classes: Sequence[str],
    known: Mapping[int, str],
    groups: Groups,
    name: str,
) -> list[LabelledPrediction]:
    """Rows and truths, folded into groups; the rows may be so already, and then know nothing of classes."""
    folded = set(known.values()) <= set(groups.names)
    meant = match_groups(classes, groups, imagenet_labels() if folded else _labels(known, classes), name)
    group_of = group_finder(groups)
    return [
        (fold_ranks(row, groups.names, group_of), tuple({meant[label] for label in truths[path]}))
        for path, row in rows.items()
    ]


def _labels(known: Mapping[int, str], classes: Sequence[str]) -> list[str]:
    """The names of the classes, by index, as far as they are known: all of them if they are ImageNet's."""
    if are_imagenets(known):
        return [known.get(index, label) for index, label in enumerate(imagenet_labels())]
    indices = list(known)
    if not any(label.isdecimal() for label in known.values()):
        indices += [int(name) for name in classes if name.isdecimal() and len(name) <= _LONGEST_INDEX]
    return [known.get(index, "") for index in range(max(indices, default=-1) + 1)]
