"""The whole story: batches of decoded images -> a runtime -> predictions or embeddings, in order.

The runtime's outputs have passed `models.image_model`'s `postprocess`, which makes probabilities of a classifier's
logits.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import isnan

import numpy as np
import numpy.typing as npt

from dinoclassify.decoding.batch import NOTHING_CAME, Batch, DecodedImage
from dinoclassify.runtimes.base import Outputs, PendingOutput, Runtime, finite_rows
from dinoclassify.timing import StageTimer
from dinoclassify.types.embedding import Embedding
from dinoclassify.types.prediction import Failure, Label, Prediction, Status
from dinoclassify.types.run_options import RunOptions

Scores = Outputs  # the probability of each class, or of each group

_NO_OUTPUTS: Outputs = np.empty((0, 0), np.float32)
_LEAST_LENGTH = 1e-12  # of features that are scaled: zeros stay zeros
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
    fold: Callable[[Outputs], Outputs] | None = None,
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
    fold: Callable[[Outputs], Outputs] | None = None,
    options: RunOptions | None = None,
) -> Iterator[tuple[Prediction, Scores | None]]:
    """The predictions of `classify`, each with the scores of all labels; None for a failure."""
    options = options or RunOptions()
    least = threshold if multi_label else 0.0
    for batch, probabilities in run_batches(batches, runtime, options):
        with options.timer.measure("forward"):
            folded = fold(probabilities) if fold is not None and len(probabilities) else probabilities
            ranked = zip(_rank(folded, labels, top_k, least), folded, strict=True)
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
    dtype: npt.DTypeLike = np.float32,
    options: RunOptions | None = None,
) -> Iterator[Embedding]:
    """One embedding for every input of every batch, in order, failures included; see `run_batches`.

    If ``normalized``, each row of features is scaled to length 1; ``dtype`` is float32 or float16.
    """
    for batch, features in run_batches(batches, runtime, options or RunOptions()):
        with np.errstate(over="ignore", invalid="ignore"):  # what is too large for the type is a failure of its row
            converted = (_normalize(features) if normalized else features).astype(dtype, copy=False)
        results = iter(zip(converted, finite_rows(features), finite_rows(converted), strict=True))
        for item in batch.inputs:
            row, failure = None, item.failure
            if failure is None:
                row, is_finite, is_in_range = next(results)
                failure = None if is_in_range else _OUT_OF_RANGE if is_finite else _NONFINITE
            yield Embedding(item.source.path, row if failure is None else None, failure, item.size, item.mtime_ns)


def run_batches(batches: Iterable[Batch], runtime: Runtime, options: RunOptions) -> Iterator[tuple[Batch, Outputs]]:
    """Each batch with the runtime's outputs for its pixels, in order; see `RunOptions` for ``timer`` and ``stop``.

    The batches are as large as decoding hands them over. The runtime gets up to ``options.batch_size`` images at a
    time, by default its own number: parts of a batch, or several batches together.

    Errors of ``batches`` are raised after the outputs of the batches before them. A batch without inputs means that no
    other is ready: all started batches are finished.
    """
    started: deque[tuple[list[Batch], list[PendingOutput]]] = deque()
    size = options.batch_size or runtime.batch_size
    timer = options.timer
    errors: list[Exception] = []
    decoded = _until_stopped(batches, options, errors)
    for group in _groups(decoded, size):
        if group:
            with timer.measure("forward"):
                started.append((group, _start(runtime, group, size)))
        ahead = runtime.ahead if group else 0
        while sum(max(1, len(pending)) for _, pending in started) > ahead:
            yield from _finish(*started.popleft(), timer)
    if errors:
        raise errors[0]


def _until_stopped(batches: Iterable[Batch], options: RunOptions, errors: list[Exception]) -> Iterator[Batch]:
    """The same batches, timed, until the run is to stop, or until one of them fails: then its error is noted."""
    timer = options.timer
    decoded = timer.measure_each("decode", batches)
    while True:
        try:
            batch = next(decoded, None)
        except Exception as error:
            errors.append(error)
            return
        if batch is None or options.stop():
            return
        if batch is NOTHING_CAME:
            timer.reassign_last("decode", to="walk")
        if batch.inputs:
            timer.add_batch(len(batch.inputs), batch.read_seconds, batch.decode_seconds)
        yield batch


def _groups(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """Consecutive batches of up to ``size`` inputs, for one forward pass; an empty list: no other batch is ready.

    A batch with more inputs is a group of its own, and images of another size begin a new one. Failures count as
    inputs, and a group ends at each multiple of ``size`` inputs: a run that goes on there computes the same as one that
    was not interrupted.
    """
    group: list[Batch] = []
    inputs = 0
    for batch in batches:
        count = len(batch.inputs)
        if group and (not count or inputs + count > size or not _fit_together(group, batch)):
            yield group
            group = []
        if not count or inputs + count > size:
            inputs = 0
        if not count:
            yield []
            continue
        group.append(batch)
        inputs += count
        if inputs >= size:
            yield group
            group, inputs = [], 0
    if group:
        yield group
    yield []


def _fit_together(group: Sequence[Batch], batch: Batch) -> bool:
    """Whether the images of the group and of the batch have one size. A batch of failures fits all."""
    return len({part.pixels.shape[2:] for part in (*group, batch) if len(part.pixels)}) < 2


def _start(runtime: Runtime, group: Sequence[Batch], size: int) -> list[PendingOutput]:
    """Start to compute a group, up to ``size`` images at a time."""
    parts = [batch.pixels for batch in group if len(batch.pixels)]
    if sum(map(len, parts)) <= size:
        return [runtime(parts)] if parts else []
    return [runtime([part[start : start + size]]) for part in parts for start in range(0, len(part), size)]


def _finish(
    group: Sequence[Batch], pending: Sequence[PendingOutput], timer: StageTimer
) -> Iterator[tuple[Batch, Outputs]]:
    """Wait for the outputs of a group; each of its batches with its own rows of them."""
    with timer.measure("forward"):
        outputs = [output() for output in pending]
    rows = outputs[0] if len(outputs) == 1 else np.concatenate(outputs) if outputs else _NO_OUTPUTS
    start = 0
    for batch in group:
        yield batch, rows[start : start + len(batch.pixels)]
        start += len(batch.pixels)


def fold_into_groups(probabilities: Outputs, *, members: Outputs, multi_label: bool) -> Outputs:
    """Probabilities, B x classes -> B x groups: the sum over the classes of a group, at most 1.

    ``members``, classes x groups, is 1 where a class is in a group, else 0. If ``multi_label``, the classes do not
    exclude each other, and their sum may exceed 1: take the largest instead.
    """
    if multi_label:
        return np.stack([(probabilities * group).max(axis=1) for group in members.T], axis=1)
    folded: Outputs = np.minimum(probabilities @ members, 1)  # rounding may exceed it
    return folded


def _rank(probabilities: Outputs, labels: Sequence[str], top_k: int, least: float) -> list[tuple[Label, ...]]:
    """The best label of each row, and the next best ones that score at least ``least``; none for a row of NaN."""
    indices = _top(probabilities, min(top_k, probabilities.shape[1]))
    scores = np.take_along_axis(probabilities, indices, axis=1)
    return [
        tuple(
            Label(labels[index], index, score)
            for rank, (index, score) in enumerate(zip(*row, strict=True))
            if score >= least or (rank == 0 and not isnan(score))
        )
        for row in zip(indices.tolist(), scores.tolist(), strict=True)
    ]


def _top(scores: Outputs, count: int) -> npt.NDArray[np.intp]:
    """The indices of the ``count`` largest scores of each row, the largest first; of equal ones the first."""
    if count == 1:
        best: npt.NDArray[np.intp] = scores.argmax(axis=1, keepdims=True)
        return best
    largest = np.broadcast_to(np.arange(count), (len(scores), count))
    if count < scores.shape[1]:
        largest = np.argpartition(scores, -count, axis=1)[:, -count:]
        least = np.take_along_axis(scores, largest, axis=1).min(axis=1, keepdims=True)
        for row in np.flatnonzero((scores >= least).sum(axis=1) > count):  # more than `count`, as some are equal
            largest[row] = np.argsort(-scores[row], kind="stable")[:count]
        largest.sort(axis=1)
    order = np.argsort(-np.take_along_axis(scores, largest, axis=1), axis=1, kind="stable")
    ranked: npt.NDArray[np.intp] = np.take_along_axis(largest, order, axis=1)
    return ranked


def _normalize(features: Outputs) -> Outputs:
    """The same features, scaled to length 1: B x features."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    normalized: Outputs = features / np.maximum(lengths, _LEAST_LENGTH)
    return normalized


def _failed(item: DecodedImage, failure: Failure) -> Prediction:
    return Prediction(item.source.path, "failed", failure=failure, size=item.size, mtime_ns=item.mtime_ns)
