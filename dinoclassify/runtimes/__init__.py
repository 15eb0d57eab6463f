"""Runtimes: pixels in, probabilities out. One file each."""

from typing import Protocol

from torch import Tensor


class Runtime(Protocol):
    """An engine with a model in it.

    A call takes uint8 pixels (or an `AsIs` processor's float32), B x 3 x H x W, and gives float32 probabilities,
    B x classes, on the CPU. A row is all NaN where the model gave no finite answer.
    """

    def __call__(self, pixels: Tensor) -> Tensor:
        """Classify a batch."""
