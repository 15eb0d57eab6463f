"""A run that does not end: pictures are labelled as they are dropped into folders."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from dinoclassify.archives import is_archive
from dinoclassify.cli.inputs import DASH, look
from dinoclassify.cli.progress import log_model, with_progress
from dinoclassify.cli.request import Request, Target
from dinoclassify.cli.run import Job, all_made_with, counted, sidecar
from dinoclassify.cli.signals import Stopped, ending_with_reader, finishing_batches
from dinoclassify.cli.tally import Tally
from dinoclassify.cli.terminal import hush, say
from dinoclassify.containers import is_file_name
from dinoclassify.errors import UsageError
from dinoclassify.lists import writing_paths
from dinoclassify.locks import locked
from dinoclassify.paths import absolute_path, is_relative_file
from dinoclassify.rows import file_shown_as
from dinoclassify.stages import Stages
from dinoclassify.streams import stream_rows
from dinoclassify.watching import watch
from dinoclassify.writers import R

if TYPE_CHECKING:
    from dinoclassify.files import Signature
    from dinoclassify.writers.append_file import AppendFile

log = logging.getLogger("dinoclassify")


def check_watch(request: Request) -> None:
    """Find out what can be known before the work begins; `check_run` has seen to the rest.

    Raises:
        UsageError: it cannot be done so.
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
        if not is_file_name(path) or is_archive(path):
            raise UsageError(f"--watch looks into folders of this machine, not into {path}")
        if not os.path.exists(path) and not any(character in path for character in "*?["):
            raise UsageError(f"there is no {path} to watch")


def watch_rows(open_job: Callable[[], Job[R]], request: Request) -> int:
    """Write a row for each picture that is there or comes; gives the exit code. A signal is the usual end.

    Args:
        open_job: opens the model.
        request: what is asked for.
    """
    kept_in, upkeep = request.target.kept_in, request.upkeep
    tally = Tally(upkeep.failure_limit)
    with locked(kept_in, wait=upkeep.wait) if kept_in is not None else nullcontext():
        try:
            _watch(open_job, request, tally)
        except Stopped as stop:
            if not tally.total:
                log.info("%s", stop)  # before there was a row; else it is said
            return 0
    return tally.exit_code


def _watch(open_job: Callable[[], Job[R]], request: Request, tally: Tally) -> None:
    """Write a row for each picture, until a signal or a limit ends it."""
    inputs, passing, target = request.inputs, request.passing, request.target
    job = open_job()
    log_model(job.model)
    made_with = all_made_with(job, request)
    file, folder = _find_file(target.kept_in, job, made_with) if target.kept_in is not None else (None, "")

    def finish(why: object = None) -> None:
        if file is not None:
            file.sync()
            _write_meta(file, made_with, sidecar(job, tally, request.parameters, timed=False))
        if not request.messages.quiet:
            say(": ".join(str(part) for part in (why, _summary(tally, target)) if part is not None))
        if why is not None:
            hush()  # queues that are torn down complain

    with closing(file) if file is not None else nullcontext():
        failed: list[str] = []
        known = _open_known(file, folder, tally, failed) if file is not None else {}
        if file is not None:
            _write_meta(file, made_with, {})
        folders = [path for path in inputs.paths or () if os.path.isdir(path)]
        sources = islice(watch(partial(look, replace(inputs, limit=None)), known, folders), inputs.limit)
        with (
            finishing_batches(finish, usual=True) as stop,
            warning_once(),
            writing_paths(request.upkeep.errors_to, null=inputs.null) as note_failure,
        ):
            for path in failed:
                note_failure(path)
            log.info("watching %s", " ".join(inputs.paths or ()))
            answers = job.rows(sources, **passing.arguments(Stages(), stop, live=True))
            shown = with_progress(answers, tally, request.messages, None)
            _write(counted(shown, tally, note_failure), file, target, job)
            tally.judge()
            if not stop():
                finish()


def _summary(tally: Tally, target: Target) -> str:
    counts = f": {tally.counts()}" if tally.total else ""
    kept = f", {tally.kept:,} of them from before" if tally.kept else ""
    return f"{tally.total:,} images{counts}{kept}" + (f" -> {target.file}" if target.file is not None else "")


@contextmanager
def warning_once() -> Iterator[None]:
    """Let what is wrong with the inputs be said once, and not with every look at them."""
    said: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        message, before = record.getMessage(), len(said)
        said.add(message)
        return len(said) > before

    loggers = [logging.getLogger(f"dinoclassify.{room}") for room in ("discover", "watching")]
    for logger in loggers:
        logger.addFilter(is_new)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(is_new)


def _find_file(path: str, job: Job[R], made_with: Mapping[str, object]) -> "tuple[AppendFile[R], str]":
    """The output, to which rows are added, and the folder in which relative paths of the rows in it begin.

    Raises:
        UsageError: it has rows with another fingerprint, or an unfinished run.
    """
    from dinoclassify.writers.append_file import AppendFile
    from dinoclassify.writers.fingerprint import META, PARTIAL, as_json, check_fingerprint, read_meta

    real, cure, folder = os.path.realpath(path), "name another --output", os.getcwd()
    if os.path.exists(real + PARTIAL):
        raise UsageError(f"{path}{PARTIAL} is of an interrupted run: finish that first, with --resume")
    if os.path.exists(real) and os.path.getsize(real) > len(job.row_format.lines.header()):
        before = read_meta(real + META, path, cure=cure)
        check_fingerprint(before["made_with"], path, as_json(made_with), option="--watch", cure=cure)
        folder = before.get("working_folder") or folder
    return AppendFile(real, path, job.row_format.lines), folder


def _write_meta(file: "AppendFile[R]", made_with: Mapping[str, object], meta: Mapping[str, object]) -> None:
    from dinoclassify.writers.fingerprint import META, write_meta

    rest = {"adds_to_output": False, "working_folder": os.getcwd(), **meta}
    write_meta(file.path + META, {"made_with": made_with, **rest})


def _open_known(file: "AppendFile[R]", folder: str, tally: Tally, failed: list[str]) -> "dict[str, Signature]":
    """Open the file; gives the signatures of the images that have a row, by absolute path. The last row counts.

    Those that failed are added to ``failed``.

    Raises:
        UsageError: it has rows that cannot be read, or whose relative paths begin in another ``folder`` than this one.
        OutputError: it cannot be written.
    """
    known: dict[str, Signature] = {}
    try:
        file.open(check_end=True)
        for row in file.rows():
            if folder != os.getcwd() and is_relative_file(row.path):
                raise UsageError(f"{file.name} has paths that begin in {folder}: go there first (cd)")
            tally.keep(row.status, row.failure.code if row.failure is not None else None)
            if row.status == "failed":
                failed.append(row.path)
            if row.size is not None and row.mtime_ns is not None:
                known[absolute_path(file_shown_as(row.path), folder)] = (row.size, row.mtime_ns)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{file.name} has rows that cannot be read ({error}): name another --output") from error
    return known


def _write(rows: Iterator[R], file: "AppendFile[R] | None", target: Target, job: Job[R]) -> None:
    if file is not None:
        for row in rows:
            file.append(row)
        return
    with ending_with_reader() if target.file is None else nullcontext():
        stream_rows(target.file, job.row_format, rows)
