"""A run that writes its rows to a folder, in parts: on this machine, or on all machines of a cluster."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, cast

from dinoclassify.chunks import Chunk, Outcome, Piece, write_rows
from dinoclassify.cli.inputs import names_of, rules_of, search, second_look
from dinoclassify.cli.options import Cluster
from dinoclassify.cli.progress import log_model, log_stages, told_if_stopped, with_progress
from dinoclassify.cli.run import SOME_FAILED, Job, Request, all_made_with, arguments_of, keep, sidecar
from dinoclassify.cli.tally import Tally
from dinoclassify.cli.terminal import say
from dinoclassify.containers import contents
from dinoclassify.errors import NoInputsError, UsageError
from dinoclassify.filters import Filters, Rules, part
from dinoclassify.lists import writing_paths
from dinoclassify.locks import locked
from dinoclassify.parts import OutputFolder, work_of
from dinoclassify.reading import signed
from dinoclassify.sources import Source, Stream
from dinoclassify.stages import Stages
from dinoclassify.staging import stage_of
from dinoclassify.writers import R

if TYPE_CHECKING:
    from dinoclassify.loaded import LoadedModel


def check_parts(request: Request, cluster: Cluster) -> None:
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
    if request.passing.decoder == "gpu":
        raise UsageError("--decoder gpu does not go with --engine ray")


def write_parts(open_job: Callable[[], Job[R]], request: Request, cluster: Cluster) -> int:
    """Write one row for each input; gives the exit code.

    Args:
        open_job: opens the model, once there is an input for it: here, or in each replica.
        request: what is asked for.
        cluster: where it is done.
    """
    inputs, passing, target, upkeep = request.inputs, request.passing, request.target, request.upkeep
    folder, rules = target.file or "", rules_of(inputs)
    with (
        locked(folder.rstrip("/") if target.url is None else stage_of(folder.rstrip("/")), wait=upkeep.wait),
        _engine(cluster),
    ):
        found = _plannable(request, rules)
        first = next(found, None)
        if first is None:
            raise NoInputsError(f"no pictures found in {' '.join(names_of(inputs))}")
        job = open_job() if cluster.engine == "local" else _job_of(open_job, cluster)
        log_model(job.model)
        rows = OutputFolder(
            folder,
            job.row_format,
            all_made_with(job, request),
            batch_size=passing.batch_size or job.model.batch_size,
            resume=upkeep.resume,
            retry_failed=upkeep.retry_failed,
            prune=upkeep.prune,
        )
        sources = chain([first], found)
        stages, tally = Stages(), Tally(upkeep.failure_limit)
        with (
            told_if_stopped(tally, lambda: f"; they are in {work_of(folder)}, --resume goes on") as stop,
            stages.charge("write"),
            writing_paths(upkeep.errors_to, null=inputs.null) as note_failure,
        ):
            plan = rows.plan(signed(sources, private=inputs.private_urls), partial(keep, tally, note_failure))
            if cluster.engine == "local":
                outcomes = _answer_here(job, plan, request, rules, stages, stop)
            else:
                outcomes = _answer_there(open_job, job, plan, request, cluster, rules, stop)
            with closing(outcomes):
                for outcome in with_progress(outcomes, tally, request.messages, second_look(inputs)):
                    for path in outcome.failed:
                        note_failure(path)
                    tally.add_all(outcome.statuses, outcome.errors)
            tally.judge()
            if not stop():
                rows.finish(sidecar(job, tally, request.parameters))
        if cluster.engine == "local":
            log_stages(stages, job.model, exact=passing.exact)
        if not request.messages.quiet:
            say(f"{tally.summary()} -> {folder}")
    return SOME_FAILED if tally.statuses["failed"] else 0


def _engine(cluster: Cluster) -> AbstractContextManager[None]:
    if cluster.engine == "local":
        return nullcontext()
    from dinoclassify.connecting import connected

    return connected(cluster.ray_address)


def _job_of(open_job: Callable[[], Job[R]], cluster: Cluster) -> Job[R]:
    """The job as it is known here, where no model is opened: what is said of the model stands for it."""
    from dinoclassify.distributed import look_at_model

    facts = look_at_model(open_job, gpus=cluster.gpus)
    return Job(cast("LoadedModel", facts), iter, facts.row_format, facts.settings, facts.outputs)


def _plannable(request: Request, rules: Rules) -> Iterator[Source]:
    """The inputs; archives that are read from front to back are so by whoever answers them."""
    limit = request.inputs.limit
    for source in part(search(request.inputs, rules), Filters(limit=limit)):
        if limit is not None and isinstance(source.content, Stream):
            raise UsageError(f"--limit does not count what is in {source.path}: leave it out, or name a file")
        yield source


def _answer_here(
    job: Job[R], plan: Iterator[Chunk], request: Request, rules: Rules, stages: Stages, stop: Callable[[], bool]
) -> Generator[Outcome]:
    """What became of each chunk, when its rows are written."""
    ends: deque[tuple[Chunk, int]] = deque()  # the chunks that were begun, and how many pictures each has
    rows: list[R] = []

    def sources() -> Iterator[Source]:
        for chunk in plan:
            count = 0
            for source in chain.from_iterable(contents(source, rules) for source in chunk.sources):
                count += 1
                yield source
            ends.append((chunk, count))

    def finished() -> Iterator[Outcome]:
        while ends and len(rows) >= ends[0][1]:
            chunk, count = ends.popleft()
            piece = Piece(chunk.name, 0, last=True)
            yield write_rows(work_of(request.target.file or ""), piece, job.row_format.lines, rows[:count])
            del rows[:count]

    for row in job.rows(sources(), **arguments_of(request, stages, stop)):
        rows.append(row)
        yield from finished()
    if not stop():
        yield from finished()


def _answer_there(
    open_job: Callable[[], Job[R]],
    job: Job[R],
    plan: Iterator[Chunk],
    request: Request,
    cluster: Cluster,
    rules: Rules,
    stop: Callable[[], bool],
) -> Generator[Outcome]:
    """The same, by the replicas of a cluster."""
    from dinoclassify.distributed import Decoding, answer

    passing = request.passing
    return answer(
        open_job,
        job.model.preprocessing,
        plan,
        work_of(request.target.file or ""),
        Decoding(
            batch_size=passing.batch_size or job.model.batch_size,
            exact=passing.exact,
            max_pixels=passing.max_pixels,
            timeout=passing.timeout,
            private=request.inputs.private_urls,
        ),
        expand=partial(contents, rules=rules),
        gpus=cluster.gpus,
        stop=stop,
    )
