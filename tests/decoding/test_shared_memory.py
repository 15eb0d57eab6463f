"""The memory in which a worker leaves its results: it grows, shrinks, and may run out."""

import errno

import numpy as np
import pytest

from dinoclassify.decoding import shared_memory
from dinoclassify.decoding.shared_memory import Facts, ResultBuffer
from dinoclassify.types.prediction import Failure

FACTS: list[Facts] = [(None, 1, 2, 0.5), (Failure("truncated", "the file ends too early"), None, None, 0.0)]


def pixels(side: int, level: int = 7) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.full((3, side, side), level, np.uint8)


def write(buffer: ResultBuffer, turn: int, side: int, level: int = 7) -> shared_memory.ResultHeader:
    rows = buffer.rows(turn, 2, pixels(side))
    rows[0] = pixels(side, level)
    return buffer.finish(turn, rows[:1], FACTS)


def test_results_of_all_sizes_are_read_as_they_were_written() -> None:
    buffer = ResultBuffer(2)
    for turn, side in enumerate((4, 200, 3, 200, 1, 64, 500, 2)):
        read, facts = buffer.read(turn, write(buffer, turn, side, turn))
        assert np.array_equal(read, pixels(side, turn)[None])
        assert facts == FACTS


def test_a_result_that_was_read_does_not_change_with_its_slot() -> None:
    buffer = ResultBuffer(1)
    read, _ = buffer.read(0, write(buffer, 0, 8, 1))
    write(buffer, 1, 8, 2)
    assert np.array_equal(read, pixels(8, 1)[None])


@pytest.mark.parametrize("before", [1, 100])
def test_facts_are_written_even_where_there_was_no_memory_for_pixels(
    before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To touch memory that is not there would end the process."""
    buffer = ResultBuffer(1)
    buffer.read(0, write(buffer, 0, before))
    allocate = shared_memory._allocate

    def fail(descriptor: int, size: int) -> None:
        if size > 100_000:
            raise OSError(errno.ENOSPC, "full")
        allocate(descriptor, size)

    monkeypatch.setattr(shared_memory, "_allocate", fail)
    with pytest.raises(OSError, match="full"):
        buffer.rows(1, 2, pixels(1000))
    nothing = np.empty((0, 3, 0, 0), np.uint8)
    read, facts = buffer.read(1, buffer.finish(1, nothing, FACTS))
    assert (len(read), facts) == (0, FACTS)
