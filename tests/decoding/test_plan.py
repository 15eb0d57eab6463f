"""The lists of a worker: each becomes one batch, in order, however often it is split."""

import numpy as np

from dinoclassify.decoding.batch import Batch, DecodedImage, without_pixels
from dinoclassify.decoding.plan import PREFETCH, Plan, Task
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import Source


def sources(*names: str) -> list[Source]:
    return [Source(name) for name in names]


def decoded(task: Task) -> Batch:
    return Batch(
        [DecodedImage(source) for source in task.sources], np.zeros((len(task.sources), 3, 1, 1), np.uint8), 1.0, 2.0
    )


def names(tasks: list[Task]) -> list[str]:
    return ["".join(source.path for source in task.sources) for task in tasks]


def test_a_list_becomes_one_batch() -> None:
    plan = Plan()
    plan.add(sources("a", "b"))
    part = decoded(plan.first)
    assert plan.finish_first(part) is part
    assert plan.is_empty


def test_a_split_list_becomes_one_batch_in_order() -> None:
    plan = Plan()
    plan.add(sources("a", "b", "c"))
    plan.add(sources("d"))
    plan.split(plan.first, 1, None)
    assert names(plan.to_decode) == ["a", "b", "c", "d"]
    assert [task.alone for task in plan.to_decode] == [False, True, False, False]
    batches = [batch for _ in range(4) if (batch := plan.finish_first(decoded(plan.first))) is not None]
    assert [[item.source.path for item in batch.inputs] for batch in batches] == [["a", "b", "c"], ["d"]]
    assert (len(batches[0].pixels), batches[0].read_seconds, batches[0].decode_seconds) == (3, 3.0, 6.0)


def test_a_given_up_image_keeps_its_place_and_is_not_sent_again() -> None:
    plan = Plan()
    plan.add(sources("a", "b"))
    given_up = DecodedImage(Source("b"), failure=Failure("timeout", "took longer than 1 s"))
    plan.split(plan.first, 1, given_up)
    assert names(plan.to_decode) == ["a"]
    assert plan.finish_first(decoded(plan.first)) is None
    assert plan.first.given_up is given_up
    batch = plan.finish_first(without_pixels([given_up]))
    assert batch is not None
    assert [item.source.path for item in batch.inputs] == ["a", "b"]
    assert len(batch.pixels) == 1


def test_splitting_a_single_image_gives_the_image_alone() -> None:
    task = Task(sources("a"), ends_batch=False)
    (piece,) = task.split(0, None)
    assert (piece.sources, piece.ends_batch, piece.alone) == (task.sources, False, True)


def test_a_worker_takes_more_lists_of_remote_images() -> None:
    plan = Plan()
    for _ in range(PREFETCH):
        assert plan.has_room
        plan.add(sources("a.png"))
    assert not plan.has_room
    plan = Plan()
    for _ in range(PREFETCH):
        plan.add(sources("https://example.org/a.png"))
    assert plan.has_room
