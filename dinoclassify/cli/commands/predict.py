"""`dinoclassify predict`."""

import hashlib
import os
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

import typer

from dinoclassify.cli import option_groups, options
from dinoclassify.cli.checks import reject_options
from dinoclassify.cli.options import DASH
from dinoclassify.cli.runs.inputs import print_inputs
from dinoclassify.cli.runs.request import Request, check_run
from dinoclassify.cli.runs.to_file import write_rows
from dinoclassify.cli.runs.to_folder import check_parts, write_parts
from dinoclassify.cli.terminal import set_up_log
from dinoclassify.errors import UsageError
from dinoclassify.labels.groups import Groups, read_groups
from dinoclassify.labels.label_file import LabelFile, read_labels
from dinoclassify.types.prediction import Prediction
from dinoclassify.writers.formats import choose_format, open_format
from dinoclassify.writers.target import Target

if TYPE_CHECKING:
    from dinoclassify.loaded_model import Job

_ROW_OPTIONS = frozenset(
    {"output", "output_format", "resume", "fresh", "retry_failed", "prune", "max_prune", "errors_to", "watch", "status"}
)


@option_groups.expand_groups
def predict(
    context: typer.Context,
    *,
    inputs: option_groups.Inputs,
    list_inputs: options.ListInputs = False,
    model: option_groups.ModelOptions,
    inference: option_groups.InferenceOptions,
    top_k: options.TopK = None,
    threshold: options.Threshold = None,
    labels: options.Labels = None,
    groups: options.Groups = None,
    output: options.RowsTo = DASH,
    output_format: options.Format = None,
    excel_safe: options.ExcelSafe = False,
    output_options: option_groups.OutputOptions,
    watch: options.Watch = False,
    status: options.StatusFile = None,
    engine: option_groups.EngineOptions,
    messages: option_groups.Messages,
) -> int:
    """Label images.

    Writes one row for each image, in order. An image that cannot be read or decoded gets a row too: its status is
    `failed`, and the row says why.

    Examples:
      dinoclassify predict photos/ -o labels.csv
      dinoclassify predict photos/ -o labels.csv --resume
      find photos -name '*.jpg' -print0 | dinoclassify predict -0 -
    """
    set_up_log(messages)
    if list_inputs:
        reject_options(context, _ROW_OPTIONS, "--list prints the inputs, and writes no rows")
        print_inputs(inputs, quiet=messages.quiet)
        return 0
    target = _target(output, output_format, excel_safe=excel_safe)
    tables = [name for name in (labels, groups) if name]
    request = Request(inputs, inference, target, output_options, messages, context.params, tables)
    check_run(request)
    check_parts(request, engine)
    if watch:
        from dinoclassify.cli.runs.watch import check_watch, watch_rows  # a library of its own, for one option

        check_watch(request, status)
    elif status is not None:
        raise UsageError("--status goes with --watch")

    names = read_labels(labels) if labels is not None else None
    group_table = read_groups(groups) if groups is not None else None
    if top_k is not None:
        classes = group_table.names if group_table is not None else names.names if names is not None else ()
        ranks = min(top_k, len(classes)) if classes else top_k
        open_format(target.file_format.name, ranks)  # raises, before the model is opened, if it cannot hold so many

    open_job = partial(_open_job, model, names, group_table, top_k, threshold, target.file_format.name)
    if watch:
        return watch_rows(open_job, request, status)
    if engine.engine == "ray":
        return write_parts(open_job, request, engine)
    return write_rows(open_job, request)


def _target(output: str, output_format: str | None, *, excel_safe: bool) -> Target:
    """Return where rows go. A name that ends in / or is that of a folder means a folder of parts."""
    file = None if output in (DASH, "") else output
    in_parts = file is not None and (file.endswith("/") or os.path.isdir(file))
    chosen = choose_format(file, output_format or ("parquet" if in_parts else None), excel_safe=excel_safe)
    return Target(file, chosen, in_parts)


def _open_job(
    model: option_groups.ModelOptions,
    names: LabelFile | None,
    groups: Groups | None,
    top_k: int | None,
    threshold: float | None,
    format_name: str,
) -> "Job[Prediction]":
    """Open the classifier. Rows have up to ``top_k`` labels, or as many as there are classes; None: its default."""
    from dinoclassify.classifier import Classifier
    from dinoclassify.loaded_model import Job

    classifier = Classifier(model.model, labels=names, groups=groups, **model.arguments())
    ranks = min(classifier.default_top_k if top_k is None else top_k, len(classifier.labels))
    threshold = classifier.default_threshold if threshold is None else threshold
    return Job(
        model=classifier,
        infer=partial(classifier.classify_batches, top_k=ranks, threshold=threshold),
        row_format=open_format(format_name, ranks),
        settings={
            "labels": _digest(classifier.classes),
            "groups": _digest(map(classifier.labels.__getitem__, classifier.group_of or ())) if groups else None,
            "top-k": ranks,
            "threshold": threshold,
        },
        outputs={"labels": len(classifier.labels), "multi_label": classifier.multi_label},
    )


def _digest(names: Iterable[str]) -> str:
    labels = tuple(names)
    digest = hashlib.sha256("\n".join(labels).encode("utf-8", "surrogateescape")).hexdigest()
    return f"{len(labels)} of sha256 {digest[:16]}"
