"""A run on all machines of a Ray cluster, which writes its rows to a folder in parts."""

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

from dinoclassify.cli.option_groups import EngineOptions
from dinoclassify.cli.runs.inputs import input_counter, require_inputs, search, selector_of
from dinoclassify.cli.runs.progress import log_model, report_interruption, with_progress
from dinoclassify.cli.runs.request import Request
from dinoclassify.cli.runs.summary import exit_code, summarize
from dinoclassify.cli.runs.to_file import check_still_there, finish, note_input, open_output
from dinoclassify.cli.terminal import say
from dinoclassify.discovery.expand import expand_container
from dinoclassify.discovery.filters import InputSelector, take_shard_and_limit
from dinoclassify.discovery.path_list import writing_paths
from dinoclassify.errors import UsageError
from dinoclassify.storage.output_paths import OutputPaths
from dinoclassify.storage.reader import with_signatures
from dinoclassify.types.source import SequentialContainer, Source
from dinoclassify.writers.formats.base import R
from dinoclassify.writers.tally import Tally

if TYPE_CHECKING:
    from dinoclassify.loaded_model import Job


def check_parts(request: Request, engine: EngineOptions) -> None:
    """Raise UsageError if options of a folder of parts and of a cluster contradict others, see `check_run`."""
    target = request.target
    if engine.gpus is not None and engine.gpus > 1 and not engine.gpus.is_integer():
        raise UsageError(
            f"--gpus-per-replica {engine.gpus:g}: write a whole number, or less than 1 for a part of a GPU"
        )
    if target.in_parts and request.inputs.shard is not None:
        raise UsageError(
            "--shard writes one file a shard: name a file with --output, then join them with merge "
            "(dinoclassify guide shards)"
        )
    if target.in_parts and target.file_format.seeks:
        raise UsageError(f"--format {target.file_format.name} needs a file: choose parquet, jsonl or csv")
    if engine.engine == "local":
        if engine.ray_address is not None or engine.gpus is not None:
            raise UsageError("--ray-address and --gpus-per-replica go with --engine ray")
        return
    if not target.in_parts:
        raise UsageError(
            "--engine ray writes a folder, such as -o labels/; merge joins it into one file (dinoclassify guide ray)"
        )
    if request.inference.workers is not None:
        raise UsageError(
            "--workers is for this machine, --engine ray uses the processors of the cluster: leave out --workers"
        )


def write_parts(open_job: "Callable[[], Job[R]]", request: Request, engine: EngineOptions) -> int:
    """Write one row for each input; each replica opens the model. Returns the exit code."""
    from dinoclassify.cluster.connection import connected
    from dinoclassify.cluster.engine import completed_chunks, probe_model
    from dinoclassify.cluster.tasks import Decoding
    from dinoclassify.writers.chunks import ChunkPlan, chunk_size

    inputs, inference, options = request.inputs, request.inference, request.output_options
    folder = request.target.file or ""
    tally = Tally(options.failure_limit)
    disks: dict[int, str] = {}  # device number -> a folder on it
    selector = selector_of(inputs, tally.passed_over, disks)
    with request.exclusive_output(), connected(engine.ray_address):
        sources = require_inputs(_plannable(request, selector), inputs, selector)
        origin = probe_model(open_job, gpus=engine.gpus)
        log_model(origin.model)
        output = open_output(origin, request)
        tally.start(output.statuses)
        batch_size = inference.batch_size or origin.model.batch_size
        work, lines = OutputPaths(folder).journal, origin.row_format.lines
        plan = ChunkPlan(work, lines, chunk_size(batch_size), retry_failed=options.retry_failed)
        with (
            closing(output),
            report_interruption(tally, request.target.resume_hint) as stop,
            writing_paths(options.errors_to, null=inputs.null) as note_failure,
        ):
            sources = with_signatures(sources, private=inputs.private_urls)
            pending = output.pending(sources, partial(note_input, tally, note_failure))
            results = completed_chunks(
                open_job,
                origin.model.preprocessing,
                plan.chunks(pending, partial(_note_kept, tally, note_failure)),
                work,
                Decoding(batch_size, inference.exact, inference.max_pixels, inference.timeout, inputs.private_urls),
                expand=partial(expand_container, selector=selector),
                gpus=engine.gpus,
                stop=stop,
            )
            total = input_counter(inputs)
            with closing(results):
                for result in with_progress(results, request.messages, done=lambda: tally.total, total=total):
                    plan.add(result.file)
                    for path in result.failed:
                        note_failure(path)
                    tally.add_all(result.statuses, result.errors)
            if not stop():
                check_still_there(disks, request.target)
                finish(output, origin, request, tally, plan=plan)
        if not request.messages.quiet:
            say(summarize(tally, folder))
    return exit_code(tally)


def _note_kept(tally: Tally, note_failure: Callable[[str], None], row: R) -> None:
    """Count a row that an interrupted run wrote for an image in an archive that is read from front to back."""
    from dinoclassify.writers.previous_rows import PreviousRow

    if row.failure is not None:
        note_failure(row.path)
    tally.note_input("kept", PreviousRow(0, row.status, row.failure.code if row.failure is not None else None))


def _plannable(request: Request, selector: InputSelector) -> Iterator[Source]:
    """Yield the inputs. An archive that is read from front to back is one: the process that decodes it expands it.

    Raises:
        UsageError: with ``--limit``, there is such an archive.
    """
    limit = request.inputs.limit
    for source in take_shard_and_limit(search(request.inputs, selector), shard=None, limit=limit):
        if limit is not None and isinstance(source.content, SequentialContainer):
            cure = "leave it out, or write to a file, such as -o labels.csv"
            raise UsageError(f"--limit cannot count the images in {source.path} in advance: {cure}")
        yield source
