"""Batches in, predictions out: one for each input, in order, each with its own answer."""

import os
import queue
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinoclassify.decoding.batch import Batch, Pixels
from dinoclassify.decoding.loader import load_batches
from dinoclassify.errors import UsageError
from dinoclassify.pipeline import classify, classify_with_scores, embed
from dinoclassify.runtimes.base import Outputs, PendingOutput
from dinoclassify.types.prediction import Prediction
from dinoclassify.types.source import Source
from tests.conftest import PHOTOS
from tests.helpers.levels import LABELS, TINY, Levels, level_of, load, run


@pytest.mark.parametrize(("batch_size", "workers", "ahead"), [(1, 1, 0), (3, 2, 4), (8, 2, 2), (1000, 1, 0)])
def test_every_input_gets_its_own_prediction_in_order(greys: Path, batch_size: int, workers: int, ahead: int) -> None:
    paths = [str(greys / f"{level:03}.png") for level in (*range(0, 255, 5), 3, 3)]
    for position in (0, 7, 8, 20, 52):
        paths.insert(position, f"gone-{position}.png")
    predictions = run(paths, batch_size=batch_size, workers=workers, ahead=ahead)
    assert [prediction.path for prediction in predictions] == paths
    for path, prediction in zip(paths, predictions, strict=True):
        if path.startswith("gone"):
            assert (prediction.status, prediction.label) == ("failed", None)
        else:
            assert (prediction.status, prediction.index) == ("ok", int(Path(path).stem))
            assert prediction.size == os.path.getsize(path)
            assert prediction.mtime_ns == os.stat(path).st_mtime_ns


@given(
    levels=st.lists(st.one_of(st.none(), st.integers(0, 255)), max_size=12),
    batch_size=st.integers(1, 5),
    ahead=st.integers(0, 4),
)
def test_predictions_are_never_mixed_up(levels: list[int | None], batch_size: int, ahead: int) -> None:
    """The pipeline alone, on batches made here; None stands for an image that failed to decode."""
    from dinoclassify.decoding.batch import DecodedImage
    from dinoclassify.types.prediction import Failure

    items = [
        DecodedImage(Source(str(n)), failure=Failure("truncated", "") if level is None else None)
        for n, level in enumerate(levels)
    ]
    batches = []
    for start in range(0, len(levels), batch_size):
        good = [level for level in levels[start : start + batch_size] if level is not None]
        pixels = np.broadcast_to(np.array(good, np.uint8).reshape(-1, 1, 1, 1), (len(good), 3, 2, 2))
        batches.append(Batch(items[start : start + batch_size], pixels, 0.0, 0.0))
    predictions = list(classify(batches, runtime := Levels(ahead), LABELS))
    assert runtime.most_under_way <= ahead + 1
    assert [prediction.path for prediction in predictions] == [str(n) for n in range(len(levels))]
    for level, prediction in zip(levels, predictions, strict=True):
        code = prediction.failure.code if prediction.failure else None
        assert code == ("truncated" if level is None else "nonfinite" if level == 255 else None)
        assert prediction.index == (None if code else level)


def test_a_score_that_is_not_a_number_is_a_failed_row(greys: Path) -> None:
    white, grey = run([str(greys / "255.png"), str(greys / "009.png")])
    assert white.failure is not None
    assert (white.status, white.label, white.failure.code) == ("failed", None, "nonfinite")
    assert white.size == os.path.getsize(greys / "255.png")
    assert grey.index == 9


def test_a_low_score_is_uncertain_and_keeps_its_label(greys: Path) -> None:
    batches = list(load([str(greys / "009.png")]))
    for threshold, status in [(0.0, "ok"), (0.69, "ok"), (0.71, "uncertain"), (1.0, "uncertain")]:
        (prediction,) = classify(batches, level_of, LABELS, threshold=threshold)
        assert (prediction.status, prediction.label) == (status, "level 9")


def test_top_k_is_ranked_and_at_most_all_classes(greys: Path) -> None:
    batches = list(load([str(greys / "009.png")]))
    (prediction,) = classify(batches, level_of, LABELS, top_k=1000)
    assert len(prediction.top) == 256
    assert prediction.top[0].index == 9
    scores = [label.score for label in prediction.top]
    assert scores == sorted(scores, reverse=True)
    ((_, all_scores),) = classify_with_scores(batches, level_of, LABELS)
    assert all_scores is not None
    assert [all_scores[label.index] for label in prediction.top] == pytest.approx(scores)


