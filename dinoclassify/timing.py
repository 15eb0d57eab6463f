"""Where the time of a run goes: a clock that the rooms it passes through switch from stage to stage."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Literal, TypeVar

Stage = Literal["walk", "read", "decode", "forward", "write"]
STAGES: tuple[Stage, ...] = ("walk", "read", "decode", "forward", "write")

T = TypeVar("T")


class StageTimer:
    """The seconds of the main process by the stage that it worked on or waited for.

    As on a chess clock one stage is charged at a time, so that they add up. Reading and decoding happen in workers: the
    wait for them is charged to ``decode``, and shared out as the workers themselves have spent their time.
    """

    def __init__(self) -> None:
        self.images = 0
        self.workers = 0  # processes that decode
        self.read_seconds = 0.0  # of all workers together
        self.decode_seconds = 0.0
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._charged: Stage | None = None
        self._since = 0.0
        self._last = 0.0

    @contextmanager
    def measure(self, stage: Stage) -> Iterator[None]:
        """Charge the block to ``stage``, in place of what it is in the middle of."""
        interrupted = self._switch(stage)
        try:
            yield
        finally:
            self._switch(interrupted)

    def measure_each(self, stage: Stage, items: Iterable[T]) -> Iterator[T]:
        """The same items; getting at each is charged to ``stage``."""
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

    def reassign(self, stage: Stage, to: Stage) -> None:
        """Charge to another stage what was last charged to ``stage``."""
        self._seconds[stage] -= self._last
        self._seconds[to] += self._last

    def add_worker(self, images: int, read_seconds: float, decode_seconds: float) -> None:
        """Count what a worker has done for a batch."""
        self.images += images
        self.read_seconds += read_seconds
        self.decode_seconds += decode_seconds

    def shares(self) -> dict[Stage, float]:
        """The part of the time that each stage took; together 1."""
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
        """The shares, and what an image cost in a worker, in one line."""
        parts = ", ".join(f"{stage} {share:.0%}" for stage, share in self.shares().items()).replace("%", " %")
        of_each = 1000 / max(self.images, 1)
        return (
            f"time: {parts}; in a worker an image took {self.read_seconds * of_each:.1f} ms to read, "
            f"{self.decode_seconds * of_each:.1f} ms to decode"
        )

    def _switch(self, stage: Stage | None) -> Stage | None:
        now = perf_counter()
        interrupted, self._last = self._charged, now - self._since
        if interrupted is not None:
            self._seconds[interrupted] += self._last
        self._charged, self._since = stage, now
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
    """What would help where ``stage`` takes most of the time, and has not been tried.

    Args:
        stage: the bottleneck.
        runtime: what runs the model.
        precision: what it computes in.
        exact: images are decoded exactly.
        int8: it may help; not so where it has been refused, was no faster, or is for labels and these are features.
        openvino: it is installed, so it does not run this model, or was not wanted.
        workers: how many processes decode.
        processors: how many could.
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
