"""Images -> small square JPEGs, by the processes that decode: a hostile file costs one of those, and no more."""

import io
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from dinoclassify.decoding.loader import load_batches
from dinoclassify.system.environment import available_cpus
from dinoclassify.types.preprocessing import Preprocessing
from dinoclassify.types.source import MAX_PIXELS, Source

SIDE = 160  # pixels: twice the size they are shown at, for fine screens

_SQUARE = Preprocessing(
    resize=SIDE,
    crop=(SIDE, SIDE),
    resample=Image.Resampling.BICUBIC,
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    on_white=True,
)
_BATCH = 16  # images
_QUALITY = 75  # of JPEG: 4 to 8 KB each


def make_thumbnails(images: Sequence[str]) -> Iterator[bytes | None]:
    """The middle of each image as a JPEG of `SIDE` x `SIDE`, in order; None of one that cannot be decoded.

    Raises:
        WorkerError: the processes that decode cannot be started, or keep dying.
    """
    batches = load_batches(
        map(Source, images),
        _SQUARE,
        batch_size=_BATCH,
        workers=max(1, min(available_cpus(), -(-len(images) // _BATCH))),
        exact=False,
        max_pixels=MAX_PIXELS,
    )
    for batch in batches:
        decoded = iter(batch.pixels.numpy())
        for item in batch.inputs:
            yield _jpeg(next(decoded)) if item.failure is None else None


def _jpeg(pixels: npt.NDArray[np.uint8]) -> bytes:
    """``pixels``: RGB, 3 x H x W."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(file, "JPEG", quality=_QUALITY, optimize=True)
    return file.getvalue()