def test_further_labels_of_a_multi_label_model_reach_the_threshold(greys: Path) -> None:
    batches = list(load([str(greys / "009.png"), str(greys / "255.png")]))
    for threshold, status, count in [(0.0, "ok", 3), (0.0009, "ok", 3), (0.002, "ok", 1), (0.71, "uncertain", 1)]:
        good, bad = classify(batches, level_of, LABELS, top_k=3, threshold=threshold, multi_label=True)
        assert (good.status, good.label, len(good.top)) == (status, "level 9", count)
        assert bad.status == "failed"


def test_live_inputs_are_classified_as_they_come(greys: Path) -> None:
    """Each input comes only after the prediction of the one before: waiting for a full batch would wait for ever."""
    paths = [str(greys / f"{level:03}.png") for level in range(5)]
    asked: queue.SimpleQueue[str] = queue.SimpleQueue()
    batches = load_batches(
        map(Source, iter(asked.get, "")), TINY, batch_size=4, workers=2, exact=False, max_pixels=10_000, live=True
    )
    asked.put(paths[0])
    answers = []
    for prediction in classify(batches, Levels(ahead=4), LABELS):
        answers.append(prediction)
        asked.put(paths[len(answers)] if len(answers) < 5 else "")
    assert [prediction.index for prediction in answers] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("live", "ahead"), [(False, 0), (True, 0), (False, 4)])
def test_an_error_of_the_inputs_is_raised_after_the_predictions(greys: Path, live: bool, ahead: int) -> None:
    def sources() -> Iterator[Source]:
        yield from [Source(str(greys / "005.png"))] * 9
        raise UsageError("the list is odd")

    batches = load_batches(sources(), TINY, batch_size=4, workers=2, exact=False, max_pixels=10_000, live=live)
    predictions = classify(batches, Levels(ahead), LABELS)
    assert [next(predictions).index for _ in range(9)] == [5] * 9
    with pytest.raises(UsageError, match="the list is odd"):
        next(predictions)


def test_live_and_listed_inputs_give_the_same_predictions(greys: Path) -> None:
    sources = [Source(str(greys / f"{level:03}.png")) for level in range(50)]
    batches = load_batches(sources, TINY, batch_size=8, workers=2, exact=False, max_pixels=10_000, live=True)
    assert list(classify(batches, level_of, LABELS)) == list(classify(load(iter(sources)), level_of, LABELS))


def test_no_inputs_give_no_predictions() -> None:
    assert run([]) == []


def test_failed_images_do_not_reach_the_model() -> None:
    runtime = Levels()
    predictions = list(classify(load(["gone.jpg"] * 5), runtime, LABELS))
    assert runtime.most_under_way == 0
    assert [prediction.status for prediction in predictions] == ["failed"] * 5


def test_no_prediction_follows_a_failure_of_the_model() -> None:
    class Failing(Levels):
        def __call__(self, parts: Sequence[Pixels]) -> PendingOutput:
            answer = super().__call__(parts)
            return answer if self.under_way < 2 else fail

    def fail() -> Outputs:
        raise RuntimeError("the device is gone")

    made: list[Prediction] = []
    with pytest.raises(RuntimeError, match="the device is gone"):
        made.extend(classify(load([str(PHOTOS / "coffee.jpg")] * 12, batch_size=4), Failing(ahead=2), LABELS))
    seen = [prediction for prediction in made if prediction.status == "ok"]
    assert seen == made[:4]


class Large(Levels):
    """A runtime whose features are too large for fp16, or not finite."""

    def __call__(self, parts: Sequence[Pixels]) -> PendingOutput:
        rows = [[7e4, 1.0], [np.inf, 1.0], [3.0, 4.0]]
        return lambda: np.array(rows, np.float32)[: sum(map(len, parts))]


def test_features_that_are_not_finite_or_too_large_are_failures() -> None:
    images = [str(path) for path in sorted(PHOTOS.glob("*.jpg"))[:3]]
    large, none, good = embed(load(images), Large(), dtype=np.float16)
    assert large.failure is not None
    assert large.failure.message == "a feature is too large for --dtype fp16: use --dtype fp32"
    assert none.failure is not None
    assert none.failure.message == "the output of the model is not finite"
    assert good.features is not None
    assert good.features.tolist() == [3, 4]
    first, _, last = embed(load(images), Large(), normalized=True)
    assert first.status == "ok"
    assert last.features is not None
    assert last.features.tolist() == pytest.approx([0.6, 0.8])
