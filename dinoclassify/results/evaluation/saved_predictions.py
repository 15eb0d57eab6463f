"""Rows that `predict` wrote, matched with the true labels of their images."""

import logging
import os
from collections.abc import Mapping, Sequence

from dinoclassify.discovery.labelled import Labelled
from dinoclassify.errors import UsageError
from dinoclassify.labels.groups import Groups, fold_ranks, group_finder, match_groups
from dinoclassify.labels.imagenet import are_imagenets, imagenet_labels
from dinoclassify.labels.matching import is_number, match_classes
from dinoclassify.messages import count_of, name_some
from dinoclassify.results.evaluation.answer_threshold import choose_threshold
from dinoclassify.results.evaluation.labelled_prediction import (
    LabelledPrediction,
    LabelledRows,
    scores_in,
    with_truth,
)
from dinoclassify.results.image_file import file_finder
from dinoclassify.results.reader import read_predictions
from dinoclassify.results.run_facts import RunFacts, read_facts
from dinoclassify.types.prediction import LIKELY, Prediction

log = logging.getLogger(__name__)

_LONGEST_INDEX = 5  # digits
_MOST_CLASSES = 1_000_000

Rows = Mapping[str, Prediction]  # by absolute path
Truths = Mapping[str, Sequence[str]]  # the labels of each image, by its absolute path


def match_to_truth(
    name: str,
    images: Sequence[Labelled],
    classes: Sequence[str],
    groups: Groups | None = None,
    *,
    multi_label: bool,
    threshold: float | None = None,
) -> LabelledRows:
    """The rows of the labelled images with their true classes, and the names of the classes.

    A row belongs to an image if their absolute paths are equal. With ``groups``, labels and rows are folded into these;
    rows may be folded already. For ``threshold``, which goes with ``multi_label``, see `choose_threshold`.

    Raises:
        UsageError: see `read_predictions` and `choose_threshold`; or no row belongs to an image, or a label is not a
            class.
    """
    truths = {os.path.abspath(image.path): image.labels for image in images}
    find = file_finder(name)
    rows = {os.path.abspath(find(row)): row for row in read_predictions(name)}
    matches = {path: row for path, row in rows.items() if path in truths}
    if not matches:
        raise UsageError(
            f"{name} has no rows for these images, such as {images[0].path}: name the images by the paths in that file"
        )
    if missing := len(truths) - len(matches):
        log.warning("%s without a row in %s", count_of(missing, "image"), name)
    if extra := len(rows) - len(matches):
        log.warning("%s of %s for images without a label: left out", count_of(extra, "row"), name)
    known = {label.index: label.label for row in matches.values() for label in row.top}
    if max(known, default=0) >= _MOST_CLASSES:
        raise UsageError(f"{name} has a class of index {max(known)}: is it what predict wrote?")
    facts = read_facts(name)
    if groups is not None:
        grouped = _grouped(matches, truths, classes, known, groups, facts, name)
        return LabelledRows(grouped, groups.names, missing=missing, extra=extra)
    labels = _labels(known, classes, facts)
    index_of = _index_classes(classes, labels, known, facts, name)
    total = facts.classes or len(labels)
    if multi_label:
        used = choose_threshold(list(matches.values()), facts, len(labels), threshold, name)
        labelled = [
            LabelledPrediction(row, tuple(index_of[label] for label in truths[path])) for path, row in matches.items()
        ]
    else:
        used = LIKELY
        labelled = [with_truth(row, index_of[truths[path][0]], scores_in(row, total)) for path, row in matches.items()]
    return LabelledRows(labelled, labels, multi_label, used, missing, extra)


def _grouped(
    rows: Rows,
    truths: Truths,
    classes: Sequence[str],
    known: Mapping[int, str],
    groups: Groups,
    facts: RunFacts,
    name: str,
) -> list[LabelledPrediction]:
    """Rows and true classes, folded into groups. Rows that are folded already name groups instead of classes."""
    folded = set(known.values()) <= set(groups.names)
    labels = _labels(known, classes, facts) if not folded else []
    group_index = match_groups(classes, groups, imagenet_labels() if folded else labels, name)
    group_of = group_finder(groups)
    total = facts.classes or len(groups.names if folded else labels)
    labelled = []
    for path, row in rows.items():
        groups_of_row = fold_ranks(row, groups.names, group_of, multi_label=facts.multi_label)
        scores = scores_in(groups_of_row, len(groups_of_row.top)) if len(row.top) == total else None
        labelled.append(with_truth(groups_of_row, group_index[truths[path][0]], scores))
    return labelled


def _index_classes(
    classes: Sequence[str], labels: list[str], known: Mapping[int, str], facts: RunFacts, name: str
) -> dict[str, int]:
    """The index of each class that an image has. A class that no row has gets a free one, and a place in ``labels``."""
    all_known = are_imagenets(known) or (facts.classes is not None and all(labels))
    index_of = match_classes(classes, labels, name, all_known=all_known)
    if unpredicted := [label for label in classes if label not in index_of]:
        log.warning("never predicted in %s: %s", name, name_some(unpredicted))
    for label, index in index_of.items():
        labels[index] = labels[index] or label  # an index, so the row has no name for it
    free = [index for index, label in enumerate(labels) if not label] if facts.classes is not None else []
    for label in unpredicted:
        if not free:
            free.append(len(labels))
            labels.append(label)
        index_of[label] = free.pop(0)
        labels[index_of[label]] = label
    return index_of


def _labels(known: Mapping[int, str], classes: Sequence[str], facts: RunFacts) -> list[str]:
    """The class names, by index: all of ImageNet's if the known ones are, else empty where unknown."""
    if are_imagenets(known):
        return [known.get(index, label) for index, label in enumerate(imagenet_labels())]
    count = max(known, default=-1) + 1
    if facts.classes is not None:
        count = max(count, min(facts.classes, _MOST_CLASSES))
    elif not any(is_number(label) for label in known.values()):
        indices = [int(name) for name in classes if name.isdecimal() and len(name) <= _LONGEST_INDEX]
        count = max(count, *(index + 1 for index in indices), 0)
    return [known.get(index, "") for index in range(count)]
