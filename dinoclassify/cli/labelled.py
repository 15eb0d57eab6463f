"""LABELLED_DIR or --labels-from -> images with their labels."""

import logging
import os
from dataclasses import dataclass, replace

from dinoclassify.cli.option_groups import TruthOptions
from dinoclassify.discovery.filters import Filters, InputSelector
from dinoclassify.discovery.labelled import SEPARATOR, Labelled, LabelTable, read_folders, read_table
from dinoclassify.discovery.path_list import has_table_suffix
from dinoclassify.discovery.roots import check_roots
from dinoclassify.errors import UsageError

log = logging.getLogger("dinoclassify")


@dataclass(frozen=True, slots=True)
class Truth:
    """Images with their labels, the names of all classes, and the folder or table they come from."""

    images: list[Labelled]
    classes: tuple[str, ...]
    source: str


def read_truth(truth: TruthOptions, *, group_column: str | None = None) -> Truth:
    """Read the labelled images, with their groups if the table has a column of these.

    Raises UsageError or NoInputsError, see `discovery.labelled`.
    """
    if truth.labels_from is None:
        if truth.folder is None:
            raise UsageError("name a folder with one folder for each class, or --labels-from a table")
        if truth.column is not None or truth.label_column is not None:
            raise UsageError("--column and --label-column go with --labels-from and a table")
        if group_column is not None:
            raise UsageError("--group-column goes with --labels-from and a table")
        images, classes = read_folders(truth.folder)
        return Truth(images, classes, truth.folder)
    if truth.folder is not None:
        check_roots([truth.folder], InputSelector(Filters()))
    table = LabelTable(truth.labels_from, truth.column or "path", truth.label_column or "label", group_column)
    images = read_table(table, truth.folder, many=truth.multi_label)
    classes = tuple(sorted({label for image in images for label in image.labels}))
    if not truth.multi_label and any(SEPARATOR in label for label in classes):
        log.warning("some labels in %s contain a semicolon: if they are several labels, use --multi-label", table.name)
    return Truth(images, classes, table.name)


def read_test(name: str, truth: TruthOptions, *, group_column: str | None = None) -> Truth:
    """Read the labelled images of a test: a folder, or a table like that of ``truth``. Raises as `read_truth` does."""
    if has_table_suffix(name) and not os.path.isdir(name):
        folder = truth.folder if truth.labels_from is not None else None
        return read_truth(replace(truth, folder=folder, labels_from=name), group_column=group_column)
    return read_truth(TruthOptions(folder=name, multi_label=truth.multi_label))
