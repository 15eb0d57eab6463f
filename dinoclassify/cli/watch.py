"""A run that does not end: images are labelled as they are dropped into folders."""

import logging
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from dinoclassify.archives import is_archive
from dinoclassify.cli.heartbeat import Heartbeat, utc
from dinoclassify.cli.inputs import DASH, look
from dinoclassify.cli.progress import log_model, with_progress
from dinoclassify.cli.request import Request, files_of
from dinoclassify.cli.run import Job, all_made_with, sidecar
from dinoclassify.cli.signals import Stopped, ending_with_reader, finishing_batches, reopening
from dinoclassify.cli.tally import Tally
from dinoclassify.cli.terminal import hush, say
from dinoclassify.containers import is_file_name
from dinoclassify.discover import glob_folder, is_pattern
from dinoclassify.errors import UsageError
from dinoclassify.lists import writing_paths
from dinoclassify.locks import locked
from dinoclassify.paths import absolute_path, is_relative_file
from dinoclassify.rows import file_shown_as
from dinoclassify.seen import SEEN, Seen, read_seen, signature_in, write_seen
from dinoclassify.stages import Stages
from dinoclassify.streams import check_place, stream_rows
from dinoclassify.surroundings import check_addresses
from dinoclassify.watching import Watch
from dinoclassify.writers import R, refuse_reserved

if TYPE_CHECKING:
    from dinoclassify.writers.append_file import AppendFile

log = logging.getLogger("dinoclassify")


