"""The whole story: sources are decoded in batches, a runtime answers them, predictions or embeddings come in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import isnan

import torch
from torch import Tensor
from torch.nn.functional import normalize

from dinoclassify.decoding.batch import NOTHING_CAME, Batch, DecodedImage
from dinoclassify.runtimes import PendingOutput, Runtime
from dinoclassify.types.embedding import Embedding
from dinoclassify.types.prediction import Failure, Label, Prediction, Status
from dinoclassify.types.run_options import RunOptions

_OUT_OF_RANGE = Failure("nonfinite", "a feature is too large for --dtype fp16: leave that out")
_NONFINITE = Failure("nonfinite", "the output of the model is not finite")


def classify(
    batches: Iterable[Batch],
    runtime: Runtime,
    labels: Sequence[str],
    *,
    top_k: int = 1,
    threshold: float = 0.0,
    fold: Callable[[Tensor], Tensor] | None = None,
    options: RunOptions | None = None,
) -> Iterator[Prediction]:
    """One prediction for every input of every batch, in order, those that failed to decode included.

    Args:
        batches: what the loader yields.
        runtime: pixels -> probabilities.
        labels: the name of each class, by index; or of each group, if classes are folded into groups.
        top_k: how many labels a prediction gets, at most as many as there are.
        threshold: a best score below it makes a prediction ``uncertain``.
        fold: probabilities of the classes -> those of the groups; see `fold_into_groups`.
        options: see `run_batches`.
    """
    options = options or RunOptions()
    for batch, probabilities in run_batches(batches, runtime, options):
        with options.timer.measure("forward"):
            folded = fold(probabilities) if fold is not None and len(probabilities) else probabilities
            ranked = iter(_rank(folded, labels, top_k))
        for item in batch.inputs:
            if item.failure is not None:
                yield _failed(item, item.failure)
            elif top := next(ranked):
                status: Status = "ok" if top[0].score >= threshold else "uncertain"
                yield Prediction(item.source.path, status, top, size=item.size, mtime_ns=item.mtime_ns)
            else:
                yield _failed(item, _NONFINITE)


def embed(
    batches: Iterable[Batch],
    runtime: Runtime,
    *,
    normalized: bool = False,
    dtype: torch.dtype = torch.float32,
    options: RunOptions | None = None,
) -> Iterator[Embedding]:
    """One embedding for every input of every batch, in order, those that failed to decode included.

    Args:
        batches: what the loader yields.
        runtime: pixels -> features.
        normalized: scale each row of features to length 1.
        dtype: what the features are given in: float32 or float16.
        options: see `run_batches`.
    """
    for batch, features in run_batches(batches, runtime, options or RunOptions()):
        made = (normalize(features) if normalized and len(features) else features).to(dtype)
        finite, fits = (some.isfinite().all(dim=1).tolist() for some in (features, made))
        rows = iter(zip(made.numpy(), finite, fits, strict=True))
        for item in batch.inputs:
            row, failure = None, item.failure
            if failure is None:
                row, is_finite, is_in_range = next(rows)
                failure = None if is_in_range else _OUT_OF_RANGE if is_finite else _NONFINITE
            features_of_it = row if failure is None else None
            yield Embedding(item.source.path, features_of_it, failure, item.size, item.mtime_ns)


def run_batches(batches: Iterable[Batch], runtime: Runtime, options: RunOptions) -> Iterator[tuple[Batch, Tensor]]:
    """Each batch with the runtime's answers to its pixels, in order.

    Args:
        batches: what the loader yields. What goes wrong with them is raised when those before are answered. One without
            inputs leaves time: all that is started is finished.
        runtime: pixels -> answers.
        options: its ``timer`` and ``stop``; the others have shaped the batches.
    """
    started: deque[tuple[Batch, PendingOutput]] = deque()
    timer = options.timer
    coming = timer.measure_each("decode", batches)
    broken: Exception | None = None

    def finish() -> tuple[Batch, Tensor]:
        batch, answer = started.popleft()
        with timer.measure("forward"):
            return batch, answer()

    while True:
        try:
            batch = next(coming, None)
        except Exception as error:
            batch, broken = None, error
        if batch is None or options.stop():
            break
        if batch is NOTHING_CAME:
            timer.reassign("decode", to="walk")
        if batch.inputs:
            timer.add_worker(len(batch.inputs), batch.read_seconds, batch.decode_seconds)
            with timer.measure("forward"):
                started.append((batch, runtime(batch.pixels) if len(batch.pixels) else _no_outputs))
        while len(started) > (runtime.ahead if batch.inputs else 0):
            yield finish()
    while started:
        yield finish()
    if broken is not None:
        raise broken


def fold_into_groups(probabilities: Tensor, *, group_of: Tensor, groups: int, multi_label: bool) -> Tensor:
    """B x classes -> B x groups: the sum over the classes of a group.

    With ``multi_label``, where classes do not exclude each other and a sum would pass 1, the largest of them.

    Args:
        probabilities: of each class.
        group_of: the index of the group of each class.
        groups: how many there are.
        multi_label: see above.
    """
    folded = torch.zeros(len(probabilities), groups)
    if multi_label:
        return folded.scatter_reduce_(1, group_of.expand_as(probabilities), probabilities, "amax")
    return folded.index_add_(1, group_of, probabilities).clamp_(max=1)  # rounding may pass it


def _no_outputs() -> Tensor:
    return torch.empty(0, 0)


def _rank(probabilities: Tensor, labels: Sequence[str], top_k: int) -> list[tuple[Label, ...]]:
    """The best labels of each row, best first; none for a row of NaN."""
    scores, indices = probabilities.topk(min(top_k, probabilities.shape[1]))
    return [
        tuple(Label(labels[index], index, score) for index, score in zip(*row, strict=True) if not isnan(score))
        for row in zip(indices.tolist(), scores.tolist(), strict=True)
    ]


def _failed(item: DecodedImage, failure: Failure) -> Prediction:
    return Prediction(item.source.path, "failed", failure=failure, size=item.size, mtime_ns=item.mtime_ns)
