"""`dinoclassify predict`."""

import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import chain

import typer

from dinoclassify.catalogue import DEFAULT
from dinoclassify.cli import options
from dinoclassify.cli.terminal import COUNTER, Stopped, hush, say, set_up_log
from dinoclassify.discover import IMAGE_SUFFIXES, MAX_PIXELS, Filters, Source, discover
from dinoclassify.errors import NoInputsError, OutputClosedError, UsageError
from dinoclassify.rows import Prediction
from dinoclassify.stages import Stages, advice
from dinoclassify.writers import check_output, choose_format, is_regular, open_output

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
    if not paths and files_from is None:
        raise UsageError("name pictures, folders or globs, - for a list on stdin, or --files-from a list")
    filters = Filters(include or (), exclude or (), hidden=hidden, follow=follow, shard=shard, limit=limit)
    discover_again = partial(discover, paths or [], filters, files_from=files_from, column=column, null=null)
    can_count = DASH not in (paths or []) and (files_from is None or os.path.isfile(files_from))
    on_stdin = DASH in (paths or []) or files_from == DASH
    file = None if output in (DASH, "") else output
    format_name = choose_format(file, output_format)
    check_output(file, format_name)
    named = [*(paths or []), *filter(None, [files_from])]
    if file is not None and _is_input(file, named):
        raise UsageError(f"--output {file} would be written over an input")

    sources = discover_again()
    first = next(sources, None)
    if first is None:
        if file is None or not os.path.exists(file):  # never an empty file in the place of a good one
            with open_output(file, format_name, top_k):
                pass
        raise NoInputsError(f"no pictures found in {' '.join(named)}")

    from dinoclassify.classifier import Classifier
    from dinoclassify.labels import read_labels
    from dinoclassify.provenance import write_meta

    names = read_labels(labels) if labels is not None else None
    classifier = Classifier(
        model,
        revision=revision,
        offline=offline,
        device=device,
        precision=precision,
        runtime=runtime,
        compiled=compiled,
        labels=names,
    )
    name = f"{classifier.model} at {classifier.revision}" if classifier.revision else classifier.model
    log.info("%s on %s in %s by %s", name, classifier.device, classifier.precision, classifier.runtime)
    stages = Stages()
    top_k = min(top_k, len(classifier.labels))
    predictions = classifier.predict(
        chain([first], sources),
        top_k=top_k,
        threshold=threshold,
        batch_size=batch_size,
        workers=workers,
        exact=exact,
        decoder=decoder,
        max_pixels=max_pixels,
        live=on_stdin,
        stages=stages,
    )
    show_progress = sys.stderr.isatty() and not quiet if progress is None else progress
    shown = _with_progress(predictions, discover_again if can_count else None) if show_progress else predictions
    tally = _write_rows(shown, file, format_name, top_k, stages)
    help_ = advice(stages.bottleneck(), runtime=classifier.runtime, precision=classifier.precision, exact=exact)
    log.info("%s; to be faster: %s", stages.summary(), help_)
    if not quiet:
        say(tally.summary() + (f" -> {file}" if file is not None else ""))
    if file is not None and is_regular(file):
        write_meta(
            file,
            classifier,
            options=context.params,
            counts=tally.statuses,
            errors=tally.errors,
            seconds=tally.seconds,
        )
    return SOME_FAILED if tally.statuses["failed"] else 0


def _is_input(file: str, named: list[str]) -> bool:
    """Whether ``file`` has the suffix of a picture, or is one of the files that were named."""
    same = any(os.path.isfile(path) and os.path.isfile(file) and os.path.samefile(path, file) for path in named)
    return same or os.path.splitext(file)[1].lower() in IMAGE_SUFFIXES


def _write_rows(
    predictions: Iterable[Prediction], file: str | None, format_name: str, top_k: int, stages: Stages
) -> "_Tally":
    """Write all rows and count them. When a signal ends that early, say where those are that were finished."""
    tally = _Tally()
    try:
        with open_output(file, format_name, top_k) as write:
            for prediction in predictions:
                with stages.charge("write"):
                    write(prediction)
                tally.add(prediction)
    except Stopped as stop:
        kept = f"; they are in {file}.partial" if file is not None and is_regular(file) else ""
        say(f"{stop} after {tally.total:,} rows{kept}")
        hush()
        raise
    except OutputClosedError:
        hush()
        raise
    tally.stop()
    return tally


class _Tally:
    """Counts rows, by status and by error code, and the seconds they took."""

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self._started = time.monotonic()
        self.seconds = 0.0

    @property
    def total(self) -> int:
        return self.statuses.total()

    def add(self, prediction: Prediction) -> None:
        self.statuses[prediction.status] += 1
        if prediction.failure is not None:
            self.errors[prediction.failure.code] += 1

    def stop(self) -> None:
        self.seconds = time.monotonic() - self._started

    def summary(self) -> str:
        parts = [
            f"{self.statuses[status]:,} {status}" for status in ("ok", "uncertain", "failed") if self.statuses[status]
        ]
        errors = ", ".join(f"{count:,} {code}" for code, count in self.errors.most_common())
        rate = f"{self.total / self.seconds:.1f} images/s"
        failed = f" ({errors})" if errors else ""
        return f"{self.total:,} images: {', '.join(parts)}{failed} in {self.seconds:.1f} s, {rate}"


def _with_progress(
    predictions: Iterable[Prediction], discover_again: Callable[[], Iterator[Source]] | None
) -> Iterator[Prediction]:
    """Show a bar on stderr; its end comes from a second look at the inputs, while the first goes on."""
    from tqdm import tqdm

    with tqdm(predictions, unit=" images", dynamic_ncols=True) as bar:

        def count() -> None:
            with suppress(Exception):  # the first look reports what is wrong
                bar.total = sum(1 for _ in discover_again()) if discover_again is not None else None

        threading.Thread(target=count, name=COUNTER, daemon=True).start()
        yield from bar