def check_watch(request: Request, status: str | None) -> None:
    """Find out what can be known before the work begins; `check_run` has seen to the rest.

    Raises:
        UsageError, OutputError: it cannot be done so.
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
    if status is not None:
        _check_status(status, request)


def _check_status(status: str, request: Request) -> None:
    check_place(status)
    refuse_reserved(status)
    target, upkeep = request.target, request.upkeep
    others = files_of(target.file) | {os.path.realpath(target.file) + SEEN} if target.file is not None else set()
    others |= {os.path.realpath(name) for name in (upkeep.errors_to, *(request.inputs.paths or ())) if name}
    if os.path.realpath(status) in others:
        raise UsageError(f"--status {status} would be written over another file of this run: choose another name")


def watch_rows(open_job: Callable[[], Job[R]], request: Request, status: str | None) -> int:
    """Write a row for each image that is there or comes; gives the exit code. A signal is the usual end.

    Args:
        open_job: opens the model.
        request: what is asked for.
        status: the file for monitoring, if any.
    """
    kept_in, upkeep = request.target.kept_in, request.upkeep
    tally = Tally(upkeep.failure_limit)
    with (
        reopening(lambda: None),  # as long as there is no file
        locked(kept_in, wait=upkeep.wait) if kept_in is not None else nullcontext(),
    ):
        try:
            _watch(open_job, request, tally, status)
        except Stopped as stop:
            if not tally.total:
                log.info("%s", stop)  # before there was a row; else it is said
            return 0
    return tally.exit_code


def _watch(open_job: Callable[[], Job[R]], request: Request, tally: Tally, status: str | None) -> None:
    """Write a row for each image, until a signal or a limit ends it."""
    check_addresses()
    job, target = open_job(), request.target
    log_model(job.model)
    if target.kept_in is not None:
        _watch_into_file(job, request, tally, status, target.kept_in)
        return
    images = Watch(partial(look, replace(request.inputs, limit=None)), {}, _roots(request), forget=True)
    with (
        _labelling(job, request, tally, images, status) as (rows, _),
        ending_with_reader() if target.file is None else nullcontext(),
    ):
        stream_rows(target.file, job.row_format, rows)


def _watch_into_file(job: Job[R], request: Request, tally: Tally, status: str | None, path: str) -> None:
    from dinoclassify.writers.rotated_file import RotatedFile

    made_with = all_made_with(job, request)
    file, folder = _find_file(path, job, made_with)
    with closing(file):
        seen, failed = _open_seen(file, folder, made_with)
        images = Watch(partial(look, replace(request.inputs, limit=None)), seen, _roots(request))
        _write_meta(file, made_with, {})

        def begin() -> None:
            write_seen(file.path + SEEN, made_with, images.seen.copy(), rights_of=file.path)
            _write_meta(file, made_with, {})

        def save() -> None:
            rotated.sync()
            _write_meta(file, made_with, sidecar(job, tally, request.parameters, timed=False))

        rotated = RotatedFile(file, begin)
        with (
            reopening(rotated.follow),
            _labelling(job, request, tally, images, status, failed=failed, follow=rotated.follow, save=save) as (
                rows,
                wait,
            ),
        ):
            for row in rows:
                rotated.append(row, wait)


@contextmanager
def _labelling(
    job: Job[R],
    request: Request,
    tally: Tally,
    images: Watch,
    status: str | None,
    *,
    failed: Iterable[str] = (),
    follow: Callable[[], None] = lambda: None,
    save: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Iterator[R], Callable[[float], bool]]]:
    """The rows of images, which the block writes; and a function that waits, and gives whether to go on.

    Args:
        job: makes the rows.
        request: what is asked for.
        tally: counts images by their last rows.
        images: those that are there and that come.
        status: the file for monitoring, if any.
        failed: the images whose last row says that they failed.
        follow: called after each look at the folders.
        save: called in the end.
    """
    inputs, target = request.inputs, request.target
    heart = Heartbeat(status, partial(_state, images, tally, target.file))

    def finish(why: object = None) -> None:
        heart.stop()
        save()
        if not request.messages.quiet:
            say(": ".join(str(part) for part in (why, _summary(tally, target.file)) if part is not None))
        if why is not None:
            hush()  # queues that are torn down complain

    def after_look() -> None:
        follow()
        if images.is_idle:  # else the rows that come tell that all is well
            heart.beat()

    with (
        finishing_batches(finish, usual=True) as stop,
        warning_once(),
        writing_paths(request.upkeep.errors_to, null=inputs.null) as note_failure,
    ):
        for last in images.seen.values():
            tally.keep(last.status, last.error_code)
        for path in failed:
            note_failure(path)
        log.info("watching %s", " ".join(inputs.paths or ()))
        heart.start()
        sources = islice(images.sources(after_look), inputs.limit)
        made = job.rows(sources, **request.passing.arguments(Stages(), stop, live=True))
        shown = with_progress(made, tally, request.messages, None)
        yield _recorded(shown, images, tally, note_failure, heart.beat), partial(_wait, stop=stop, beat=heart.beat)
        tally.judge()
        if not stop():
            finish()


def _recorded(
    rows: Iterator[R], images: Watch, tally: Tally, note_failure: Callable[[str], None], beat: Callable[[], None]
) -> Iterator[R]:
    """The rows that say something new of their images; each counts when it has been written."""
    for row in rows:
        if not images.is_news(row):
            images.note(row)
        else:
            yield row
            last = images.note(row)
            if last is not None:
                tally.drop(last.status, last.error_code, kept=last.earlier)
            if row.status == "failed":
                note_failure(row.path)
            tally.add(row)
        beat()


def _wait(seconds: float, *, stop: Callable[[], bool], beat: Callable[[], None]) -> bool:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not stop():
        beat()
        time.sleep(min(left, 0.5))
    return not stop()


def _state(images: Watch, tally: Tally, output: str | None) -> dict[str, object]:
    """What monitoring asks of a watch."""
    return {
        "output": output,
        "rows": tally.total,
        "failed": tally.statuses["failed"],
        "errors": {code: count for code, count in tally.errors.items() if count},
        "last_row": utc(tally.last_made) if tally.last_made is not None else None,
        "waiting": images.waiting,
        "away": images.away,
    }


def _summary(tally: Tally, output: str | None) -> str:
    counts = f": {tally.counts()}" if tally.total else ""
    kept = f", {tally.kept:,} of them from before" if tally.kept else ""
    return f"{tally.total:,} images{counts}{kept}" + (f" -> {output}" if output is not None else "")


def _roots(request: Request) -> list[str]:
    """The folders that are looked into."""
    paths = request.inputs.paths or ()
    folders = (glob_folder(path) if is_pattern(path) else path for path in paths)
    return [folder for folder in dict.fromkeys(folders) if not os.path.isfile(folder)]


@contextmanager
def warning_once() -> Iterator[None]:
    """Let what is wrong with the inputs be said once, and not with every look at them."""
    said: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        message, before = record.getMessage(), len(said)
        said.add(message)
        return len(said) > before

    logger = logging.getLogger("dinoclassify.discover")
    logger.addFilter(is_new)
    try:
        yield
    finally:
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
    if not os.path.exists(real):
        with suppress(FileNotFoundError):
            os.unlink(real + SEEN)  # a new file begins with all images
    elif os.path.getsize(real) > len(job.row_format.lines.header()):
        before = read_meta(real + META, path, cure=cure)
        check_fingerprint(before["made_with"], path, as_json(made_with), option="--watch", cure=cure)
        folder = before.get("working_folder") or folder
    return AppendFile(real, path, job.row_format.lines), folder


def _write_meta(file: "AppendFile[R]", made_with: Mapping[str, object], meta: Mapping[str, object]) -> None:
    from dinoclassify.writers.fingerprint import META, write_meta

    rest = {"adds_to_output": False, "appended": True, "working_folder": os.getcwd(), **meta}
    write_meta(file.path + META, {"made_with": made_with, **rest})


def _open_seen(
    file: "AppendFile[R]", folder: str, made_with: Mapping[str, object]
) -> tuple[dict[str, Seen], Collection[str]]:
    """Open the file; gives the last row of each image, by absolute path, and the images that failed, as rows name them.

    The rows that stood in the file before it was rotated are among them.

    Raises:
        UsageError: it has rows that cannot be read, or whose relative paths begin in another ``folder`` than this one.
        OutputError: it cannot be written.
    """
    seen: dict[str, Seen] = {}
    failed: dict[str, str] = {}
    try:
        if os.path.exists(file.path + SEEN):
            seen.update(read_seen(file.path + SEEN, made_with))
            failed = {image: image for image, last in seen.items() if last.status == "failed"}
        file.open(check_end=True)
        for row in file.rows():
            if folder != os.getcwd() and is_relative_file(row.path):
                raise UsageError(f"{file.name} has paths that begin in {folder}: go there first (cd)")
            code = row.failure.code if row.failure is not None else None
            image = absolute_path(file_shown_as(row.path), folder)
            seen[image] = Seen(signature_in(row, None), row.status, code, earlier=True)
            failed.pop(image, None)
            if row.status == "failed":
                failed[image] = row.path
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{file.name} has rows that cannot be read ({error}): name another --output") from error
    return seen, failed.values()
