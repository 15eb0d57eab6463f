"""How much memory some work takes."""

import tracemalloc
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def measured(work: Callable[[], T]) -> tuple[int, T]:
    """The most bytes that Python has for some work at a time, and what the work gives.

    It is done three times, and the least counts: threads that other tests have left may take some, too.
    """
    peaks: list[int] = []
    for _ in range(3):
        tracemalloc.start()
        try:
            result = work()
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    return min(peaks), result
