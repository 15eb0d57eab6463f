"""Rows that `predict` wrote, matched with the true labels of their images."""

import logging
import os
from collections.abc import Mapping, Sequence

from dinoclassify.discovery.labelled import Labelled
from dinoclassify.errors import UsageError
from dinoclassify.labels.groups import Groups, fold_ranks, group_finder, match_groups
from dinoclassify.labels.imagenet import are_imagenets, imagenet_labels
from dinoclassify.labels.matching import is_number, match_classes
from dinoclassify.messages import name_some
from dinoclassify.results.evaluation.evaluate import LabelledPrediction
from dinoclassify.results.image_file import file_finder
from dinoclassify.results.reader import read_predictions
from dinoclassify.types.prediction import Prediction

log = logging.getLogger(__name__)

_LONGEST_INDEX = 5  # digits
_MOST_CLASSES = 1_000_000


def match_to_truth(
    name: str, images: Sequence[Labelled], classes: Sequence[str], groups: Groups | None = None, *, multi_label: bool
) -> tuple[list[LabelledPrediction], list[str]]:
    """The rows of the labelled images with their true classes, and the names of the classes, by index.

    A row belongs to an image if their absolute paths are equal. With ``groups``, labels and rows are folded into these;
    rows may be folded already. With ``multi_label``, rows have the scores of all classes, so a label that none of them
    has is an error.

    Raises:
        UsageError: see `read_predictions`; or no row belongs to an image, or a label is not a class.
    """
    truths = {os.path.abspath(image.path): image.labels for image in images}
    find = file_finder(name)
    rows = {os.path.abspath(find(row)): row for row in read_predictions(name)}
    matches = {path: row for path, row in rows.items() if path in truths}
    if not matches:
        raise UsageError(
            f"{name} has no rows for these images, such as {images[0].path}: name the images by the paths in that file"
        )
    if lacking := len(truths) - len(matches):
        log.warning("%s images have no row in %s", f"{lacking:,}", name)
    if others := len(rows) - len(matches):
        log.warning("%s rows of %s are of other images and left out", f"{others:,}", name)
    known = {label.index: label.label for row in matches.values() for label in row.top}
    if max(known, default=0) >= _MOST_CLASSES:
        raise UsageError(f"{name} has a class of index {max(known)}: is it what predict wrote?")
    if groups is not None:
        return _grouped(matches, truths, classes, known, groups, name), list(groups.names)
    labels = _labels(known, classes)
    index_of = match_classes(classes, labels, name, all_known=multi_label or are_imagenets(known))
    if unpredicted := [label for label in classes if label not in index_of]:
        log.warning("never predicted in %s: %s", name, name_some(unpredicted))
    for label in classes:
        if label not in index_of:
            index_of[label] = len(labels)
            labels.append(label)
        elif not labels[index_of[label]]:
            labels[index_of[label]] = label  # an index, so the row has no name for it
    return [(row, tuple(index_of[label] for label in truths[path])) for path, row in matches.items()], labels


def _grouped(
    rows: Mapping[str, Prediction],
    truths: Mapping[str, Sequence[str]],
    classes: Sequence[str],
    known: Mapping[int, str],
    groups: Groups,
    name: str,
) -> list[LabelledPrediction]:
    """Rows and true classes, folded into groups. Rows that are folded already name groups instead of classes."""
    folded = set(known.values()) <= set(groups.names)
    group_index = match_groups(classes, groups, imagenet_labels() if folded else _labels(known, classes), name)
    group_of = group_finder(groups)
    return [
        (fold_ranks(row, groups.names, group_of), tuple({group_index[label] for label in truths[path]}))
        for path, row in rows.items()
    ]


def _labels(known: Mapping[int, str], classes: Sequence[str]) -> list[str]:
    """The class names, by index: all of ImageNet's if the known ones are, else empty where unknown."""
    if are_imagenets(known):
        return [known.get(index, label) for index, label in enumerate(imagenet_labels())]
    indices = list(known)
    if not any(is_number(label) for label in known.values()):
        indices += [int(name) for name in classes if name.isdecimal() and len(name) <= _LONGEST_INDEX]
    return [known.get(index, "") for index in range(max(indices, default=-1) + 1)]
