"""A run on this machine, which writes one row for each input: what `predict` and `embed` share."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from dinoclassify.cli.runs.inputs import find_inputs, input_counter, is_live, require_inputs, selector_of
from dinoclassify.cli.runs.progress import log_model, log_stages, report_interruption, with_progress
from dinoclassify.cli.runs.request import Request
from dinoclassify.cli.runs.signals import ending_with_reader
from dinoclassify.cli.runs.summary import exit_code, summarize
from dinoclassify.cli.terminal import say
from dinoclassify.discovery.path_list import writing_paths
from dinoclassify.discovery.roots import check_disks
from dinoclassify.discovery.shard_positions import ShardCensus
from dinoclassify.errors import NoInputsError
from dinoclassify.storage.reader import with_signatures
from dinoclassify.system.environment import check_addresses
from dinoclassify.timing import Stage, StageTimer
from dinoclassify.types.run_options import whole_batches
from dinoclassify.types.source import Source
from dinoclassify.writers.formats import FORMATS
from dinoclassify.writers.formats.base import R
from dinoclassify.writers.stream import stream_rows
from dinoclassify.writers.tally import Tally
from dinoclassify.writers.target import Target

if TYPE_CHECKING:
    from dinoclassify.loaded_model import Job
    from dinoclassify.writers.chunks import ChunkPlan
    from dinoclassify.writers.output import Change, Output
    from dinoclassify.writers.previous_rows import PreviousRow
    from dinoclassify.writers.provenance import Origin


def write_rows(open_job: "Callable[[], Job[R]]", request: Request) -> int:
    """Write one row for each input, and metadata beside a file. Returns the exit code.

    Opens the model once the run is known to have inputs.
    """
    inputs, target, options = request.inputs, request.target, request.output_options
    tally, stages = Tally(options.failure_limit), StageTimer()
    disks: dict[int, str] = {}  # device number -> a folder on it
    census = ShardCensus(inputs.shard) if inputs.shard is not None else None
    with request.exclusive_output():
        selector = selector_of(inputs, tally.passed_over, disks)
        sources = require_inputs(find_inputs(inputs, selector, census), inputs, selector, census)
        if options.resume and not is_live(inputs):
            sources = with_signatures(sources, private=inputs.private_urls)
        check_addresses()
        job = open_job()
        log_model(job.model.info)
        origin = job.origin() if target.is_resumable else None
        output = open_output(origin, request) if origin is not None else None
        tally.start(output.statuses if output is not None else {})
        with (
            closing(output) if output is not None else nullcontext(),
            report_interruption(tally, target.resume_hint) as stop,
            stages.measure("write"),
            writing_paths(options.errors_to, null=inputs.null) as note_failure,
        ):
            live, private = is_live(inputs), inputs.private_urls
            run = request.inference.run_options(stages, stop, live=live, private_urls=private)

            def rows() -> Iterator[R]:  # a function: a local variable would keep the workers alive after an error
                on_input = partial(note_input, tally, note_failure)
                pending = output.pending(sources, on_input) if output is not None else sources
                predictions = job.rows(pending, run)
                total = input_counter(inputs)
                shown = with_progress(predictions, request.messages, done=lambda: tally.total, total=total)
                return _counted(shown, tally, note_failure)

            if output is None or origin is None:
                with ending_with_reader() if target.file is None else nullcontext():
                    stream_rows(target.file, job.row_format, rows())
                tally.check_failures()
            else:
                for row in rows():
                    output.write(row)
                if not stop():
                    check_still_there(disks, target)
                    finish(output, replace(origin, model=job.model.info), request, tally, census)
        log_stages(run, job.model, _cures(request))
    if not request.messages.quiet:
        say(summarize(tally, target.file))
    return exit_code(tally)


def _cures(request: Request) -> dict[Stage, str]:
    """Return what options of the command make a stage faster, without those that are given."""
    inputs, target = request.inputs, request.target
    cures: dict[Stage, str] = {}
    if inputs.files_from is None and not is_live(inputs):
        cures["walk"] = "--files-from with a list of the images"
    if inputs.shard is None and not target.in_parts:
        cures["decode"] = "--shard on several machines"
    if target.file_format in FORMATS and target.file_format.table:
        cures["write"] = "--format csv"
    elif target.is_resumable and target.url is None:
        cures["write"] = "a faster disk for FILE"
    return cures


def finish(
    output: "Output[R]",
    origin: "Origin[R]",
    request: Request,
    tally: Tally,
    census: ShardCensus | None = None,
    plan: "ChunkPlan[R] | None" = None,
) -> None:
    """Publish the output; raises FailuresError or PruneError instead if a limit is exceeded.

    ``plan`` has the rows of other processes.
    """
    from dinoclassify.writers.provenance import run_metadata

    unmatched = output.unmatched(plan.stream_paths() if plan is not None else ())
    tally.add_unnamed(unmatched)
    tally.check_failures()
    shard = {"shard": census.metadata(unmatched.statuses.total())} if census is not None else {}
    metadata = {**run_metadata(origin, tally, request.parameters), **shard}
    output.finish(unmatched, metadata, plan.rows() if plan is not None else None)


def check_still_there(disks: Mapping[int, str], target: Target) -> None:
    """Raise NoInputsError if a disk went away during the run, see `check_disks`: its images would lose their rows."""
    try:
        check_disks(disks)
    except NoInputsError as error:
        raise NoInputsError(f"{error} {target.file} stays as it was{target.resume_hint()}") from None


def open_output(origin: "Origin[R]", request: Request) -> "Output[R]":
    """Open the output of a run, with the rows that earlier runs left; see `writers.output.Output.open`."""
    from dinoclassify.writers.output import Output
    from dinoclassify.writers.output_file import OutputFile
    from dinoclassify.writers.output_folder import OutputFolder

    target, row_format = request.target, origin.row_format
    batch_size = whole_batches(request.inference.batch_size or origin.model.batch_size)
    place: OutputFile[R] | OutputFolder[R]
    if target.in_parts:
        place = OutputFolder(target.file or "", row_format, batch_size=batch_size)
    else:
        place = OutputFile(target.local_file or "", row_format, batch_size=batch_size)
    return Output.open(place, row_format.lines, run_fingerprint(origin, request), request.output_options.update())


def run_fingerprint(origin: "Origin[R]", request: Request) -> dict[str, object]:
    """Return everything that the rows depend on besides the images, see `writers.provenance.fingerprint`."""
    from dinoclassify.writers.provenance import fingerprint

    column = request.inputs.column if request.inputs.files_from is None else None
    # Rows with "decoder": "gpu" in their metadata may have labels of other images: they cannot be resumed.
    settings = fingerprint(origin, {"exact": request.inference.exact, "decoder": "cpu", "column": column})
    if request.parameters.get("precision") == "int8":
        settings["precision"] = "int8"  # the run may start in another one, and switch when the network is ready
    return settings


def note_input(
    tally: Tally, note_failure: Callable[[str], None], source: Source, change: "Change", row: "PreviousRow | None"
) -> None:
    """Count what becomes of an input and of its earlier row."""
    if row is not None and change == "kept" and row.status == "failed":
        note_failure(source.path)
    tally.note_input(change, row)


def _counted(rows: Iterable[R], tally: Tally, note_failure: Callable[[str], None]) -> Iterator[R]:
    """Yield the same rows, and count each after it has been written."""
    for row in rows:
        yield row
        if row.status == "failed":
            note_failure(row.path)
        tally.add(row)
