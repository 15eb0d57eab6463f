"""`dinoclassify evaluate`."""

from dataclasses import asdict, fields
from typing import TYPE_CHECKING

import typer

from dinoclassify.cli import options
from dinoclassify.cli.checks import reject_options
from dinoclassify.cli.labelled import Truth, read_truth
from dinoclassify.cli.option_groups import InferenceOptions, Messages, ModelOptions, TruthOptions, expand_groups
from dinoclassify.cli.runs.progress import log_model, log_stages, report_interruption, with_progress
from dinoclassify.cli.runs.summary import SOME_FAILED, arrow_to, describe_counts, summarize
from dinoclassify.cli.terminal import print_csv, print_json, say, set_up_log
from dinoclassify.discovery.path_list import listed_source
from dinoclassify.errors import UsageError
from dinoclassify.messages import count_of
from dinoclassify.system.environment import check_addresses
from dinoclassify.timing import StageTimer
from dinoclassify.writers.tally import Tally

if TYPE_CHECKING:
    from dinoclassify.labels.groups import Groups
    from dinoclassify.results.evaluation.evaluate import Evaluation, LabelledPrediction

_RANKS = 5  # labels to predict for an image, for top-5 accuracy


@expand_groups
def evaluate(
    context: typer.Context,
    *,
    truth: TruthOptions,
    predictions: options.Predictions = None,
    model: ModelOptions,
    inference: InferenceOptions,
    groups: options.Groups = None,
    target_precision: options.TargetPrecision = None,
    as_json: options.AsJson = False,
    as_csv: options.AsCsv = False,
    plots: options.Plots = None,
    plot_format: options.PlotFormat = "png",
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
    labelled = read_truth(truth)
    if plots is not None:
        from dinoclassify.results.evaluation.plots import make_folder

        make_folder(plots)
    from dinoclassify.labels.groups import read_groups

    group_table = read_groups(groups) if groups is not None else None
    tally = Tally(None)
    is_multi_label = truth.multi_label
    if predictions is not None:
        rows, labels = _read(predictions, labelled, group_table, tally, multi_label=is_multi_label)
    else:
        rows, labels, is_multi_label = _predict(
            labelled, model, inference, group_table, messages, tally, multi_label=is_multi_label
        )
    from dinoclassify.results.evaluation.evaluate import evaluate as evaluate_rows

    evaluation = evaluate_rows(rows, labels, multi_label=is_multi_label, target_precision=target_precision)
    _print(evaluation, as_json=as_json, as_csv=as_csv)
    if plots is not None and evaluation.top1.total:
        from dinoclassify.results.evaluation.plots import write_plots

        write_plots(plots, evaluation, plot_format)
    if not messages.quiet:
        counts = f"{count_of(tally.total, 'row')} of {predictions}: {describe_counts(tally)}"
        say(summarize(tally, plots) if predictions is None else counts + arrow_to(plots))
    return SOME_FAILED if evaluation.failed else 0


def _check_output(context: typer.Context, *, as_json: bool, as_csv: bool, plots: str | None) -> None:
    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other: leave one out")
    if plots is None:
        reject_options(context, ["plot_format"], "nothing is drawn without --plots")


def _print(evaluation: "Evaluation", *, as_json: bool, as_csv: bool) -> None:
    from dinoclassify.cli import evaluation_tables
    from dinoclassify.results.evaluation.evaluate import ClassFigures

    if as_json:
        print_json(evaluation_tables.as_json(evaluation))
    elif as_csv:
        print_csv([field.name for field in fields(ClassFigures)], [asdict(figures) for figures in evaluation.classes])
    else:
        evaluation_tables.show(evaluation)


def _read(
    predictions: str, labelled: Truth, groups: "Groups | None", tally: Tally, *, multi_label: bool
) -> "tuple[list[LabelledPrediction], list[str]]":
    """Read a file of predictions. Returns its labelled rows, and the names of the classes."""
    from dinoclassify.results.evaluation.saved_predictions import match_to_truth

    rows, labels = match_to_truth(predictions, labelled.images, labelled.classes, groups, multi_label=multi_label)
    for row, _ in rows:
        tally.add(row)
    return rows, labels


def _predict(
    labelled: Truth,
    model: ModelOptions,
    inference: InferenceOptions,
    groups: "Groups | None",
    messages: Messages,
    tally: Tally,
    *,
    multi_label: bool,
) -> "tuple[list[LabelledPrediction], list[str], bool]":
    """Predict all images. Returns labelled rows, the names of the classes, and whether an image may have several."""
    check_addresses()
    from dinoclassify.classifier import Classifier
    from dinoclassify.labels.groups import match_groups
    from dinoclassify.labels.matching import match_classes

    classifier = Classifier(model.model, groups=groups, **model.arguments())
    log_model(classifier.info)
    if multi_label and not classifier.multi_label:
        raise UsageError(f"{classifier.model} gives one label an image: leave out --multi-label")
    if groups is None:
        classes = match_classes(labelled.classes, classifier.labels, classifier.model)
    else:
        classes = match_groups(labelled.classes, groups, classifier.classes, classifier.model)
    sources = [listed_source(image.path) for image in labelled.images]
    ranks = len(classifier.labels) if classifier.multi_label else min(_RANKS, len(classifier.labels))
    stages = StageTimer()
    rows: list[LabelledPrediction] = []
    with report_interruption(tally) as stop, stages.measure("write"):
        run = inference.run_options(stages, stop)
        batches = classifier.decoded(sources, run)
        predictions = classifier.classify_batches(batches, top_k=ranks, threshold=0, options=run)
        predictions = with_progress(predictions, messages, total=lambda: len(sources))
        for row, image in zip(predictions, labelled.images, strict=False):  # fewer rows after a signal
            tally.add(row)
            rows.append((row, tuple(classes[label] for label in image.labels)))
    log_stages(run, classifier)
    return rows, list(classifier.labels if groups is None else groups.names), classifier.multi_label
