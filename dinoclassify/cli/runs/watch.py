"""A run that does not end: images are labelled as they are dropped into folders."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from queue import Empty
from typing import TYPE_CHECKING

from dinoclassify.cli.runs.heartbeat import EVERY, Heartbeat, notify, utc
from dinoclassify.cli.runs.inputs import DASH, find_inputs
from dinoclassify.cli.runs.progress import log_model, with_progress
from dinoclassify.cli.runs.request import Request, files_of
from dinoclassify.cli.runs.signals import Stopped, finishing_batches, hanging_up
from dinoclassify.cli.runs.tally import Tally
from dinoclassify.cli.runs.to_file import Job, all_made_with, run_metadata
from dinoclassify.cli.terminal import hush, say
from dinoclassify.discovery.containers.archive import is_archive
from dinoclassify.discovery.filters import has_image_suffix
from dinoclassify.discovery.glob import glob_folder
from dinoclassify.discovery.location import Kind, is_glob, is_local_file, locate
from dinoclassify.discovery.path_list import writing_paths
from dinoclassify.discovery.seen import SEEN
from dinoclassify.discovery.watch import Watch
from dinoclassify.errors import FailuresError, NoInputsError, OutputError, UsageError
from dinoclassify.messages import count_of
from dinoclassify.storage.atomic import is_regular
from dinoclassify.storage.lock import locked
from dinoclassify.storage.missing import why_missing
from dinoclassify.system.environment import check_addresses
from dinoclassify.timing import StageTimer
from dinoclassify.types.source import Source
from dinoclassify.writers.formats import R, RowFormat, refuse_reserved
from dinoclassify.writers.stream import check_place

if TYPE_CHECKING:
    from queue import SimpleQueue

    from dinoclassify.cli.runs.watch_outputs import WatchOutput
    from dinoclassify.writers.provenance import Origin

log = logging.getLogger("dinoclassify")


def check_watch(request: Request, status: str | None) -> None:
    """Find out what can be known before the work begins; `check_run` has seen to the rest.

    Raises:
        UsageError, OutputError: it cannot be done so.
        NoInputsError: a folder is away.
    """
    inputs, chosen = request.inputs, request.target.chosen
    if request.target.url is not None or request.target.in_parts:
        raise UsageError("--watch adds lines to a file of this machine: name one with --output")
    if inputs.files_from is not None or inputs.column or inputs.null or DASH in (inputs.paths or ()):
        raise UsageError("--watch looks at folders, not at lists: a list on stdin is followed without it")
    if request.upkeep.resume or request.upkeep.fresh:
        raise UsageError("--watch always resumes FILE: leave out --resume, --fresh, --retry-failed and --prune")
    if chosen.table:
        raise UsageError(f"--watch adds lines to FILE: choose csv, tsv or jsonl, not {chosen.name}")
    for path in inputs.paths or ():
        if not is_local_file(path) or is_archive(path):
            raise UsageError(f"--watch looks into folders of this machine, not into {path}")
        if not os.path.exists(path) and not is_glob(path):
            raise NoInputsError(f"{path} {why_missing(path)}")
    if status is not None:
        _check_status(status, request)


def _check_status(status: str, request: Request) -> None:
    if status == DASH or not is_regular(status):
        raise UsageError(f"--status {status}: that is no regular file; name one, new or not")
    check_place(status)
    refuse_reserved(status)
    target, upkeep = request.target, request.upkeep
    others = files_of(target.file) | {os.path.realpath(target.file) + SEEN} if target.file is not None else set()
    named = (upkeep.errors_to, *request.tables, *(request.inputs.paths or ()))
    others |= {os.path.realpath(name) for name in named if name}
    if os.path.realpath(status) in others or has_image_suffix(status):
        raise UsageError(f"--status {status} would be written over another file of this run: choose another name")


def watch_rows(open_job: Callable[[], Job[R]], request: Request, status: str | None) -> int:
    """Write a row for each image that is there or comes; gives the exit code. A signal is the usual end.

    Args:
        open_job: opens the model.
        request: what is asked for.
        status: the file for monitoring, if any.
    """
    target, upkeep = request.target, request.upkeep
    tally = Tally(upkeep.failure_limit)
    with (
        hanging_up() as hang_ups,
        locked(target.kept_in, wait=upkeep.wait) if target.kept_in is not None else nullcontext(),
        locked(status, wait=upkeep.wait) if status is not None else nullcontext(),
    ):
        try:
            check_addresses()
            job = open_job()
            log_model(job.model.info)
            origin = job.origin() if request.target.is_kept else None
            output = _output(job.row_format, origin, request)
            with closing(output):
                _watch(job, origin, request, output, tally, hang_ups, status)
        except Stopped as stop:
            if not tally.total:
                log.info("%s", stop)  # before there was a row; else it is said
            return 0
    return tally.exit_code


def _output(row_format: RowFormat[R], origin: "Origin[R] | None", request: Request) -> "WatchOutput[R]":
    from dinoclassify.cli.runs.watch_outputs import FileOutput, StreamOutput

    path = request.target.kept_in
    if path is None or origin is None:
        return StreamOutput(request.target, row_format)
    return FileOutput(path, row_format, all_made_with(origin, request))


def _watch(
    job: Job[R],
    origin: "Origin[R] | None",
    request: Request,
    output: "WatchOutput[R]",
    tally: Tally,
    hang_ups: "SimpleQueue[None]",
    status: str | None,
) -> None:
    """Write a row for each image, until a signal or a limit ends it."""
    inputs, file = request.inputs, request.target.file
    images = output.open(partial(Watch, partial(find_inputs, replace(inputs, limit=None)), _roots(request)), tally)
    heartbeat = Heartbeat(status, lambda: _state(images, output, tally, file))

    def beat() -> None:
        if images.is_idle:  # else the rows that come tell that all is well
            heartbeat.beat()

    def finish(why: object = None) -> None:
        notify("STOPPING=1")
        try:
            if origin is not None:
                now = replace(origin, model=job.model.info)
                output.save(run_metadata(now, tally, request.parameters, timed=False))
        except OutputError as error:
            log.warning("%s", error)
        heartbeat.stop()
        if not request.messages.quiet:
            say(": ".join(str(part) for part in (why, _summary(tally, file)) if part is not None))
        if why is not None:
            hush()  # queues that are torn down complain

    with (
        finishing_batches(finish, usual=True) as stop,
        warning_once(),
        writing_paths(request.upkeep.errors_to, null=inputs.null) as note_failure,
    ):
        for path in output.failed:
            note_failure(path)
        log.info("watching %s", " ".join(inputs.paths or ()))
        heartbeat.start()
        sources = images.sources(partial(_rest, output, hang_ups, beat), beat)
        made = job.rows(
            _limited(sources, images, inputs.limit), **request.passing.arguments(StageTimer(), stop, live=True)
        )
        shown = with_progress(made, tally, request.messages, None)
        rows = _recorded(shown, images, tally, note_failure, heartbeat)
        try:
            output.write(rows, partial(_wait, stop=stop, heartbeat=heartbeat))
            if not stop():
                tally.judge()
        except FailuresError:
            finish()
            raise
        if not stop():
            finish()


def _rest(output: "WatchOutput[R]", hang_ups: "SimpleQueue[None]", beat: Callable[[], None], seconds: float) -> None:
    """Look after the output, at once when SIGHUP asks for it, and tell that all is well, until the next look."""
    output.after_look()
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        beat()
        with suppress(Empty):
            hang_ups.get(timeout=min(left, EVERY))
            output.after_look()


def _limited(sources: Iterator[Source], images: Watch, limit: int | None) -> Iterator[Source]:
    """The first sources; those that are merely tried again do not count."""
    count = 0
    for source in sources:
        count += not images.is_retry(source.path)
        yield source
        if limit is not None and count >= limit:
            return


def _recorded(
    rows: Iterator[R], images: Watch, tally: Tally, note_failure: Callable[[str], None], heartbeat: Heartbeat
) -> Iterator[R]:
    """The rows that say something new of their images; each counts when it has been written."""
    for row in rows:
        if images.is_news(row):
            yield row
            last = images.seen.get(images.key(row.path))
            images.note(row)
            if last is not None:
                tally.drop(last.status, last.error_code, kept=last.earlier)
            if row.status == "failed":
                _note(row.path, note_failure)
            tally.add(row)
        else:
            images.note(row)
        heartbeat.beat()


def _note(path: str, note_failure: Callable[[str], None]) -> None:
    try:
        note_failure(path)
    except OutputError as error:  # FILE has the row
        log.warning("%s: %s is not in that list", error, path)


def _wait(seconds: float, *, stop: Callable[[], bool], heartbeat: Heartbeat) -> bool:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not stop():
        heartbeat.beat()
        time.sleep(min(left, 0.5))
    return not stop()


def _state(images: Watch, output: "WatchOutput[R]", tally: Tally, file: str | None) -> dict[str, object]:
    """What monitoring asks of a watch."""
    return {
        "output": file,
        **tally.snapshot(),
        "last_row": utc(tally.last_made) if tally.last_made is not None else None,
        "waiting": images.waiting,
        "away": [*images.away, *images.unreachable],
        "trouble": output.trouble,
    }


def _summary(tally: Tally, output: str | None) -> str:
    counts = f": {tally.counts()}" if tally.total else ""
    kept = f", {tally.kept:,} of them from before" if tally.kept else ""
    return f"{count_of(tally.total, 'image')}{counts}{kept}" + (f" -> {output}" if output is not None else "")


def _roots(request: Request) -> list[str]:
    """The folders that are looked into."""
    paths = request.inputs.paths or ()
    folders = (glob_folder(path) if locate(path).kind is Kind.GLOB else path for path in paths)
    return [folder for folder in dict.fromkeys(folders) if not os.path.isfile(folder)]


@contextmanager
def warning_once() -> Iterator[None]:
    """Let what is wrong with the inputs be said once, and not with every look at them."""
    said: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        message, before = record.getMessage(), len(said)
        said.add(message)
        return len(said) > before

    logger = logging.getLogger("dinoclassify.discovery")
    logger.addFilter(is_new)
    try:
        yield
    finally:
        logger.removeFilter(is_new)
