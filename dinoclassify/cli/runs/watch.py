"""A run that does not end: images are labelled as they arrive in folders."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from dinoclassify.cli.option_groups import Inputs
from dinoclassify.cli.options import DASH
from dinoclassify.cli.runs.inputs import find_inputs, selector_of
from dinoclassify.cli.runs.progress import log_model, with_progress
from dinoclassify.cli.runs.request import Request
from dinoclassify.cli.runs.signals import Stopped, ending_with_reader, finishing_batches, hanging_up
from dinoclassify.cli.runs.summary import arrow_to, describe_counts, exit_code
from dinoclassify.cli.runs.to_file import run_fingerprint
from dinoclassify.cli.terminal import hush, say
from dinoclassify.discovery.containers.suffixes import is_archive
from dinoclassify.discovery.filters import has_image_suffix
from dinoclassify.discovery.glob import glob_folder
from dinoclassify.discovery.location import STDIN, Kind, is_glob, is_local_file, locate
from dinoclassify.discovery.path_list import writing_paths
from dinoclassify.discovery.watch import Watch
from dinoclassify.errors import NoInputsError, OutputClosedError, OutputError, UsageError
from dinoclassify.messages import count_of
from dinoclassify.storage.atomic import is_regular
from dinoclassify.storage.lock import locked
from dinoclassify.storage.missing import why_missing
from dinoclassify.storage.output_paths import OutputPaths, refuse_reserved
from dinoclassify.system.environment import check_addresses
from dinoclassify.timing import StageTimer
from dinoclassify.types.source import Source
from dinoclassify.writers.formats.base import R, RowFormat
from dinoclassify.writers.heartbeat import EVERY, Heartbeat, notify, utc
from dinoclassify.writers.stream import check_place
from dinoclassify.writers.tally import Tally
from dinoclassify.writers.target import output_files

if TYPE_CHECKING:
    from dinoclassify.loaded_model import Job
    from dinoclassify.writers.provenance import Origin
    from dinoclassify.writers.watch_output import WatchOutput

log = logging.getLogger("dinoclassify")

_POLL = 0.5  # seconds between checks for a signal


def check_watch(request: Request, status: str | None) -> None:
    """Check the options of a watch, as `check_run` checks the others.

    Raises:
        UsageError: options contradict each other, or an input is no folder of this machine.
        OutputError: the status file cannot be written.
        NoInputsError: a folder is missing.
    """
    inputs, target, options = request.inputs, request.target, request.output_options
    if target.url is not None or target.in_parts:
        raise UsageError("--watch adds lines to a file of this machine: name one with --output")
    if inputs.files_from is not None or inputs.column or inputs.null or STDIN in (inputs.paths or ()):
        raise UsageError("--watch watches folders, not lists: leave it out to follow a list on stdin")
    if options.resume or options.fresh:
        raise UsageError("--watch always resumes FILE: leave out --resume, --fresh, --retry-failed and --prune")
    if target.file_format.table:
        raise UsageError(f"--watch adds lines to FILE: choose csv, tsv or jsonl, not {target.file_format.name}")
    for path in inputs.paths or ():
        if not os.path.isdir(path) and (not is_local_file(path) or is_archive(path)):
            cure = "run predict --resume from cron instead (dinoclassify guide cron)"
            raise UsageError(f"--watch watches folders of this machine, not {path}: {cure}")
        if not os.path.exists(path) and not is_glob(path):
            raise NoInputsError(f"{path} {why_missing(path)}")
    if status is not None:
        _check_status(status, request)


def _check_status(status: str, request: Request) -> None:
    if status == DASH or not is_regular(status):
        raise UsageError(f"--status {status} is not a regular file: name a file, new or existing")
    check_place(status)
    refuse_reserved(status)
    output = request.target.file
    others = output_files(output) | {OutputPaths.resolved(output).seen} if output is not None else set()
    named = (request.output_options.errors_to, *request.tables, *(request.inputs.paths or ()))
    others |= {os.path.realpath(name) for name in named if name}
    if os.path.realpath(status) in others or has_image_suffix(status):
        raise UsageError(f"--status {status} is already another file of this run: choose another name")


def watch_rows(open_job: "Callable[[], Job[R]]", request: Request, status: str | None) -> int:
    """Write a row for each image that exists or arrives, until a signal comes. Returns the exit code."""
    path, wait = request.target.local_file, request.output_options.wait
    tally = Tally(request.output_options.failure_limit)
    with (
        hanging_up() as hangup_signals,
        locked(path, wait=wait) if path is not None else nullcontext(),
        locked(status, wait=wait) if status is not None else nullcontext(),
    ):
        try:
            check_addresses()
            job = open_job()
            log_model(job.model.info)
            origin = job.origin() if path is not None else None
            output = _open_output(job.row_format, origin, request)
            with closing(output):
                _watch(job, origin, request, output, tally, hangup_signals, status)
        except Stopped as stop:
            if not tally.total:
                log.info("%s", stop)  # if there are rows, `_watch` has already reported it
            return 0
    return exit_code(tally)


def _open_output(row_format: RowFormat[R], origin: "Origin[R] | None", request: Request) -> "WatchOutput[R]":
    from dinoclassify.writers.provenance import describe_model
    from dinoclassify.writers.watch_output import FileOutput, StreamOutput

    path = request.target.local_file
    if path is None or origin is None:
        return StreamOutput(request.target.file, row_format)
    known = {"model": describe_model(origin)}
    return FileOutput(path, row_format, run_fingerprint(origin, request), known)


def _watch(
    job: "Job[R]",
    origin: "Origin[R] | None",
    request: Request,
    output: "WatchOutput[R]",
    tally: Tally,
    hangup_signals: SimpleQueue[None],
    status: str | None,
) -> None:
    inputs, file = request.inputs, request.target.file
    images = output.open(partial(Watch, partial(_find_all, inputs), _roots(request)), tally)
    heartbeat = Heartbeat(status, lambda: _state(images, output, tally, file))

    def beat_if_idle() -> None:
        if images.is_idle:  # otherwise each row beats
            heartbeat.beat()

    def end() -> None:
        notify("STOPPING=1")
        heartbeat.stop()

    def finish(why: object = None) -> None:
        """Save the metadata and the last status, and print the summary."""
        notify("STOPPING=1")
        try:
            if origin is not None:
                _save(output, replace(origin, model=job.model.info), request, tally)
        finally:
            heartbeat.stop()
        if not request.messages.quiet:
            say(": ".join(str(part) for part in (why, _summary(tally, file)) if part is not None))
        if why is not None:
            hush()  # queues print tracebacks when they are torn down

    with (
        finishing_batches(finish, usual=True) as stop,
        warning_once(),
        writing_paths(request.output_options.errors_to, null=inputs.null) as note_failure,
    ):
        for path in output.failed:
            note_failure(path)
        log.info("watching %s", " ".join(inputs.paths or ()))
        heartbeat.start()
        sources = images.sources(partial(_wait_for_next_poll, output, hangup_signals, beat_if_idle), beat_if_idle)
        sources = _take_new(sources, images, inputs.limit)
        rows = job.rows(sources, request.inference.run_options(StageTimer(), stop, live=True))
        rows = with_progress(rows, request.messages, done=lambda: tally.total)
        rows = _changed_rows(rows, images, tally, note_failure, heartbeat)
        try:
            with ending_with_reader(end) if file is None else nullcontext():
                output.write(rows, partial(_pause, stop=stop, heartbeat=heartbeat))
            if not stop():
                tally.check_failures()
        except OutputClosedError:
            end()
            raise
        except Exception:
            finish()
            raise
        if not stop():
            finish()


def _find_all(inputs: Inputs) -> Iterator[Source]:
    """Yield the images that are there now."""
    return find_inputs(replace(inputs, limit=None), selector_of(inputs))


def _save(output: "WatchOutput[R]", origin: "Origin[R]", request: Request, tally: Tally) -> None:
    """Flush the rows to the disk, and write the run metadata; an error is only logged, as the watch ends."""
    from dinoclassify.writers.provenance import run_metadata

    try:
        output.save(run_metadata(origin, tally, request.parameters, timed=False))
    except OutputError as error:
        log.warning("%s", error)


def _wait_for_next_poll(
    output: "WatchOutput[R]", hangup_signals: SimpleQueue[None], beat: Callable[[], None], seconds: float
) -> None:
    """Wait until the next look at the folders; call `after_look` first, and again at each SIGHUP."""
    output.after_look()
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        beat()
        with suppress(Empty):
            hangup_signals.get(timeout=min(left, EVERY))
            output.after_look()


def _take_new(sources: Iterator[Source], images: Watch, limit: int | None) -> Iterator[Source]:
    """Yield the sources up to the ``limit``; those that are only tried again do not count."""
    count = 0
    for source in sources:
        count += not images.is_retry(source.path)
        yield source
        if limit is not None and count >= limit:
            return


def _changed_rows(
    rows: Iterator[R], images: Watch, tally: Tally, note_failure: Callable[[str], None], heartbeat: Heartbeat
) -> Iterator[R]:
    """Yield the rows that differ from the last row of their image; count each after it has been written."""
    for row in rows:
        if images.is_new_result(row):
            yield row
            last = images.seen.get(images.key(row.path))
            images.note(row)
            if last is not None:
                tally.drop(last.status, last.error_code, kept=last.earlier)
            if row.status == "failed":
                _note_failure(row.path, note_failure)
            tally.add(row)
        else:
            images.note(row)
        heartbeat.beat()


def _note_failure(path: str, note_failure: Callable[[str], None]) -> None:
    try:
        note_failure(path)
    except OutputError as error:  # FILE has the row
        log.warning("%s: %s is not in that list", error, path)


def _pause(seconds: float, *, stop: Callable[[], bool], heartbeat: Heartbeat) -> bool:
    """Wait, unless a signal comes. Returns whether to go on."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not stop():
        heartbeat.beat()
        time.sleep(min(left, _POLL))
    return not stop()


