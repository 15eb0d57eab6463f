"""How batches of decoding become batches of a forward pass: joined or split, in order."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinoclassify.decoding.batch import NOT_READY, NOTHING_CAME, Batch, DecodedImage, Pixels
from dinoclassify.pipeline import _groups, _top, classify
from dinoclassify.runtimes.base import PendingOutput
from dinoclassify.types.prediction import Failure
from dinoclassify.types.run_options import RunOptions
from dinoclassify.types.source import Source
from tests.helpers.levels import LABELS, Levels

FAILED = Failure("truncated", "")


def batch(levels: Sequence[int | None], *, side: int = 2) -> Batch:
    """Images of these grey levels; None stands for one that failed."""
    inputs = [DecodedImage(Source(str(level)), failure=FAILED if level is None else None) for level in levels]
    good = np.array([level for level in levels if level is not None], np.uint8)
    return Batch(inputs, np.broadcast_to(good.reshape(-1, 1, 1, 1), (len(good), 3, side, side)))


def grouped(lengths: Sequence[int], size: int) -> list[list[int]]:
    """The lengths of the batches in each group, without the empty one at the end."""
    *groups, last = _groups([batch([0] * length) for length in lengths], size)
    assert last == [], "what has been started is finished"
    return [[len(part.pixels) for part in group] for group in groups]


class Sizes(Levels):
    """Notes how many images each forward pass has."""

    def __init__(self, ahead: int = 0) -> None:
        super().__init__(ahead)
        self.sizes: list[int] = []

    def __call__(self, parts: Sequence[Pixels]) -> PendingOutput:
        self.sizes.append(sum(map(len, parts)))
        return super().__call__(parts)


def test_groups_are_filled_up_to_the_size() -> None:
    assert list(map(sum, grouped([8] * 31, 64))) == [64, 64, 64, 56]
    assert list(map(sum, grouped([1] * 18, 4))) == [4, 4, 4, 4, 2]
    assert list(map(sum, grouped([8] * 4, 8))) == [8, 8, 8, 8]
    assert list(map(sum, grouped([3] * 9, 8))) == [6, 6, 6, 6, 3], "never more than the size"


def test_failures_do_not_change_how_later_images_are_grouped() -> None:
    """A resumed run begins after whole groups of inputs, and must compute the same."""
    groups = list(_groups([batch([None, 1]), batch([2, 3]), batch([4, 5]), batch([None, None]), batch([6, 7])], 4))
    assert [sum(len(part.inputs) for part in group) for group in groups] == [4, 4, 2, 0]


def test_a_batch_above_the_size_is_a_group_of_its_own() -> None:
    assert grouped([8, 8, 8], 2) == [[8], [8], [8]]
    assert grouped([1, 1, 9, 1, 1, 1, 1], 4) == [[1, 1], [9], [1, 1, 1, 1]]
    runtime = Sizes()
    list(classify([batch([1] * 9), batch([2] * 8)], runtime, LABELS, options=RunOptions(batch_size=4)))
    assert runtime.sizes == [4, 4, 1, 4, 4], "it is computed in parts"


def test_a_placeholder_ends_a_group() -> None:
    one, two, three = (batch([level]) for level in (1, 2, 3))
    for placeholder in (NOTHING_CAME, NOT_READY):
        assert list(_groups([one, two, placeholder, three], 4)) == [[one, two], [], [three], []]
        assert list(_groups([placeholder, placeholder], 4)) == [[], [], []]


def test_failures_need_no_forward_pass() -> None:
    runtime = Sizes()
    batches = [batch([None, None]), batch([5, None]), batch([None])]
    found = [row.index for row in classify(batches, runtime, LABELS)]
    assert found == [None, None, 5, None, None]
    assert runtime.sizes == [1]


def test_images_of_different_sizes_are_never_in_one_pass() -> None:
    runtime = Sizes()
    batches = [batch([level], side=side) for level, side in [(1, 2), (2, 2), (3, 3), (4, 3), (5, 2)]]
    failed = batch([None])
    found = [row.index for row in classify([*batches[:2], failed, *batches[2:]], runtime, LABELS)]
    assert found == [1, 2, None, 3, 4, 5]
    assert runtime.sizes == [2, 1, 1, 1]


def test_groups_of_mixed_sizes_end_at_multiples_of_the_size() -> None:
    """So that a run that goes on after eight inputs computes the same."""
    mixed = [batch([number], side=2 if number < 3 else 3) for number in range(16)]
    groups = list(_groups(mixed, 8))
    assert [len(group) for group in groups] == [3, 5, 8, 0]
    assert list(_groups(mixed[8:], 8)) == groups[2:]


@pytest.mark.parametrize("row", [[0.5, 0.5, 0.5, 0.1], [0.0, 0.2, 0.2, 0.2, 0.2, 0.2], [1.0, *[0.0] * 99], [0.1] * 50])
def test_the_first_of_equal_scores_wins_however_many_labels_are_asked_for(row: list[float]) -> None:
    scores = np.array([row], np.float32)
    expected = np.argsort(-scores[0], kind="stable")
    for count in range(1, len(row) + 1):
        assert _top(scores, count)[0].tolist() == expected[:count].tolist()


levels = st.one_of(st.none(), st.integers(0, 254))


@given(
    batches=st.lists(st.lists(levels, max_size=9), max_size=12),
    size=st.integers(1, 12),
    ahead=st.integers(0, 4),
)
def test_each_input_gets_its_own_prediction_however_batches_are_joined(
    batches: list[list[int | None]], size: int, ahead: int
) -> None:
    """A list without levels is a placeholder."""
    runtime = Sizes(ahead)
    options = RunOptions(batch_size=size)
    found = list(classify([batch(some) if some else NOT_READY for some in batches], runtime, LABELS, options=options))
    expected = [level for some in batches for level in some]
    assert [row.index for row in found] == expected
    assert [row.path for row in found] == [str(level) for level in expected]
    assert [row.status for row in found] == ["failed" if level is None else "ok" for level in expected]
    assert all(1 <= count <= size for count in runtime.sizes)
    assert sum(runtime.sizes) == sum(level is not None for level in expected), "each image is computed once"


@given(batches=st.lists(st.lists(levels, min_size=1, max_size=9), max_size=20), size=st.integers(1, 12))
def test_groups_keep_all_batches_in_order_and_within_the_size(batches: list[list[int | None]], size: int) -> None:
    made = [batch(some) for some in batches]
    groups = list(_groups(made, size))
    assert [id(part) for group in groups for part in group] == list(map(id, made))
    assert all(group for group in groups[:-1])
    assert all(len(group) == 1 or sum(len(part.pixels) for part in group) <= size for group in groups)
