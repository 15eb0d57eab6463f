"""Where the rows of a shard belong: packed into about a byte each, and read as they are needed."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinoclassify.discovery.shard_positions import PackedPositions, unpacked
from tests.helpers.memory import measured
from tests.helpers.parts import packed


@given(st.lists(st.integers(0, 2**40), unique=True))
def test_positions_are_read_back(positions: list[int]) -> None:
    assert list(unpacked(packed(sorted(positions)))) == sorted(positions)


@pytest.mark.parametrize(("shards", "most"), [(1, 0.01), (16, 1.0), (1000, 2.25)])
def test_position_takes_about_one_byte(shards: int, most: float) -> None:
    chance = random.Random(shards)
    gaps = [1 + int(chance.expovariate(1 / shards)) if shards > 1 else 1 for _ in range(20_000)]
    assert len(packed(list(itertools.accumulate(gaps)))) < most * len(gaps)


def test_positions_are_packed_and_unpacked_lazily() -> None:
    def pack() -> PackedPositions:
        some = PackedPositions()
        for position in range(0, 400_000, 2):
            some.add(position)
        assert list(itertools.islice(unpacked(some.packed()), 3)) == [0, 2, 4]
        return some

    most, some = measured(pack, below=1_000_000)
    assert most < 1_000_000
    some.add(400_000)
    assert sum(1 for _ in unpacked(some.packed())) == 200_001


def test_invalid_positions_are_refused() -> None:
    text = packed(range(0, 3000, 3))
    for garbage in (
        "",
        "x",
        "ä",
        "AAAA",
        text[:-8],
        text[: len(text) // 2 // 4 * 4],
        text + text,
        f"{text[:8]}!{text[8:]}",
    ):
        with pytest.raises(ValueError):
            list(unpacked(garbage))
    with pytest.raises(ValueError, match="3 comes after 3"):
        packed([3, 3])
