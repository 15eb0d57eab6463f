"""`dinoclassify predict`."""

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Literal, TypedDict

import typer

from dinoclassify.catalogue import DEFAULT
from dinoclassify.cli import options
from dinoclassify.cli.signals import ending_with_reader, finishing_batches
from dinoclassify.cli.tally import FailureLimit, Tally
from dinoclassify.cli.terminal import COUNTER, hush, say, set_up_log
from dinoclassify.discover import IMAGE_SUFFIXES, MAX_PIXELS, TIMEOUT, Filters, Source, discover
from dinoclassify.errors import NoInputsError, OutputClosedError, UsageError
from dinoclassify.files import is_regular
from dinoclassify.lists import writing_paths
from dinoclassify.rows import Prediction
from dinoclassify.stages import Stages, advice
from dinoclassify.streams import check_output, stream_rows
from dinoclassify.writers import FORMATS, Format, choose_format, open_format

if TYPE_CHECKING:
    from dinoclassify.earlier import EarlierRow

log = logging.getLogger("dinoclassify")

DASH = "-"  # stdin as an input, stdout as the output
SOME_FAILED = 3  # the exit code of a run that finished with failed rows


def predict(
    context: typer.Context,
    paths: options.Paths = None,
    files_from: options.FilesFrom = None,
    column: options.Column = None,
    null: options.Null = False,
    include: options.Include = None,
    exclude: options.Exclude = None,
    hidden: options.Hidden = False,
    follow: options.Follow = False,
    max_pixels: options.MaxPixels = MAX_PIXELS,
    timeout: options.Timeout = TIMEOUT,
    shard: options.Shard = None,
    limit: options.Limit = None,
    model: options.Model = DEFAULT,
    revision: options.Revision = None,
    offline: options.Offline = False,
    device: options.Device = "auto",
    precision: options.PrecisionName = "auto",
    runtime: options.Runtime = "auto",
    compiled: options.Compile = False,
    batch_size: options.BatchSize = None,
    workers: options.Workers = None,
    exact: options.Exact = False,
    decoder: options.Decoder = "cpu",
    top_k: options.TopK = 1,
    threshold: options.Threshold = 0.0,
    labels: options.Labels = None,
    output: options.OutputFile = DASH,
    output_format: options.Format = None,
    excel_safe: options.ExcelSafe = False,
    resume: options.Resume = False,
    retry_failed: options.RetryFailed = False,
    prune: options.Prune = False,
    errors_to: options.ErrorsTo = None,
    wait: options.Wait = False,
    max_failures: options.MaxFailures = None,
    strict: options.Strict = False,
    progress: options.Progress = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> int:
    """Label pictures.

    Writes one row for each input, in order, whatever happens to it: a picture that cannot be read or decoded
    is a row with status `failed` and the reason.
    """
    set_up_log(quiet=quiet, verbose=verbose, debug=debug)
    named = [*(paths or ()), *filter(None, [files_from])]
    if not named:
        raise UsageError("name pictures, folders or globs, - for a list on stdin, or --files-from a list")
    if (retry_failed or prune) and not resume:
        raise UsageError("--retry-failed and --prune go with --resume")
    if strict and max_failures is not None:
        raise UsageError("--strict is --max-failures 0: leave one out")
    file = None if output in (DASH, "") else output
    chosen = choose_format(file, output_format, excel_safe=excel_safe)
    _check_new_file(file, chosen, named)
    if errors_to is not None:
        _check_new_file(errors_to, FORMATS[0], named)
        if file is not None and os.path.realpath(errors_to) in _files_of(file):
            raise UsageError(f"--errors-to {errors_to} would be written over the output: choose another name")
    kept_in = file if file is not None and is_regular(file) else None
    if resume and kept_in is None:
        raise UsageError("--resume goes with a file: name one with --output")

    from dinoclassify.locks import locked
    from dinoclassify.outputs import OutputFile, write_empty

    filters = Filters(include or (), exclude or (), hidden=hidden, follow=follow, shard=shard, limit=limit)
    look = partial(discover, paths or [], filters, files_from=files_from, column=column, null=null)
    with locked(kept_in, wait=wait) if kept_in is not None else nullcontext():
        found = look()
        first = next(found, None)
        if first is None:
            if kept_in is None:
                stream_rows(file, open_format(chosen.name, top_k), ())
            elif not os.path.exists(kept_in):  # never an empty file in the place of a good one
                write_empty(kept_in, open_format(chosen.name, top_k))
            raise NoInputsError(f"no pictures found in {' '.join(named)}")
        sources = chain([first], found)

        from dinoclassify.classifier import Classifier
        from dinoclassify.labels import read_labels
        from dinoclassify.provenance import describe, made_with

        classifier = Classifier(
            model,
            revision=revision,
            offline=offline,
            device=device,
            precision=precision,
            runtime=runtime,
            compiled=compiled,
            labels=read_labels(labels) if labels is not None else None,
        )
        name = f"{classifier.model} at {classifier.revision}" if classifier.revision else classifier.model
        log.info("%s on %s in %s by %s", name, classifier.device, classifier.precision, classifier.runtime)
        top_k = min(top_k, len(classifier.labels))
        row_format = open_format(chosen.name, top_k)
        answers: _Answers = {"top_k": top_k, "threshold": threshold, "exact": exact, "decoder": decoder}
        can_look_again = DASH not in named and (files_from is None or os.path.isfile(files_from))
        show_progress = sys.stderr.isatty() and not quiet if progress is None else progress
        rows = None
        if kept_in is not None:
            rows = OutputFile(
                kept_in,
                row_format,
                made_with(classifier, **answers, format_name=row_format.name),
                batch_size=batch_size or classifier.batch_size,
                resume=resume,
                retry_failed=retry_failed,
                prune=prune,
            )
        stages, tally = Stages(), Tally(FailureLimit("0", count=0) if strict else max_failures)
        with (
            closing(rows) if rows is not None else nullcontext(),
            _told_if_stopped(tally, kept_in) as stop,
            stages.charge("write"),
            writing_paths(errors_to, null=null) as note_failure,
        ):

            def label(sources: Iterator[Source]) -> Iterator[Prediction]:
                predictions = classifier.predict(
                    sources,
                    **answers,
                    batch_size=batch_size,
                    workers=workers,
                    max_pixels=max_pixels,
                    timeout=timeout,
                    live=DASH in named,
                    stages=stages,
                    stop=stop,
                )
                if show_progress:
                    predictions = _with_progress(predictions, tally, look if can_look_again else None)
                return _counted(predictions, tally, note_failure)

            if rows is None:
                with ending_with_reader() if file is None else nullcontext():
                    stream_rows(file, row_format, label(sources))
                tally.judge()
            else:
                for prediction in label(rows.fresh(sources, partial(_keep, tally, note_failure))):
                    rows.write(prediction)
                tally.judge()
                if not stop():
                    rows.finish(
                        describe(
                            classifier,
                            options=context.params,
                            counts=tally.statuses,
                            errors=tally.errors,
                            kept=tally.kept,
                            seconds=tally.seconds,
                        )
                    )
        help_ = advice(stages.bottleneck(), runtime=classifier.runtime, precision=classifier.precision, exact=exact)
        log.info("%s; to be faster: %s", stages.summary(), help_)
        if not quiet:
            say(tally.summary() + (f" -> {file}" if file is not None else ""))
    return SOME_FAILED if tally.statuses["failed"] else 0


class _Answers(TypedDict):
    """What the answers depend on, besides the model."""

    top_k: int
    threshold: float
    exact: bool
    decoder: Literal["cpu", "gpu"]


def _check_new_file(file: str | None, chosen: Format, named: list[str]) -> None:
    """Find out whether a file may be written, as far as that can be known before the work begins."""
    check_output(file, chosen)
    if file is not None and _is_input(file, named):
        raise UsageError(f"{file} would be written over an input")


def _files_of(output: str) -> set[str]:
    """What a run that writes ``output`` makes beside it."""
    path = os.path.realpath(output)
    return {path + ending for ending in ("", ".partial", ".meta.json", ".partial.meta.json", ".lock")}


def _is_input(file: str, named: list[str]) -> bool:
    """Whether ``file`` has the suffix of a picture, or is one of the files that were named."""
    same = any(os.path.isfile(path) and os.path.isfile(file) and os.path.samefile(path, file) for path in named)
    return same or os.path.splitext(file)[1].lower() in IMAGE_SUFFIXES


@contextmanager
def _told_if_stopped(tally: Tally, kept_in: str | None) -> Iterator[Callable[[], bool]]:
    """`finishing_batches`; when the run ends early, say where those rows are that were finished."""
    journal = f"{os.path.realpath(kept_in)}.partial" if kept_in is not None else ""

    def tell(why: object) -> None:
        kept = f"; they are in {kept_in}.partial, --resume goes on" if os.path.exists(journal) else ""
        say(f"{why} after {tally.made:,} rows{kept}")
        hush()

    try:
        with finishing_batches(tell) as stop:
            yield stop
    except OutputClosedError:
        hush()
        raise


def _counted(
    predictions: Iterable[Prediction], tally: Tally, note_failure: Callable[[str], None]
) -> Iterator[Prediction]:
    """The same predictions; each is counted when it has been written."""
    for prediction in predictions:
        yield prediction
        if prediction.status == "failed":
            note_failure(prediction.path)
        tally.add(prediction)


def _keep(tally: Tally, note_failure: Callable[[str], None], source: Source, row: "EarlierRow") -> None:
    """Count a row of an earlier run."""
    if row.status == "failed":
        note_failure(source.path)
    tally.keep(row.status, row.error_code)


def _with_progress(
    predictions: Iterable[Prediction], tally: Tally, look: Callable[[], Iterator[Source]] | None
) -> Iterator[Prediction]:
    """Show a bar on stderr; its end comes from a second look at the inputs, while the first goes on."""
    from tqdm import tqdm

    with tqdm(unit=" images", dynamic_ncols=True) as bar:

        def count() -> None:
            with suppress(Exception):  # the first look reports what is wrong
                bar.total = sum(1 for _ in look()) if look is not None else None

        threading.Thread(target=count, name=COUNTER, daemon=True).start()
        for prediction in predictions:
            yield prediction
            bar.update(tally.total - bar.n)  # rows that were kept are counted too
        bar.update(tally.total - bar.n)
