"""Where the time of a run goes, by stage, and what would make it faster."""

from collections.abc import Iterable, Iterator, Mapping
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
    def measure(self, stage: Stage | None) -> Iterator[None]:
        """Count the block for ``stage``, rather than for the stage that it interrupts; None counts it for none."""
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
    device: str = "cpu",
    compiled: bool = False,
    exact: bool = False,
    smaller: bool = True,
    bf16: bool = False,
    int8: bool = True,
    openvino: bool = False,
    own_batch_size: bool = False,
    workers: int = 0,
    processors: int = 1,
    command: Mapping[Stage, str] | None = None,
) -> str:
    """What would make a run faster that spends most of its time in ``stage``; empty if nothing is known.

    Only what can help this run, and what it does not do yet.

    Args:
        stage: see `StageTimer.bottleneck`.
        runtime: the runtime of the model.
        precision: the precision that the model computes in.
        device: the device of the model, as torch names it.
        compiled: whether the model is compiled.
        exact: whether images are decoded exactly as in transformers.
        smaller: whether there is a smaller model.
        bf16: whether the processor has instructions for it, and the user chose no precision.
        int8: whether the model gives labels, and int8 was neither refused nor slower.
        openvino: whether OpenVINO would run the model if it were installed.
        own_batch_size: whether the user chose the batch size.
        workers: the number of processes that decode.
        processors: the number of processors for them.
        command: what other options of the command help in a stage.
    """
    cures: dict[Stage, list[tuple[str, bool]]] = {
        "forward": [
            ("--compile", device.startswith("cuda") and not compiled),
            ("a larger --batch-size", device != "cpu" and not own_batch_size),
            ("pip install 'dinoclassify[openvino]'", openvino),
            ("--precision bf16", bf16 and precision == "fp32"),
            ("a smaller --model", smaller),
            ("--precision int8 in runs of over 6,000 images", int8 and runtime == "openvino" and precision != "int8"),
        ],
        "read": [("more --workers, so that more images are read at the same time", True)],
        "decode": [
            ("a run without --exact", exact),
            ("more --workers (up to one a processor)", workers < processors),
            ("smaller images (all processors decode)", workers >= processors),
        ],
    }
    helpful = [cure for cure, helps in cures.get(stage, ()) if helps]
    if command and stage in command:
        helpful.append(command[stage])
    first, last = ", ".join(helpful[:-1]), "".join(helpful[-1:])
    return f"try {first} or {last}" if first else f"try {last}" if last else ""
