"""A run that writes one row for each input: what `predict` and `embed` share."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Generic, Unpack

from dinoclassify.cli import options
from dinoclassify.cli.runs.inputs import Census, find_inputs, is_live, nothing_found, second_look
from dinoclassify.cli.runs.progress import log_model, log_stages, report_interruption, with_progress
from dinoclassify.cli.runs.request import Request, Target
from dinoclassify.cli.runs.signals import ending_with_reader
from dinoclassify.cli.runs.tally import Tally
from dinoclassify.cli.terminal import say
from dinoclassify.discovery.path_list import writing_paths
from dinoclassify.discovery.roots import check_disks
from dinoclassify.errors import FailuresError, NoInputsError
from dinoclassify.storage.lock import locked
from dinoclassify.storage.reader import with_signatures
from dinoclassify.storage.remote.url import is_url
from dinoclassify.system.environment import check_addresses
from dinoclassify.timing import StageTimer
from dinoclassify.types.source import Source
from dinoclassify.writers.formats import R, RowFormat
from dinoclassify.writers.staging import published
from dinoclassify.writers.stream import stream_rows

if TYPE_CHECKING:
    from dinoclassify.loaded_model import LoadedModel, Run
    from dinoclassify.writers.chunks import ChunkPlan
    from dinoclassify.writers.output import Change, Output
    from dinoclassify.writers.previous_rows import PreviousRow
    from dinoclassify.writers.provenance import Origin


@dataclass(frozen=True, slots=True)
class Job(Generic[R]):
    """What a run needs of an opened model.

    ``infer`` makes rows of batches of images, as classifiers and encoders do. ``settings`` are the options that the
    answers depend on, by name. ``outputs`` says how many labels or features there are.
    """

    model: "LoadedModel"
    infer: Callable[..., Iterator[R]]
    row_format: RowFormat[R]
    settings: Mapping[str, object]
    outputs: Mapping[str, int]

    def rows(self, sources: Iterable[Source], **run: Unpack["Run"]) -> Iterator[R]:
        """One row for each source, in order."""
        from dinoclassify.loaded_model import flow

        return self.infer(self.model.decoded(sources, **run), **flow(run))

    def origin(self) -> "Origin[R]":
        """What its rows come from. Reads the weights of a model that has no revision, for a digest."""
        from dinoclassify.writers.provenance import Origin

        weights = self.model.revision or self.model.digest()
        return Origin(self.model.info, weights, self.row_format, self.settings, self.outputs)


def write_rows(open_job: Callable[[], Job[R]], request: Request) -> int:
    """Write one row for each input, and metadata beside a file; gives the exit code.

    Args:
        open_job: opens the model, once there is an input for it.
        request: what is asked for.
    """
    inputs, target, upkeep = request.inputs, request.target, request.upkeep
    tally, stages = Tally(upkeep.failure_limit), StageTimer()
    disks: dict[int, str] = {}
    with owned(target, upkeep):
        census = Census(inputs.shard) if inputs.shard is not None else None
        found = find_inputs(inputs, census, tally.passed_over, disks)
        first = next(found, None)
        if first is None and (census is None or not census.inputs):  # a shard may well be empty
            raise nothing_found(inputs, tally.passed_over)
        sources: Iterator[Source] = chain([first] if first is not None else [], found)
        if upkeep.resume and not is_live(inputs):
            sources = with_signatures(sources, private=inputs.private_urls)
        check_addresses()
        job = open_job()
        log_model(job.model.info)
        origin = job.origin() if target.is_kept else None
        output = open_output(origin, request) if origin is not None else None
        tally.start(output.statuses if output is not None else {})
        with (
            closing(output) if output is not None else nullcontext(),
            report_interruption(tally, partial(kept_rows, target)) as stop,
            stages.measure("write"),
            writing_paths(upkeep.errors_to, null=inputs.null) as note_failure,
        ):

            def predictions(sources: Iterator[Source]) -> Iterator[R]:
                made = job.rows(sources, **arguments_of(request, stages, stop))
                return counted(with_progress(made, tally, request.messages, second_look(inputs)), tally, note_failure)

            if output is None or origin is None:
                with ending_with_reader() if target.file is None else nullcontext():
                    stream_rows(target.file, job.row_format, predictions(sources))
                tally.judge()
            else:
                for row in predictions(output.pending(sources, partial(note_input, tally, note_failure))):
                    output.write(row)
                if not stop():
                    check_still_there(disks, target)
                    finish(output, replace(origin, model=job.model.info), request, tally, census)
        log_stages(stages, job.model, exact=request.passing.exact)
    if not request.messages.quiet:
        say(tally.summary() + (f" -> {target.file}" if target.file is not None else ""))
    return tally.exit_code


def finish(
    output: "Output[R]",
    origin: "Origin[R]",
    request: Request,
    tally: Tally,
    census: Census | None = None,
    made: "ChunkPlan[R] | None" = None,
) -> None:
    """Put the output in place, unless too many rows failed or are gone.

    Args:
        output: which has the rows of all inputs.
        origin: what they come from.
        request: what was asked for.
        tally: their counts.
        census: where the inputs of a shard stand.
        made: the rows that other processes have written.
    """
    unnamed = output.unnamed(made.stream_paths() if made is not None else ())
    tally.add_unnamed(unnamed)
    tally.judge()
    shard = {"shard": census.taken(unnamed.statuses.total())} if census is not None else {}
    meta = {**run_metadata(origin, tally, request.parameters), **shard}
    output.finish(unnamed, meta, made.rows() if made is not None else None)


@contextmanager
def owned(target: Target, upkeep: options.OutputOptions) -> Iterator[None]:
    """Keep other runs from writing the output; if it is an object, send it when the block ends well.

    Raises:
        FailuresError: of the block, with what becomes of the output.
    """
    path = target.locked
    try:
        with (
            locked(path, wait=upkeep.wait) if path is not None else nullcontext(),
            published(target.url, path, resume=upkeep.resume, fresh=upkeep.fresh)
            if target.url is not None and path is not None and not target.in_parts
            else nullcontext(),
        ):
            yield
    except FailuresError as error:
        kept = f": {target.file} stays as it was{kept_rows(target)}" if path is not None else ""
        raise FailuresError(f"{error}{kept}") from None


def check_still_there(disks: Mapping[int, str], target: Target) -> None:
    """See that no disk went away during the run, see `check_disks`: its images would have lost their rows.

    Raises:
        NoInputsError: one did; the output stays as it was.
    """
    try:
        check_disks(disks)
    except NoInputsError as error:
        raise NoInputsError(f"{error} {target.file} stays as it was{kept_rows(target)}") from None


def arguments_of(request: Request, stages: StageTimer, stop: Callable[[], bool]) -> "Run":
    """How the images go through the model."""
    inputs = request.inputs
    return request.passing.arguments(stages, stop, live=is_live(inputs), private_urls=inputs.private_urls)


def open_output(origin: "Origin[R]", request: Request) -> "Output[R]":
    """The output of a run, with what earlier runs have left.

    Raises:
        UsageError, OutputError: see `writers.output.Output`.
    """
    from dinoclassify.writers.output import Output, UpdateOptions
    from dinoclassify.writers.output_file import OutputFile
    from dinoclassify.writers.output_folder import OutputFolder

    target, upkeep = request.target, request.upkeep
    batch_size = request.passing.batch_size or origin.model.batch_size
    place: OutputFile[R] | OutputFolder[R]
    if target.in_parts:
        place = OutputFolder(target.file or "", origin.row_format, batch_size=batch_size)
    else:
        place = OutputFile(target.kept_in or "", origin.row_format, batch_size=batch_size)
    options = UpdateOptions(upkeep.resume, upkeep.fresh, upkeep.retry_failed, upkeep.prune, upkeep.max_prune)
    return Output(place, origin.row_format.lines, all_made_with(origin, request), options)


def all_made_with(origin: "Origin[R]", request: Request) -> dict[str, object]:
    """Whatever the rows depend on, see `writers.provenance`."""
    passing = request.passing
    column = request.inputs.column if request.inputs.files_from is None else None
    from dinoclassify.writers.provenance import fingerprint

    # Rows whose metadata say `gpu` may have the label of another image: they do not go with these.
    made = fingerprint(origin, {"exact": passing.exact, "decoder": "cpu", "column": column})
    if request.parameters.get("precision") == "int8":
        made["precision"] = "int8"  # in which a run goes on when the network is ready, and the next run begins
    return made


def run_metadata(
    origin: "Origin[R]", tally: Tally, parameters: Mapping[str, object], *, timed: bool = True
) -> dict[str, object]:
    """What is written beside the rows when they are done; with their speed if they are ``timed``."""
    from dinoclassify.writers.provenance import describe

    return describe(
        origin,
        options=parameters,
        counts=tally.statuses,
        errors=tally.errors,
        kept=tally.kept,
        seconds=tally.seconds if timed else None,
        opening=tally.opening if timed else None,
    )


def kept_rows(target: Target) -> str:
    """Where the finished rows of an interrupted run are, as the end of a sentence."""
    journal = target.journal
    if journal is None or not (is_url(journal) or os.path.exists(journal)):
        return ""
    return f"; finished rows are in {journal}, --resume goes on"


def counted(rows: Iterable[R], tally: Tally, note_failure: Callable[[str], None]) -> Iterator[R]:
    """The same rows; each is counted when it has been written."""
    for row in rows:
        yield row
        if row.status == "failed":
            note_failure(row.path)
        tally.add(row)


def note_input(
    tally: Tally, note_failure: Callable[[str], None], source: Source, change: "Change", row: "PreviousRow | None"
) -> None:
    """Count what becomes of an input and of its earlier row."""
    if row is not None and change == "kept" and row.status == "failed":
        note_failure(source.path)
    tally.note_input(change, row)
