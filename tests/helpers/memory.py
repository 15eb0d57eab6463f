"""How much memory some work takes."""

import tracemalloc
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def measured(work: Callable[[], T], *, below: int = 0) -> tuple[int, T]:
    """The peak of Python's memory in bytes during some work, and what the work returns.

    It is done up to three times, and the least counts: threads that other tests have left may take some, too. Once it
    is ``below`` what a test allows, it need not be done again.
    """
    peaks: list[int] = []
    for _ in range(3):
        tracemalloc.start()
        try:
            result = work()
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        if peaks[-1] < below:
            break
    return min(peaks), result
