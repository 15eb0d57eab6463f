"""The loader: batches of pixels, not far ahead, and live inputs at once."""

import queue
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dinoclassify.decoding.loader import load_batches
from dinoclassify.decoding.worker import Worker
from dinoclassify.pipeline import classify
from dinoclassify.types.preprocessing import Preprocessing
from dinoclassify.types.source import Source
from tests.conftest import PHOTOS
from tests.helpers.hostile import run
from tests.helpers.levels import LABELS, TINY, Levels, load

pytestmark = pytest.mark.usefixtures("feed")


def test_inputs_are_not_read_far_ahead(greys: Path) -> None:
    asked = 0

    def sources() -> Iterator[Source]:
        nonlocal asked
        for _ in range(10_000):
            asked += 1
            yield Source(str(greys / "009.png"))

    batches = load(sources(), batch_size=4, workers=2)
    for number in range(1, 6):
        next(batches)
        assert asked <= 4 * (number + 2 * 2), "two batches a worker, and the one in hand"
    batches.close()  # type: ignore[attr-defined]  # it is a generator


def test_pixels_are_uint8_and_the_last_batch_is_shorter(greys: Path) -> None:
    batches = list(load([str(greys / f"{level:03}.png") for level in range(10)]))
    assert [len(batch.pixels) for batch in batches] == [4, 4, 2]
    assert {batch.pixels.dtype for batch in batches} == {np.dtype("uint8")}
    assert {batch.pixels.shape[1:] for batch in batches} == {(3, 8, 8)}
    assert all(item.pixels is None for batch in batches for item in batch.inputs)


def test_images_of_many_sizes_come_in_batches_of_one() -> None:
    free = Preprocessing(resize=32, crop=None, resample=3, mean=(0.0,) * 3, std=(1.0,) * 3)
    paths = sorted(map(str, PHOTOS.glob("*.jpg")))
    batches = list(load(paths, preprocessing=free))
    assert [len(batch.pixels) for batch in batches] == [1] * 5
    assert len({batch.pixels.shape for batch in batches}) > 1


def test_an_idle_worker_gets_a_live_image_at_once(greys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many workers there are, a single image does not wait for a batch to fill."""
    sent: list[tuple[int, bool]] = []
    send = Worker.send

    def note(self: Worker, sources: list[Source]) -> None:
        sent.append((len(sources), self.is_idle))
        send(self, sources)

    monkeypatch.setattr(Worker, "send", note)
    asked: queue.SimpleQueue[str] = queue.SimpleQueue()
    sources = map(Source, iter(asked.get, ""))
    batches = load_batches(sources, TINY, batch_size=4, workers=12, exact=False, max_pixels=10_000, live=True)
    for _ in range(6):
        asked.put(str(greys / "009.png"))
        while not (batch := next(batches)).inputs:
            pass
        assert len(batch.inputs) == 1
    asked.put("")
    assert not any(batch.inputs for batch in batches)
    assert sent == [(1, True)] * 6


def test_a_busy_worker_gets_full_batches(greys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it still has work, the next list is filled up: runtimes are fastest on full batches."""
    sent: list[int] = []
    send = Worker.send

    def note(self: Worker, sources: list[Source]) -> None:
        sent.append(len(sources) if not self.is_idle else 0)
        send(self, sources)

    monkeypatch.setattr(Worker, "send", note)
    predictions = run([str(greys / f"{number % 250:03}.png") for number in range(400)], workers=2, live=True)
    assert [prediction.index for prediction in predictions] == [number % 250 for number in range(400)]
    assert {size for size in sent if size} == {4}


def test_live_inputs_keep_the_runtime_busy(greys: Path) -> None:
    sources = [Source(str(greys / f"{number % 250:03}.png")) for number in range(400)]
    batches = load_batches(sources, TINY, batch_size=4, workers=2, exact=False, max_pixels=10_000, live=True)
    predictions = list(classify(batches, runtime := Levels(ahead=2), LABELS))
    assert [prediction.index for prediction in predictions] == [number % 250 for number in range(400)]
    assert runtime.most_under_way == 3


@pytest.mark.parametrize("live", [False, True])
def test_the_model_is_loaded_while_the_first_images_are_decoded(greys: Path, live: bool) -> None:
    events: list[str] = []
    paths = [str(greys / f"{level:03}.png") for level in range(5)]
    batches = load_batches(
        map(Source, paths), TINY, batch_size=4, workers=1, exact=False, max_pixels=10_000, live=live,
        on_start=lambda: events.append("loaded"),
    )  # fmt: skip
    for batch in batches:
        events += [item.source.path for item in batch.inputs]
    assert events == ["loaded", *paths]


def test_nothing_is_loaded_for_no_images() -> None:
    batches = load_batches(
        iter(()), TINY, batch_size=4, workers=1, exact=False, max_pixels=10_000, on_start=lambda: pytest.fail("loaded")
    )
    assert list(batches) == []