def _state(images: Watch, output: "WatchOutput[R]", tally: Tally, file: str | None) -> dict[str, object]:
    """Return what the status file says besides the time and the process."""
    return {
        "output": file,
        **tally.snapshot(),
        "last_row": utc(tally.last_made) if tally.last_made is not None else None,
        "waiting": images.waiting,
        "away": [*images.away, *images.unreachable],
        "trouble": output.trouble,
    }


def _summary(tally: Tally, output: str | None) -> str:
    counts = f": {describe_counts(tally)}" if tally.total else ""
    kept = f", {tally.kept:,} of them from before" if tally.kept else ""
    return f"{count_of(tally.total, 'image')}{counts}{kept}{arrow_to(output)}"


def _roots(request: Request) -> list[str]:
    """Return the folders that the watch looks into."""
    paths = request.inputs.paths or ()
    folders = (glob_folder(path) if locate(path).kind is Kind.GLOB else path for path in paths)
    return [folder for folder in dict.fromkeys(folders) if not os.path.isfile(folder)]


@contextmanager
def warning_once() -> Iterator[None]:
    """Log each warning about the inputs once, and not again with every look at them."""
    messages: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        message, count = record.getMessage(), len(messages)
        messages.add(message)
        return len(messages) > count

    logger = logging.getLogger("dinoclassify.discovery")
    logger.addFilter(is_new)
    try:
        yield
    finally:
        logger.removeFilter(is_new)
