"""`dinoclassify predict`."""

import hashlib
from collections.abc import Iterable
from functools import partial

import typer

from dinoclassify.cli import options
from dinoclassify.cli.run import DASH, Job, Request, Target, check_run, write_rows
from dinoclassify.cli.terminal import set_up_log
from dinoclassify.cli.watch import check_watch, watch_rows
from dinoclassify.rows import Prediction
from dinoclassify.writers import choose_format, open_format


@options.grouped
def predict(
    context: typer.Context,
    *,
    inputs: options.Inputs,
    model: options.ModelOptions,
    passing: options.Passing,
    top_k: options.TopK = 1,
    threshold: options.Threshold = 0.0,
    labels: options.Labels = None,
    groups: options.Groups = None,
    output: options.OutputFile = DASH,
    output_format: options.Format = None,
    excel_safe: options.ExcelSafe = False,
    upkeep: options.Upkeep,
    watch: options.Watch = False,
    messages: options.Messages,
) -> int:
    """Label pictures.

    Writes one row for each input, in order, whatever happens to it: a picture that cannot be read or decoded
    is a row with status `failed` and the reason.
    """
    set_up_log(messages)
    file = None if output in (DASH, "") else output
    target = Target(file, choose_format(file, output_format, excel_safe=excel_safe))
    request = Request(inputs, passing, target, upkeep, messages, context.params)
    check_run(request)
    if watch:
        check_watch(request)

    def open_job() -> Job[Prediction]:
        from dinoclassify.classifier import Classifier
        from dinoclassify.labels import read_labels

        names = read_labels(labels) if labels is not None else None
        classifier = Classifier(model.model, labels=names, groups=groups, **model.arguments())
        ranks = min(top_k, len(classifier.labels))
        return Job(
            model=classifier,
            answer=partial(classifier.predict, top_k=ranks, threshold=threshold),
            row_format=open_format(target.chosen.name, ranks),
            settings={
                "labels": _digest(classifier.classes),
                "groups": _digest(map(classifier.labels.__getitem__, classifier.group_of or ())) if groups else None,
                "top-k": ranks,
                "threshold": threshold,
            },
            outputs={"labels": len(classifier.labels)},
        )

    if watch:
        return watch_rows(open_job, request)
    return write_rows(open_job, request, empty=partial(open_format, target.chosen.name, top_k))


def _digest(names: Iterable[str]) -> str:
    labels = tuple(names)
    digest = hashlib.sha256("\n".join(labels).encode("utf-8", "surrogateescape")).hexdigest()
    return f"{len(labels)} of sha256 {digest[:16]}"
