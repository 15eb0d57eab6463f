"""How one round of a contestant is measured: its images, its wall time and its core time."""

import gc
import multiprocessing
import resource
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

GPU_SECONDS = 5.0  # of a round on a GPU: its clocks take time to rise, and workers to start


@dataclass(frozen=True, slots=True)
class Speed:
    """What one round measured; ``core_seconds`` are those of all processes that it waited for."""

    images: float
    seconds: float
    core_seconds: float

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images / self.seconds


Round = Callable[[float], Speed]  # goes over its images once, and again until so many seconds have passed


def least_seconds(device: str) -> float:
    """How long a round takes at least."""
    return GPU_SECONDS if device.startswith("cuda") else 0.0


def repeat(count: int, work: Callable[[], object], least: float) -> Speed:
    """Time ``work``, which takes ``count`` images, and repeat it until ``least`` seconds have passed."""
    gc.collect()
    core, started, times = core_seconds(), perf_counter(), 0
    while not times or perf_counter() - started < least:
        work()
        times += 1
    return Speed(count * times, perf_counter() - started, core_seconds() - core)


def repeat_files(files: Sequence[str], work: Callable[[Iterable[str]], object], least: float) -> Speed:
    """Time one call of ``work`` on the files, in a stream that begins again until ``least`` seconds have passed.

    So worker processes start once, however often the files are repeated.
    """
    count = 0

    def stream() -> Iterator[str]:
        nonlocal count
        started = perf_counter()
        while not count or perf_counter() - started < least:
            count += len(files)
            yield from files

    speed = repeat(1, lambda: work(stream()), 0.0)
    return replace(speed, images=count)


def core_seconds() -> float:
    """The processor time, user and system, of this process and of its children that have ended."""
    for child in multiprocessing.active_children():  # the system counts a child when it has been waited for
        child.join(1.0)
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
