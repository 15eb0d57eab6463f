"""What decoding yields: the result of one image, and batches of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import Source

Pixels = npt.NDArray[np.uint8 | np.float32]


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """The result of one source: pixels, 3 x H x W, or a failure.

    ``size`` and ``mtime_ns`` are those of the file that was read; ``read_seconds`` is the wait for its bytes.
    """

    source: Source
    pixels: Pixels | None = None
    failure: Failure | None = None
    size: int | None = None
    mtime_ns: int | None = None
    read_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive inputs, and the pixels of those that decoded.

    ``inputs`` holds the result of each input, without its pixels. ``pixels`` is N x 3 x H x W, uint8 or an
    `OpaqueProcessor`'s float32, with one row for each input that has no failure, in the same order. A worker spent
    ``read_seconds`` and ``decode_seconds`` on the batch.
    """

    inputs: list[DecodedImage]
    pixels: Pixels
    read_seconds: float = 0.0
    decode_seconds: float = 0.0


def together(arrays: Sequence[Pixels]) -> Pixels:
    """The arrays, each N x 3 x H x W, as one; a single one is not copied."""
    if len(arrays) == 1:
        return arrays[0]
    stacked: Pixels = np.concatenate(arrays)
    return stacked


def without_pixels(inputs: list[DecodedImage]) -> Batch:
    """A batch of failures, or of nothing."""
    return Batch(inputs, np.empty((0, 3, 0, 0), np.uint8))


def joined(parts: Sequence[Batch]) -> Batch:
    """One batch of the inputs of all parts, in order."""
    if len(parts) == 1:
        return parts[0]
    pixels = [part.pixels for part in parts if len(part.pixels)]
    return Batch(
        [item for part in parts for item in part.inputs],
        together(pixels) if pixels else parts[0].pixels,
        sum(part.read_seconds for part in parts),
        sum(part.decode_seconds for part in parts),
    )


# Placeholders while no batch is ready: the pipeline finishes what it has started.
NOTHING_CAME = without_pixels([])  # no input has come
NOT_READY = without_pixels([])  # inputs are being read and decoded
