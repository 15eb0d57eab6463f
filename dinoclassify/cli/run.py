"""A run that writes one row for each input: what `predict` and `embed` share."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Generic

from dinoclassify.cli import options
from dinoclassify.cli.progress import log_model, log_stages, told_if_stopped, with_progress
from dinoclassify.cli.signals import ending_with_reader
from dinoclassify.cli.tally import Tally
from dinoclassify.cli.terminal import say
from dinoclassify.discover import IMAGE_SUFFIXES, Filters, discover
from dinoclassify.errors import NoInputsError, UsageError
from dinoclassify.files import is_regular
from dinoclassify.lists import writing_paths
from dinoclassify.locks import lock_of, locked
from dinoclassify.sources import Source
from dinoclassify.stages import Stages
from dinoclassify.streams import check_output, stream_rows
from dinoclassify.writers import FORMATS, Format, R, RowFormat

if TYPE_CHECKING:
    from dinoclassify.earlier import EarlierRow
    from dinoclassify.loaded import LoadedModel
    from dinoclassify.outputs import OutputFile

DASH = "-"  # stdin as an input, stdout as the output
SOME_FAILED = 3  # the exit code of a run that finished with failed rows


@dataclass(frozen=True, slots=True)
class Job(Generic[R]):
    """What a run needs of an opened model.

    ``answer`` is its `predict` or `embed`, which takes inputs and a `Run`. ``settings`` are the options that the
    answers depend on, by name. ``outputs`` says how many labels or features there are.
    """

    model: "LoadedModel"
    answer: Callable[..., Iterator[R]]
    row_format: RowFormat[R]
    settings: Mapping[str, object]
    outputs: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Target:
    """Where rows go: to a file, which is None for stdout; ``kept_in`` is the same if it is a regular file."""

    file: str | None
    chosen: Format

    @property
    def kept_in(self) -> str | None:
        """The file, if it is a regular one, which appears whole and can be resumed."""
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
    _check_new_file(target.file, target.chosen, named)
    if upkeep.errors_to is not None:
        _check_new_file(upkeep.errors_to, FORMATS[0], named)
        if target.file is not None and os.path.realpath(upkeep.errors_to) in files_of(target.file):
            raise UsageError(f"--errors-to {upkeep.errors_to} would be written over the output: choose another name")
    if upkeep.resume and target.kept_in is None:
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
    with locked(kept_in, wait=upkeep.wait) if kept_in is not None else nullcontext():
        found = look(inputs)
        first = next(found, None)
        if first is None:
            if empty is not None:
                _write_nothing(target, empty())
            raise NoInputsError(f"no pictures found in {' '.join(names_of(inputs))}")
        sources = chain([first], found)
        job = open_job()
        log_model(job.model)
        rows = _open_file(kept_in, job, upkeep, passing) if kept_in is not None else None
        stages, tally = Stages(), Tally(upkeep.failure_limit)
        with (
            closing(rows) if rows is not None else nullcontext(),
            told_if_stopped(tally, partial(_kept_rows, kept_in)) as stop,
            stages.charge("write"),
            writing_paths(upkeep.errors_to, null=inputs.null) as note_failure,
        ):

            def answers(sources: Iterator[Source]) -> Iterator[R]:
                run = passing.arguments(stages, stop)
                made = job.answer(sources, live=_is_live(inputs), **run)
                return counted(with_progress(made, tally, request.messages, _second_look(inputs)), tally, note_failure)

            if rows is None:
                with ending_with_reader() if target.file is None else nullcontext():
                    stream_rows(target.file, job.row_format, answers(sources))
                tally.judge()
            else:
                for row in answers(rows.fresh(sources, partial(_keep, tally, note_failure))):
                    rows.write(row)
                tally.judge()
                if not stop():
                    rows.finish(sidecar(job, tally, request.parameters))
        log_stages(stages, job.model, exact=passing.exact)
        if not request.messages.quiet:
            say(tally.summary() + (f" -> {target.file}" if target.file is not None else ""))
    return SOME_FAILED if tally.statuses["failed"] else 0


def names_of(inputs: options.Inputs) -> list[str]:
    """What stands on the command line."""
    return [*(inputs.paths or ()), *filter(None, [inputs.files_from])]


def look(inputs: options.Inputs) -> Iterator[Source]:
    """The inputs, lazily."""
    filters = Filters(
        include=inputs.include or (),
        exclude=inputs.exclude or (),
        hidden=inputs.hidden,
        follow=inputs.follow,
        shard=inputs.shard,
        limit=inputs.limit,
    )
    return discover(inputs.paths or [], filters, files_from=inputs.files_from, column=inputs.column, null=inputs.null)


def _is_live(inputs: options.Inputs) -> bool:
    return DASH in names_of(inputs)


def _second_look(inputs: options.Inputs) -> Callable[[], Iterator[Source]] | None:
    """A function that looks at the inputs again; None if they are gone once they were read."""
    again = not _is_live(inputs) and (inputs.files_from is None or os.path.isfile(inputs.files_from))
    return partial(look, inputs) if again else None


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
    """Whether ``file`` has the suffix of a picture, or is one of the files that were named."""
    same = any(os.path.isfile(path) and os.path.isfile(file) and os.path.samefile(path, file) for path in named)
    return same or os.path.splitext(file)[1].lower() in IMAGE_SUFFIXES


def _write_nothing(target: Target, row_format: RowFormat[R]) -> None:
    from dinoclassify.outputs import write_empty

    if target.kept_in is None:
        stream_rows(target.file, row_format, ())
    elif not os.path.exists(target.kept_in):  # never an empty file in the place of a good one
        write_empty(target.kept_in, row_format)


def _open_file(path: str, job: Job[R], upkeep: options.Upkeep, passing: options.Passing) -> "OutputFile[R]":
    from dinoclassify.outputs import OutputFile

    return OutputFile(
        path,
        job.row_format,
        all_made_with(job, passing),
        batch_size=passing.batch_size or job.model.batch_size,
        resume=upkeep.resume,
        retry_failed=upkeep.retry_failed,
        prune=upkeep.prune,
    )


def all_made_with(job: Job[R], passing: options.Passing) -> dict[str, object]:
    """Whatever the rows depend on, see `dinoclassify.provenance`."""
    from dinoclassify.provenance import made_with

    settings = {**job.settings, "exact": passing.exact, "decoder": passing.decoder}
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


def _keep(tally: Tally, note_failure: Callable[[str], None], source: Source, row: "EarlierRow") -> None:
    """Count a row of an earlier run."""
    if row.status == "failed":
        note_failure(source.path)
    tally.keep(row.status, row.error_code)
