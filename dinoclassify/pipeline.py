"""The whole story: sources are decoded in batches, a runtime classifies them, predictions come out in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import isnan

import torch
from torch import Tensor

from dinoclassify.decode import Decoded
from dinoclassify.rows import Failure, Label, Prediction, Status
from dinoclassify.runtimes import Answer, Runtime
from dinoclassify.stages import Stages
from dinoclassify.workers import Batch

_NONFINITE = Failure("nonfinite", "the model's answer is not a number, not even in fp32")


def classify(
    batches: Iterable[Batch],
    runtime: Runtime,
    labels: Sequence[str],
    *,
    top_k: int = 1,
    threshold: float = 0.0,
    live: bool = False,
    stages: Stages | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Prediction]:
    """One prediction for every input of every batch, in order, those that failed to decode included.

    Args:
        batches: what the loader yields.
        runtime: pixels -> probabilities.
        labels: the name of each class, by index.
        top_k: how many labels a prediction gets, at most as many as there are.
        threshold: a best score below it makes a prediction ``uncertain``.
        live: give the predictions of a batch before the next is asked for, rather than keep the runtime busy.
        stages: the clock of the run.
        stop: asked before each batch; when it says so, those that were begun are finished, and no more.
    """
    clock = stages or Stages()
    started: deque[tuple[Batch, Answer]] = deque()

    def finish() -> Iterator[Prediction]:
        batch, answer = started.popleft()
        with clock.charge("forward"):
            ranked = _rank(answer(), labels, top_k)
        return _predictions(batch, ranked, threshold)

    try:
        for batch in clock.over("decode", batches):
            if stop():
                break
            clock.add_worker(len(batch.inputs), batch.read_seconds, batch.decode_seconds)
            if not batch.inputs:
                clock.recharge("decode", to="walk")  # nothing had come on the list
            with clock.charge("forward"):
                started.append((batch, runtime(batch.pixels) if len(batch.pixels) else _no_answer))
            while len(started) > (0 if live else runtime.ahead):
                yield from finish()
    except Exception:  # of the inputs, say: what was started before is answered before it is raised
        while started:
            yield from finish()
        raise
    while started:
        yield from finish()


def _predictions(batch: Batch, ranked: Iterable[tuple[Label, ...]], threshold: float) -> Iterator[Prediction]:
    answers = iter(ranked)
    for item in batch.inputs:
        if item.failure is not None:
            yield _failed(item, item.failure)
        elif top := next(answers):
            status: Status = "ok" if top[0].score >= threshold else "uncertain"
            yield Prediction(item.source.path, status, top, size=item.size, mtime_ns=item.mtime_ns)
        else:
            yield _failed(item, _NONFINITE)


def _no_answer() -> Tensor:
    return torch.empty(0, 0)


def _rank(probabilities: Tensor, labels: Sequence[str], top_k: int) -> list[tuple[Label, ...]]:
    """The best labels of each row, best first; none for a row of NaN."""
    scores, indices = probabilities.topk(min(top_k, probabilities.shape[1]))
    return [
        tuple(Label(labels[index], index, score) for index, score in zip(*row, strict=True) if not isnan(score))
        for row in zip(indices.tolist(), scores.tolist(), strict=True)
    ]


def _failed(item: Decoded, failure: Failure) -> Prediction:
    return Prediction(item.source.path, "failed", failure=failure, size=item.size, mtime_ns=item.mtime_ns)
