"""`dinoclassify evaluate`."""

from dataclasses import fields
from typing import TYPE_CHECKING

import typer

from dinoclassify.cli import learning_options, options
from dinoclassify.cli.checks import reject_options
from dinoclassify.cli.labelled import Truth, read_truth
from dinoclassify.cli.option_groups import InferenceOptions, Messages, ModelOptions, TruthOptions, expand_groups
from dinoclassify.cli.runs.progress import log_model, log_stages, report_interruption, with_progress
from dinoclassify.cli.runs.summary import SOME_FAILED, arrow_to, describe_counts, summarize
from dinoclassify.cli.terminal import print_json, say, set_up_log
from dinoclassify.discovery.path_list import listed_source
from dinoclassify.errors import UsageError
from dinoclassify.messages import count_of
from dinoclassify.system.environment import check_addresses
from dinoclassify.timing import StageTimer
from dinoclassify.types.prediction import LIKELY
from dinoclassify.writers.tally import Tally

if TYPE_CHECKING:
    from dinoclassify.classifier import Classifier
    from dinoclassify.labels.groups import Groups
    from dinoclassify.results.evaluation.figures import Evaluation
    from dinoclassify.results.evaluation.labelled_prediction import LabelledRows


@expand_groups
def evaluate(
    context: typer.Context,
    *,
    truth: TruthOptions,
    predictions: learning_options.Predictions = None,
    model: ModelOptions,
    inference: InferenceOptions,
    groups: options.Groups = None,
    threshold: learning_options.YesScore = None,
    target_precision: learning_options.TargetPrecision = None,
    as_json: options.AsJson = False,
    as_csv: learning_options.AsCsv = False,
    plots: learning_options.Plots = None,
    plot_format: learning_options.PlotFormat = "png",
    messages: Messages,
) -> int:
    """Measure how good a model, or a file of rows, is.

    Compares labels with the known classes of images. Prints accuracy, calibration, figures of each class,
    confusions and the worst mistakes. A class may be written as the model names it, as its index or, for ImageNet,
    as its WordNet id.

    Examples:
      dinoclassify evaluate labelled/ -m ./my-model
      dinoclassify evaluate --labels-from truth.csv --predictions labels.csv
    """
    set_up_log(messages)
    _check_output(context, as_json=as_json, as_csv=as_csv, plots=plots)
    if groups is not None and truth.multi_label:
        raise UsageError("--groups adds up scores of classes that exclude each other: leave out --multi-label")
    if predictions is not None:
        names = [field.name for field in (*fields(model), *fields(inference))]
        reject_options(context, names, "--predictions runs no model")
        _check_threshold(threshold, multi_label=truth.multi_label)
    labelled = read_truth(truth)
    if plots is not None:
        from dinoclassify.results.evaluation.plots import make_folder

        make_folder(plots)
    from dinoclassify.labels.groups import read_groups
    from dinoclassify.results.evaluation.evaluate import evaluate as evaluate_rows

    group_table = read_groups(groups) if groups is not None else None
    tally = Tally(None)
    if predictions is not None:
        rows = _read(predictions, labelled, group_table, threshold, tally, multi_label=truth.multi_label)
    else:
        classifier = _open(model, group_table, threshold, multi_label=truth.multi_label)
        rows = _predict(labelled, classifier, inference, group_table, threshold, messages, tally)
    evaluation = evaluate_rows(rows, target_precision=target_precision)
    _print(evaluation, rows, as_json=as_json, as_csv=as_csv)
    _draw(evaluation, plots, plot_format)
    if not messages.quiet:
        say(summarize(tally, plots) if predictions is None else _summarize_rows(tally, rows, predictions, plots))
    return SOME_FAILED if evaluation.failed or rows.missing else 0


def _check_output(context: typer.Context, *, as_json: bool, as_csv: bool, plots: str | None) -> None:
    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other: leave one out")
    if plots is None:
        reject_options(context, ["plot_format"], "nothing is drawn without --plots")


def _check_threshold(threshold: float | None, *, multi_label: bool) -> None:
    if threshold is not None and not multi_label:
        raise UsageError("--threshold goes with --multi-label: leave it out, or see --target-precision")


