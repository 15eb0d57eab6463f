"""`dinoclassify evaluate`."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from functools import partial
from typing import TYPE_CHECKING

import typer

from dinoclassify.cli import options
from dinoclassify.cli.progress import log_model, log_stages, told_if_stopped, with_progress
from dinoclassify.cli.run import SOME_FAILED
from dinoclassify.cli.tally import Tally
from dinoclassify.cli.terminal import print_csv, print_json, say, set_up_log
from dinoclassify.cli.truth import Truth, read_truth
from dinoclassify.discover import Source
from dinoclassify.errors import UsageError
from dinoclassify.stages import Stages

if TYPE_CHECKING:
    from dinoclassify.evaluation import Answer, Evaluation

_RANKS = 5  # labels of a picture that are asked for


@options.grouped
def evaluate(
    context: typer.Context,
    *,
    truth: options.TruthOptions,
    predictions: options.Predictions = None,
    model: options.ModelOptions,
    passing: options.Passing,
    target_precision: options.TargetPrecision = None,
    as_json: options.AsJson = False,
    as_csv: options.AsCsv = False,
    plots: options.Plots = None,
    plot_format: options.PlotFormat = "png",
    messages: options.Messages,
) -> int:
    """Measure how good a model is.

    Labels pictures of which the class is known, or takes the rows that `predict` has written, and prints accuracy,
    calibration, each class, what is confused, and the worst mistakes. Classes are named as the model names them, or
    by index or, for ImageNet, by WordNet id (n01440764).
    """
    set_up_log(messages)
    if as_json and as_csv:
        raise UsageError("--json and --csv are two forms of the same: leave one out")
    if predictions is not None:
        _refuse(context, [field.name for field in (*fields(model), *fields(passing))], "--predictions runs no model")
    if plots is None:
        _refuse(context, ["plot_format"], "nothing is drawn without --plots")
    known = read_truth(truth)
    if plots is not None:
        from dinoclassify.plots import make_folder

        make_folder(plots)
    tally = Tally(None)
    if predictions is not None:
        many = truth.multi_label
        answers, labels = _read(predictions, known, tally, multi_label=many)
    else:
        answers, labels, many = _predict(known, model, passing, messages, tally, multi_label=truth.multi_label)
    from dinoclassify.evaluation import evaluate as judge

    evaluation = judge(answers, labels, multi_label=many, target_precision=target_precision)
    _print(evaluation, as_json=as_json, as_csv=as_csv)
    if plots is not None and evaluation.top1.total:
        from dinoclassify.plots import write_plots

        write_plots(plots, evaluation, plot_format)
    if not messages.quiet:
        done = tally.summary() if predictions is None else f"{tally.total:,} rows of {predictions}: {tally.counts()}"
        say(done + (f" -> {plots}" if plots is not None else ""))
    return SOME_FAILED if evaluation.failed else 0


def _print(evaluation: "Evaluation", *, as_json: bool, as_csv: bool) -> None:
    from dinoclassify.cli import figures
    from dinoclassify.evaluation import ClassFigures

    if as_json:
        print_json(figures.as_json(evaluation))
    elif as_csv:
        print_csv([field.name for field in fields(ClassFigures)], [asdict(one) for one in evaluation.classes])
    else:
        figures.show(evaluation)


def _refuse(context: typer.Context, parameters: Sequence[str], why: str) -> None:
    """Refuse options that would be of no effect, if they stand on the command line."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in parameters and source is not None and source.name == "COMMANDLINE":
            raise UsageError(f"{why}: leave out {parameter.opts[0]}")


def _read(predictions: str, known: Truth, tally: Tally, *, multi_label: bool) -> "tuple[list[Answer], list[str]]":
    """The predictions of a file, and the names of the classes."""
    from dinoclassify.predictions import known_answers

    answers, labels = known_answers(predictions, known.pictures, known.classes, multi_label=multi_label)
    for row, _ in answers:
        tally.add(row)
    return answers, labels


def _predict(
    known: Truth,
    model: options.ModelOptions,
    passing: options.Passing,
    messages: options.Messages,
    tally: Tally,
    *,
    multi_label: bool,
) -> "tuple[list[Answer], list[str], bool]":
    """Predictions for all pictures, the names of the classes, and whether a picture may have many."""
    from dinoclassify.classes import match_classes
    from dinoclassify.classifier import Classifier

    classifier = Classifier(model.model, **model.arguments())
    log_model(classifier)
    if multi_label and not classifier.multi_label:
        raise UsageError(f"{classifier.model} gives one label a picture: leave out --multi-label")
    classes = match_classes(known.classes, classifier.labels, classifier.model)
    sources = [Source(picture.path) for picture in known.pictures]
    ranks = len(classifier.labels) if classifier.multi_label else min(_RANKS, len(classifier.labels))
    stages = Stages()
    answers: list[Answer] = []
    with told_if_stopped(tally) as stop, stages.charge("write"):
        rows = classifier.predict(sources, top_k=ranks, **passing.arguments(stages, stop))
        shown = with_progress(rows, tally, messages, partial(iter, sources))
        for row, picture in zip(shown, known.pictures, strict=False):  # fewer rows if it is stopped
            tally.add(row)
            answers.append((row, tuple(classes[label] for label in picture.labels)))
    log_stages(stages, classifier, exact=passing.exact)
    return answers, list(classifier.labels), classifier.multi_label
