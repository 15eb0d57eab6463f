"""The options that say what is known of pictures -> what is known of them."""

import logging
from dataclasses import dataclass

from dinoclassify.cli import options
from dinoclassify.discovery.filters import Filters, Rules
from dinoclassify.discovery.labelled import SEPARATOR, Labelled, LabelTable, read_folders, read_table
from dinoclassify.discovery.roots import check_roots
from dinoclassify.errors import UsageError

log = logging.getLogger("dinoclassify")


@dataclass(frozen=True, slots=True)
class Truth:
    """Pictures with their labels, the names of all classes, and where they are from."""

    pictures: list[Labelled]
    classes: tuple[str, ...]
    source: str


def read_truth(truth: options.TruthOptions) -> Truth:
    """What is known of the pictures.

    Raises:
        UsageError, NoInputsError: see `discovery.labelled`.
    """
    if truth.labels_from is None:
        if truth.folder is None:
            raise UsageError("name a folder with one folder for each class, or --labels-from a table")
        if truth.column is not None or truth.label_column is not None:
            raise UsageError("--column and --label-column go with --labels-from and a table")
        pictures, classes = read_folders(truth.folder)
        return Truth(pictures, classes, truth.folder)
    if truth.folder is not None:
        check_roots([truth.folder], Rules(Filters()))
    table = LabelTable(truth.labels_from, truth.column or "path", truth.label_column or "label")
    pictures = read_table(table, truth.folder, many=truth.multi_label)
    classes = tuple(sorted({label for picture in pictures for label in picture.labels}))
    if not truth.multi_label and any(SEPARATOR in label for label in classes):
        log.warning("some labels of %s have a semicolon in them: --multi-label takes them apart", table.name)
    return Truth(pictures, classes, table.name)
