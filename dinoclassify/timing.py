"""Where the time of a run goes, by stage, and what would make it faster."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Literal, TypeVar

Stage = Literal["walk", "read", "decode", "forward", "write"]
STAGES: tuple[Stage, ...] = ("walk", "read", "decode", "forward", "write")

T = TypeVar("T")


class StageTimer:
    """The seconds that the main process spends on each stage, at work or waiting.

    As on a chess clock, time counts for one stage at a time, so that the stages add up. Reading and decoding happen in
    workers: the wait for them counts as ``decode``, and is split in the ratio in which workers spend their own time.
    """

    def __init__(self) -> None:
        self.images = 0
        self.workers = 0  # processes that decode
        self.read_seconds = 0.0  # of all workers together
        self.decode_seconds = 0.0
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._current: Stage | None = None
        self._since = 0.0
        self._last = 0.0

    @contextmanager
    def measure(self, stage: Stage) -> Iterator[None]:
        """Count the block for ``stage``, rather than for the stage that it interrupts."""
        interrupted = self._switch(stage)
        try:
            yield
        finally:
            self._switch(interrupted)

    def measure_each(self, stage: Stage, items: Iterable[T]) -> Iterator[T]:
        """The same items; the time to get each counts for ``stage``."""
        iterator = iter(items)
        while True:
            interrupted = self._switch(stage)
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self._switch(interrupted)
            yield item

    def reassign_last(self, stage: Stage, to: Stage) -> None:
        """Move the time that was last counted for ``stage`` to another stage. Call it right after that measurement."""
        self._seconds[stage] -= self._last
        self._seconds[to] += self._last

    def add_batch(self, images: int, read_seconds: float, decode_seconds: float) -> None:
        """Add the images and seconds of a batch that a worker decoded."""
        self.images += images
        self.read_seconds += read_seconds
        self.decode_seconds += decode_seconds

    def shares(self) -> dict[Stage, float]:
        """The share of the time that each stage took; together 1."""
        seconds = dict(self._seconds)
        in_workers = self.read_seconds + self.decode_seconds
        seconds["read"] = seconds["decode"] * self.read_seconds / in_workers if in_workers else 0.0
        seconds["decode"] -= seconds["read"]
        total = sum(seconds.values()) or 1.0
        return {stage: spent / total for stage, spent in seconds.items()}

    def bottleneck(self) -> Stage:
        """The stage that took most of the time."""
        shares = self.shares()
        return max(STAGES, key=shares.__getitem__)

    def summary(self) -> str:
        """The shares, and the milliseconds of an image in a worker, in one line."""
        parts = ", ".join(f"{stage} {share:.0%}" for stage, share in self.shares().items()).replace("%", " %")
        ms_per_image = 1000 / max(self.images, 1)
        return (
            f"time: {parts}; in a worker an image took {self.read_seconds * ms_per_image:.1f} ms to read, "
            f"{self.decode_seconds * ms_per_image:.1f} ms to decode"
        )

    def _switch(self, stage: Stage | None) -> Stage | None:
        now = perf_counter()
        interrupted, self._last = self._current, now - self._since
        if interrupted is not None:
            self._seconds[interrupted] += self._last
        self._current, self._since = stage, now
        return interrupted


def advice(
    stage: Stage,
    *,
    runtime: str,
    precision: str,
    exact: bool = False,
    int8: bool = True,
    openvino: bool = False,
    workers: int = 0,
    processors: int = 1,
) -> str:
    """What would make a run faster that spends most of its time in ``stage``, leaving out what has been tried.

    ``int8`` may help if the model gives labels, and int8 was neither refused nor slower. ``openvino`` is installed, but
    was not chosen or does not run this model. ``workers`` is the number of processes that decode.
    """
    if stage == "forward" and runtime == "torch" and precision == "fp16":
        return "try --compile, a larger --batch-size or a smaller --model"
    if stage == "forward" and runtime == "torch" and not openvino:
        return "on a CPU try pip install 'dinoclassify[openvino]'; else a smaller --model"
    if stage == "forward":
        try_int8 = int8 and runtime == "openvino" and precision != "int8"
        return "try a smaller --model" + (", or --precision int8" if try_int8 else "")
    if stage == "decode" and exact:
        return "leave out --exact"
    if stage == "decode" and workers >= processors:
        return "all processors decode: smaller images, or --shard on more machines"
    return {
        "walk": "name the images in a list, with --files-from",
        "read": "more --workers wait for a slow disk side by side",
        "decode": "more --workers, up to one a processor",
        "write": "write to a local disk, as --format csv",
    }[stage]