def _print(evaluation: "Evaluation", rows: "LabelledRows", *, as_json: bool, as_csv: bool) -> None:
    from dinoclassify.cli import evaluation_json, evaluation_tables

    if as_json:
        print_json(evaluation_json.as_json(evaluation, missing=rows.missing, extra=rows.extra))
    elif as_csv:
        evaluation_tables.print_csv(evaluation)
    else:
        evaluation_tables.show(evaluation)


def _draw(evaluation: "Evaluation", folder: str | None, plot_format: learning_options.PlotFormat) -> None:
    if folder is not None and evaluation.images:
        from dinoclassify.results.evaluation.plots import write_plots

        write_plots(folder, evaluation, plot_format)


def _summarize_rows(tally: Tally, rows: "LabelledRows", predictions: str, plots: str | None) -> str:
    missing = f"; {count_of(rows.missing, 'labelled image')} without a row" if rows.missing else ""
    extra = f"; {count_of(rows.extra, 'row')} for images without a label" if rows.extra else ""
    counts = f"{count_of(tally.total, 'row')} of {predictions}: {describe_counts(tally)}"
    return f"{counts}{missing}{extra}{arrow_to(plots)}"


def _read(
    predictions: str,
    labelled: Truth,
    groups: "Groups | None",
    threshold: float | None,
    tally: Tally,
    *,
    multi_label: bool,
) -> "LabelledRows":
    """Read a file of predictions, and count its rows."""
    from dinoclassify.results.evaluation.saved_predictions import match_to_truth

    rows = match_to_truth(
        predictions, labelled.images, labelled.classes, groups, multi_label=multi_label, threshold=threshold
    )
    for each in rows.rows:
        tally.add(each.row)
    return rows


def _open(model: ModelOptions, groups: "Groups | None", threshold: float | None, *, multi_label: bool) -> "Classifier":
    """Open the model, and check that it goes with the options."""
    check_addresses()
    from dinoclassify.classifier import Classifier

    classifier = Classifier(model.model, groups=groups, **model.arguments())
    log_model(classifier.info)
    if multi_label and not classifier.multi_label:
        raise UsageError(f"{classifier.model} gives one label an image: leave out --multi-label")
    _check_threshold(threshold, multi_label=classifier.multi_label)
    return classifier


def _predict(
    labelled: Truth,
    classifier: "Classifier",
    inference: InferenceOptions,
    groups: "Groups | None",
    threshold: float | None,
    messages: Messages,
    tally: Tally,
) -> "LabelledRows":
    """Predict all images."""
    from dinoclassify.labels.groups import match_groups
    from dinoclassify.labels.matching import match_classes
    from dinoclassify.results.evaluation.labelled_prediction import (
        RANKS,
        LabelledPrediction,
        LabelledRows,
        with_truth,
    )

    if groups is None:
        classes = match_classes(labelled.classes, classifier.labels, classifier.model)
    else:
        classes = match_groups(labelled.classes, groups, classifier.classes, classifier.model)
    sources = [listed_source(image.path) for image in labelled.images]
    count = len(classifier.labels)
    ranks = count if classifier.multi_label else RANKS
    stages = StageTimer()
    rows: list[LabelledPrediction] = []
    with report_interruption(tally) as stop, stages.measure("write"):
        run = inference.run_options(stages, stop)
        batches = classifier.decoded(sources, run)
        predictions = classifier.score_batches(batches, top_k=ranks, threshold=0, options=run)
        predictions = with_progress(predictions, messages, total=lambda: len(sources))
        for (row, scores), image in zip(predictions, labelled.images, strict=False):  # fewer rows after a signal
            tally.add(row)
            truths = tuple(classes[label] for label in image.labels)
            many = classifier.multi_label
            rows.append(LabelledPrediction(row, truths) if many else with_truth(row, truths[0], scores))
    log_stages(run, classifier)
    labels = classifier.labels if groups is None else groups.names
    return LabelledRows(rows, labels, classifier.multi_label, LIKELY if threshold is None else threshold)
