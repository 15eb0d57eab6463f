"""A run that writes one row for each input: what `predict` and `embed` share."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Generic, Unpack

from dinoclassify.archives import is_archive
from dinoclassify.cli import options
from dinoclassify.cli.inputs import Census, is_live, look, names_of, second_look
from dinoclassify.cli.progress import log_model, log_stages, told_if_stopped, with_progress
from dinoclassify.cli.signals import ending_with_reader
from dinoclassify.cli.tally import Tally
from dinoclassify.cli.terminal import say
from dinoclassify.errors import NoInputsError, UsageError
from dinoclassify.files import is_regular
from dinoclassify.filters import has_image_suffix
from dinoclassify.lists import writing_paths
from dinoclassify.locks import lock_of, locked
from dinoclassify.reading import signed
from dinoclassify.sources import Source
from dinoclassify.stages import Stages
from dinoclassify.staging import published, stage_of
from dinoclassify.stores import filesystem, is_url
from dinoclassify.streams import check_output, stream_rows
from dinoclassify.tables import is_table
from dinoclassify.writers import FORMATS, Format, R, RowFormat

if TYPE_CHECKING:
    from dinoclassify.earlier import EarlierRow
    from dinoclassify.loaded import LoadedModel, Run
    from dinoclassify.outputs import OutputFile

SOME_FAILED = 3  # the exit code of a run that finished with failed rows


@dataclass(frozen=True, slots=True)
class Job(Generic[R]):
    """What a run needs of an opened model.

    ``answer`` makes rows of batches of pictures, as classifiers and encoders do. ``settings`` are the options that the
    answers depend on, by name. ``outputs`` says how many labels or features there are.
    """

    model: "LoadedModel"
    answer: Callable[..., Iterator[R]]
    row_format: RowFormat[R]
    settings: Mapping[str, object]
    outputs: Mapping[str, int]

    def rows(self, sources: Iterable[Source], **run: Unpack["Run"]) -> Iterator[R]:
        """One row for each source, in order."""
        from dinoclassify.loaded import flow

        return self.answer(self.model.decoded(sources, **run), **flow(run))


@dataclass(frozen=True, slots=True)
class Target:
    """Where rows go: to a file or an object, or ``in_parts`` to a folder of these; ``file`` is None for stdout."""

    file: str | None
    chosen: Format
    in_parts: bool = False

    @property
    def url(self) -> str | None:
        """The object, if it is one."""
        return self.file if self.file is not None and is_url(self.file) else None

    @property
    def kept_in(self) -> str | None:
        """The regular file, if any, which appears whole and can be resumed; of an object, before it is sent."""
        if self.url is not None:
            return stage_of(self.url)
        return self.file if self.file is not None and is_regular(self.file) else None


@dataclass(frozen=True, slots=True)
class Request:
    """What stands on the command line of a run, but for the model and what it is asked.

    ``parameters`` are all options, for the sidecar.
    """

    inputs: options.Inputs
    passing: options.Passing
    target: Target
    upkeep: options.Upkeep
    messages: options.Messages
    parameters: Mapping[str, object]


def check_run(request: Request) -> None:
    """Find out what can be known before the work begins.

    Raises:
        UsageError, OutputError: it cannot be done so.
    """
    target, upkeep = request.target, request.upkeep
    named = names_of(request.inputs)
    if not named:
        raise UsageError("name pictures, folders or globs, - for a list on stdin, or --files-from a list")
    if (upkeep.retry_failed or upkeep.prune) and not upkeep.resume:
        raise UsageError("--retry-failed and --prune go with --resume")
    if upkeep.strict and upkeep.max_failures is not None:
        raise UsageError("--strict is --max-failures 0: leave one out")
    if target.url is not None:
        filesystem(target.url)
        if "/" not in target.url.partition("://")[2].strip("/"):
            raise UsageError(f"{target.url} is a whole bucket: name an object, or a folder with / behind, in it")
        if is_archive(target.url):
            raise UsageError(f"{target.url} has the suffix of an archive: choose another name")
    elif not target.in_parts:
        _check_new_file(target.file, target.chosen, named)
    _check_tables(request)
    if upkeep.errors_to is not None:
        _check_new_file(upkeep.errors_to, FORMATS[0], named)
        if target.in_parts and target.url is None and is_below(upkeep.errors_to, target.file or ""):
            raise UsageError(f"--errors-to {upkeep.errors_to} is in the output folder: choose another name")
        if target.file is not None and os.path.realpath(upkeep.errors_to) in files_of(target.file):
            raise UsageError(f"--errors-to {upkeep.errors_to} would be written over the output: choose another name")
    if upkeep.resume and not target.in_parts and target.kept_in is None:
        raise UsageError("--resume goes with a file: name one with --output")


def write_rows(open_job: Callable[[], Job[R]], request: Request, *, empty: Callable[[], RowFormat[R]] | None) -> int:
    """Write one row for each input, and a sidecar to a file; gives the exit code.

    Args:
        open_job: opens the model, once there is an input for it.
        request: what is asked for.
        empty: the format of an output without rows, which is written if there are no inputs; None for no output.
    """
    inputs, passing, target, upkeep = request.inputs, request.passing, request.target, request.upkeep
    kept_in = target.kept_in
    with (
        locked(kept_in, wait=upkeep.wait) if kept_in is not None else nullcontext(),
        published(target.url, kept_in, resume=upkeep.resume) if target.url and kept_in else nullcontext(),
    ):
        census = Census(inputs.shard) if inputs.shard is not None else None
        found = look(inputs, census)
        first = next(found, None)
        if first is None and (census is None or not census.inputs):  # a shard may well be empty
            if empty is not None:
                _write_nothing(target, empty())
            raise NoInputsError(f"no pictures found in {' '.join(names_of(inputs))}")
        sources: Iterator[Source] = chain([first] if first is not None else [], found)
        if upkeep.resume and not is_live(inputs):
            sources = signed(sources, private=inputs.private_urls)
        job = open_job()
        log_model(job.model)
        rows = _open_file(kept_in, job, request) if kept_in is not None else None
        stages, tally = Stages(), Tally(upkeep.failure_limit)
        with (
            closing(rows) if rows is not None else nullcontext(),
            told_if_stopped(tally, partial(_kept_rows, kept_in)) as stop,
            stages.charge("write"),
            writing_paths(upkeep.errors_to, null=inputs.null) as note_failure,
        ):

            def answers(sources: Iterator[Source]) -> Iterator[R]:
                made = job.rows(sources, **arguments_of(request, stages, stop))
                return counted(with_progress(made, tally, request.messages, second_look(inputs)), tally, note_failure)

            if rows is None:
                with ending_with_reader() if target.file is None else nullcontext():
                    stream_rows(target.file, job.row_format, answers(sources))
                tally.judge()
            else:
                for row in answers(rows.fresh(sources, partial(keep, tally, note_failure))):
                    rows.write(row)
                tally.judge()
                if not stop():
                    taken = census.taken if census is not None else None
                    rows.finish(sidecar(job, tally, request.parameters), taken)
        log_stages(stages, job.model, exact=passing.exact)
    if not request.messages.quiet:
        say(tally.summary() + (f" -> {target.file}" if target.file is not None else ""))
    return SOME_FAILED if tally.statuses["failed"] else 0


def arguments_of(request: Request, stages: Stages, stop: Callable[[], bool]) -> "Run":
    """How the pictures go through the model."""
    inputs = request.inputs
    return request.passing.arguments(stages, stop, live=is_live(inputs), private_urls=inputs.private_urls)


def _check_tables(request: Request) -> None:
    """Find out whether a table would be written over that may be one of those with pictures."""
    file, inputs = request.target.file, request.inputs
    asked = inputs.column is not None and inputs.files_from is None
    if (
        asked
        and file is not None
        and is_table(file)
        and os.path.exists(file)
        and not os.path.exists(f"{file}.meta.json")
    ):
        raise UsageError(f"{file} is a table that no run wrote, and may be an input: choose another name")


def is_below(file: str, folder: str) -> bool:
    """Whether a file is in a folder, or below it."""
    return os.path.realpath(file).startswith(os.path.join(os.path.realpath(folder), ""))


def _check_new_file(file: str | None, chosen: Format, named: list[str]) -> None:
    """Find out whether a file may be written, as far as that can be known before the work begins."""
    check_output(file, chosen)
    if file is not None and _is_input(file, named):
        raise UsageError(f"{file} would be written over an input")


def files_of(output: str) -> set[str]:
    """What a run that writes ``output`` makes beside it."""
    path = os.path.realpath(output)
    return {lock_of(output), *(path + ending for ending in ("", ".partial", ".meta.json", ".partial.meta.json"))}


def _is_input(file: str, named: list[str]) -> bool:
    """Whether ``file`` has the suffix of a picture or an archive, or is one of the files that were named."""
    same = any(os.path.isfile(path) and os.path.isfile(file) and os.path.samefile(path, file) for path in named)
    return same or has_image_suffix(file) or is_archive(file)


def _write_nothing(target: Target, row_format: RowFormat[R]) -> None:
    from dinoclassify.outputs import write_empty

    if target.kept_in is None:
        stream_rows(target.file, row_format, ())
    elif not os.path.exists(target.kept_in):  # never an empty file in the place of a good one
        write_empty(target.kept_in, row_format)


def _open_file(path: str, job: Job[R], request: Request) -> "OutputFile[R]":
    from dinoclassify.outputs import OutputFile

    upkeep = request.upkeep

    return OutputFile(
        path,
        job.row_format,
        all_made_with(job, request),
        batch_size=request.passing.batch_size or job.model.batch_size,
        resume=upkeep.resume,
        retry_failed=upkeep.retry_failed,
        prune=upkeep.prune,
    )


def all_made_with(job: Job[R], request: Request) -> dict[str, object]:
    """Whatever the rows depend on, see `dinoclassify.provenance`."""
    passing = request.passing
    column = request.inputs.column if request.inputs.files_from is None else None
    from dinoclassify.provenance import made_with

    settings = {**job.settings, "exact": passing.exact, "decoder": passing.decoder, "column": column}
    return made_with(job.model, settings, job.row_format.name)


def sidecar(job: Job[R], tally: Tally, parameters: Mapping[str, object], *, timed: bool = True) -> dict[str, object]:
    """What is written beside the rows when they are done; with their speed if they are ``timed``."""
    from dinoclassify.provenance import describe

    return describe(
        job.model,
        outputs=job.outputs,
        options=parameters,
        counts=tally.statuses,
        errors=tally.errors,
        kept=tally.kept,
        seconds=tally.seconds if timed else None,
    )


def _kept_rows(kept_in: str | None) -> str:
    """Where the rows are that were finished."""
    journal = f"{os.path.realpath(kept_in)}.partial" if kept_in is not None else ""
    return f"; they are in {kept_in}.partial, --resume goes on" if os.path.exists(journal) else ""


def counted(rows: Iterable[R], tally: Tally, note_failure: Callable[[str], None]) -> Iterator[R]:
    """The same rows; each is counted when it has been written."""
    for row in rows:
        yield row
        if row.status == "failed":
            note_failure(row.path)
        tally.add(row)


def keep(tally: Tally, note_failure: Callable[[str], None], source: Source, row: "EarlierRow") -> None:
    """Count a row of an earlier run."""
    if row.status == "failed":
        note_failure(source.path)
    tally.keep(row.status, row.error_code)
