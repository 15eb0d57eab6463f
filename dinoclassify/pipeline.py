"""The whole story: sources are decoded in batches, a runtime classifies them, predictions come out in order."""

from collections.abc import Iterable, Iterator, Sequence
from math import isnan

from torch import Tensor

from dinoclassify.decode import Decoded
from dinoclassify.loader import Batch
from dinoclassify.rows import Failure, Label, Prediction, Status
from dinoclassify.runtimes import Runtime

_NONFINITE = Failure("nonfinite", "the model's answer is not a number, not even in fp32")


def classify(
    batches: Iterable[Batch], runtime: Runtime, labels: Sequence[str], *, top_k: int = 1, threshold: float = 0.0
) -> Iterator[Prediction]:
    """One prediction for every input of every batch, in order, those that failed to decode included.

    Args:
        batches: what the loader yields.
        runtime: pixels -> probabilities.
        labels: the name of each class, by index.
        top_k: how many labels a prediction gets, at most as many as there are.
        threshold: a best score below it makes a prediction ``uncertain``.
    """
    for batch in batches:
        answers = iter(_rank(runtime(batch.pixels), labels, top_k) if len(batch.pixels) else ())
        for item in batch.inputs:
            if item.failure is not None:
                yield _failed(item, item.failure)
            elif top := next(answers):
                status: Status = "ok" if top[0].score >= threshold else "uncertain"
                yield Prediction(item.source.path, status, top, size=item.size, mtime_ns=item.mtime_ns)
            else:
                yield _failed(item, _NONFINITE)


def _rank(probabilities: Tensor, labels: Sequence[str], top_k: int) -> Iterator[tuple[Label, ...]]:
    """The best labels of each row, best first; none for a row of NaN."""
    scores, indices = probabilities.topk(min(top_k, len(labels)))
    for row_scores, row_indices in zip(scores.tolist(), indices.tolist(), strict=True):
        ranked = zip(row_indices, row_scores, strict=True)
        yield tuple(Label(labels[index], index, score) for index, score in ranked if not isnan(score))


def _failed(item: Decoded, failure: Failure) -> Prediction:
    return Prediction(item.source.path, "failed", failure=failure, size=item.size, mtime_ns=item.mtime_ns)
