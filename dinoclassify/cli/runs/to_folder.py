"""A run on all machines of a Ray cluster, which writes its rows to a folder in parts."""

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from itertools import chain

from dinoclassify.cli.options import EngineOptions
from dinoclassify.cli.runs.inputs import nothing_found, search, second_look, selector_of
from dinoclassify.cli.runs.progress import log_model, report_interruption, with_progress
from dinoclassify.cli.runs.request import Request
from dinoclassify.cli.runs.tally import Tally
from dinoclassify.cli.runs.to_file import Job, check_still_there, finish, kept_rows, note_input, open_output, owned
from dinoclassify.cli.terminal import say
from dinoclassify.discovery.expand import expand_container
from dinoclassify.discovery.filters import Filters, InputSelector, take_shard_and_limit
from dinoclassify.discovery.path_list import writing_paths
from dinoclassify.errors import UsageError
from dinoclassify.storage.reader import with_signatures
from dinoclassify.types.source import SequentialContainer, Source
from dinoclassify.writers.formats import R


def check_parts(request: Request, cluster: EngineOptions) -> None:
    """Find out what can be known before the work begins; `check_run` has seen to the rest.

    Raises:
        UsageError: it cannot be done so.
    """
    if cluster.gpus is not None and cluster.gpus > 1 and not cluster.gpus.is_integer():
        raise UsageError(f"--gpus-per-replica {cluster.gpus:g}: it is a part of one GPU, or a whole number of them")
    if request.target.in_parts and request.inputs.shard is not None:
        raise UsageError("--shard makes one file of many: name a file with --output, and put them together with merge")
    if request.target.in_parts and request.target.chosen.seeks:
        raise UsageError(f"--format {request.target.chosen.name} needs a file: choose parquet, jsonl or csv")
    if cluster.engine == "local":
        if cluster.ray_address is not None or cluster.gpus is not None:
            raise UsageError("--ray-address and --gpus-per-replica go with --engine ray")
        return
    if not request.target.in_parts:
        raise UsageError("--engine ray writes a folder: -o labels/; merge makes one file of it")
    if request.passing.workers is not None:
        raise UsageError("--workers is for this machine: with --engine ray the processors of the cluster say how many")


def write_parts(open_job: Callable[[], Job[R]], request: Request, cluster: EngineOptions) -> int:
    """Write one row for each input; gives the exit code.

    Args:
        open_job: opens the model, in each replica.
        request: what is asked for.
        cluster: where it is done.
    """
    from dinoclassify.cluster.connection import connected
    from dinoclassify.cluster.engine import Decoding, completed_chunks, probe_model
    from dinoclassify.writers.chunks import ChunkPlan, chunk_size
    from dinoclassify.writers.output_folder import work_of

    inputs, passing, upkeep = request.inputs, request.passing, request.upkeep
    tally, folder = Tally(upkeep.failure_limit), request.target.file or ""
    disks: dict[int, str] = {}
    selector = selector_of(inputs, tally.passed_over, disks)
    with owned(request.target, upkeep), connected(cluster.ray_address):
        found = _plannable(request, selector)
        first = next(found, None)
        if first is None:
            raise nothing_found(inputs, tally.passed_over)
        origin = probe_model(open_job, gpus=cluster.gpus)
        log_model(origin.model)
        output = open_output(origin, request)
        tally.start(output.statuses)
        batch_size = passing.batch_size or origin.model.batch_size
        plan = ChunkPlan(
            work_of(folder), origin.row_format.lines, chunk_size(batch_size), retry_failed=upkeep.retry_failed
        )
        with (
            closing(output),
            report_interruption(tally, partial(kept_rows, request.target)) as stop,
            writing_paths(upkeep.errors_to, null=inputs.null) as note_failure,
        ):
            sources = with_signatures(chain([first], found), private=inputs.private_urls)
            pending = output.pending(sources, partial(note_input, tally, note_failure))
            results = completed_chunks(
                open_job,
                origin.model.preprocessing,
                plan.chunks(pending, partial(_note_kept, tally, note_failure)),
                plan.work,
                Decoding(batch_size, passing.exact, passing.max_pixels, passing.timeout, inputs.private_urls),
                expand=partial(expand_container, selector=selector),
                gpus=cluster.gpus,
                stop=stop,
            )
            with closing(results):
                for result in with_progress(results, tally, request.messages, second_look(inputs)):
                    plan.add(result.file)
                    for path in result.failed:
                        note_failure(path)
                    tally.add_all(result.statuses, result.errors)
            if not stop():
                check_still_there(disks, request.target)
                finish(output, origin, request, tally, made=plan)
        if not request.messages.quiet:
            say(f"{tally.summary()} -> {folder}")
    return tally.exit_code


def _note_kept(tally: Tally, note_failure: Callable[[str], None], row: R) -> None:
    """Count a row that an interrupted run has made of something in a stream."""
    from dinoclassify.writers.previous_rows import PreviousRow

    if row.failure is not None:
        note_failure(row.path)
    tally.note_input("kept", PreviousRow(0, row.status, row.failure.code if row.failure is not None else None))


def _plannable(request: Request, selector: InputSelector) -> Iterator[Source]:
    """The inputs. An archive that is read from front to back is so by the process that decodes its images."""
    limit = request.inputs.limit
    for source in take_shard_and_limit(search(request.inputs, selector), Filters(limit=limit)):
        if limit is not None and isinstance(source.content, SequentialContainer):
            raise UsageError(f"--limit does not count what is in {source.path}: leave it out, or name a file")
        yield source
