"""The whole story: batches of decoded images -> a runtime -> predictions or embeddings, in order.

The runtime's outputs have passed `models.image_model`'s `postprocess`, which makes probabilities of a classifier's
logits.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import isnan

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import normalize

from dinoclassify.decoding.batch import NOTHING_CAME, Batch, DecodedImage
from dinoclassify.runtimes.base import PendingOutput, Runtime
from dinoclassify.types.embedding import Embedding
from dinoclassify.types.prediction import Failure, Label, Prediction, Status
from dinoclassify.types.run_options import RunOptions

Scores = npt.NDArray[np.float32]  # the probability of each class, or of each group

_OUT_OF_RANGE = Failure("nonfinite", "a feature is too large for --dtype fp16: use --dtype fp32")
_NONFINITE = Failure("nonfinite", "the output of the model is not finite")


def classify(
    batches: Iterable[Batch],
    runtime: Runtime,
    labels: Sequence[str],
    *,
    top_k: int = 1,
    threshold: float = 0.0,
    multi_label: bool = False,
    fold: Callable[[Tensor], Tensor] | None = None,
    options: RunOptions | None = None,
) -> Iterator[Prediction]:
    """One prediction for every input of every batch, in order, failures included.

    ``labels`` has the name of each class, by index, or of each group, if ``fold`` turns the probabilities of classes
    from the ``runtime`` into those of groups, as `fold_into_groups` does. A prediction has ``top_k`` labels; a best
    score below the threshold makes it ``uncertain``. If ``multi_label``, further labels below the threshold are left
    out. ``options``: see `run_batches`.
    """
    scored = classify_with_scores(
        batches,
        runtime,
        labels,
        top_k=top_k,
        threshold=threshold,
        multi_label=multi_label,
        fold=fold,
        options=options,
    )
    return (prediction for prediction, _ in scored)


def classify_with_scores(
    batches: Iterable[Batch],
    runtime: Runtime,
    labels: Sequence[str],
    *,
    top_k: int = 1,
    threshold: float = 0.0,
    multi_label: bool = False,
    fold: Callable[[Tensor], Tensor] | None = None,
    options: RunOptions | None = None,
) -> Iterator[tuple[Prediction, Scores | None]]:
    """The predictions of `classify`, each with the scores of all labels; None for a failure."""
    options = options or RunOptions()
    least = threshold if multi_label else 0.0
    for batch, probabilities in run_batches(batches, runtime, options):
        with options.timer.measure("forward"):
            folded = fold(probabilities) if fold is not None and len(probabilities) else probabilities
            ranked = zip(_rank(folded, labels, top_k, least), folded.numpy(), strict=True)
        for item in batch.inputs:
            if item.failure is not None:
                yield _failed(item, item.failure), None
                continue
            top, scores = next(ranked)
            if top:
                status: Status = "ok" if top[0].score >= threshold else "uncertain"
                yield Prediction(item.source.path, status, top, size=item.size, mtime_ns=item.mtime_ns), scores
            else:
                yield _failed(item, _NONFINITE), None


def embed(
    batches: Iterable[Batch],
    runtime: Runtime,
    *,
    normalized: bool = False,
    dtype: torch.dtype = torch.float32,
    options: RunOptions | None = None,
) -> Iterator[Embedding]:
    """One embedding for every input of every batch, in order, failures included; see `run_batches`.

    If ``normalized``, each row of features is scaled to length 1; ``dtype`` is float32 or float16.
    """
    for batch, features in run_batches(batches, runtime, options or RunOptions()):
        converted = (normalize(features) if normalized and len(features) else features).to(dtype)
        finite, in_range = (rows.isfinite().all(dim=1).tolist() for rows in (features, converted))
        results = iter(zip(converted.numpy(), finite, in_range, strict=True))
        for item in batch.inputs:
            row, failure = None, item.failure
            if failure is None:
                row, is_finite, is_in_range = next(results)
                failure = None if is_in_range else _OUT_OF_RANGE if is_finite else _NONFINITE
            yield Embedding(item.source.path, row if failure is None else None, failure, item.size, item.mtime_ns)


def run_batches(batches: Iterable[Batch], runtime: Runtime, options: RunOptions) -> Iterator[tuple[Batch, Tensor]]:
    """Each batch with the runtime's outputs for its pixels, in order; ``options`` gives ``timer`` and ``stop``.

    Errors of ``batches`` are raised after the outputs of the batches before them. A batch without inputs
    means that no other is ready: all started batches are finished.
    """
    started: deque[tuple[Batch, PendingOutput]] = deque()
    timer = options.timer
    decoded = timer.measure_each("decode", batches)
    failure: Exception | None = None

    def finish() -> tuple[Batch, Tensor]:
        batch, output = started.popleft()
        with timer.measure("forward"):
            return batch, output()

    while True:
        try:
            batch = next(decoded, None)
        except Exception as error:
            batch, failure = None, error
        if batch is None or options.stop():
            break
        if batch is NOTHING_CAME:
            timer.reassign_last("decode", to="walk")
        if batch.inputs:
            timer.add_batch(len(batch.inputs), batch.read_seconds, batch.decode_seconds)
            with timer.measure("forward"):
                started.append((batch, runtime(batch.pixels) if len(batch.pixels) else lambda: torch.empty(0, 0)))
        while len(started) > (runtime.ahead if batch.inputs else 0):
            yield finish()
    while started:
        yield finish()
    if failure is not None:
        raise failure


def fold_into_groups(probabilities: Tensor, *, group_of: Tensor, groups: int, multi_label: bool) -> Tensor:
    """Probabilities, B x classes -> B x groups: the sum over the classes of a group, at most 1.

    ``group_of`` has the index of the group of each class. If ``multi_label``, the classes do not exclude each other,
    and their sum may exceed 1: take the largest instead.
    """
    folded = torch.zeros(len(probabilities), groups)
    if multi_label:
        return folded.scatter_reduce_(1, group_of.expand_as(probabilities), probabilities, "amax")
    return folded.index_add_(1, group_of, probabilities).clamp_(max=1)  # rounding may exceed it


def _rank(probabilities: Tensor, labels: Sequence[str], top_k: int, least: float) -> list[tuple[Label, ...]]:
    """The best label of each row, and the next best ones that score at least ``least``; none for a row of NaN."""
    scores, indices = probabilities.topk(min(top_k, probabilities.shape[1]))
    rows = [
        [Label(labels[index], index, score) for index, score in zip(*row, strict=True) if not isnan(score)]
        for row in zip(indices.tolist(), scores.tolist(), strict=True)
    ]
    return [(*ranks[:1], *(label for label in ranks[1:] if label.score >= least)) for ranks in rows]


def _failed(item: DecodedImage, failure: Failure) -> Prediction:
    return Prediction(item.source.path, "failed", failure=failure, size=item.size, mtime_ns=item.mtime_ns)
