"""Images -> small square JPEGs. Decoding runs in worker processes: a hostile file can crash only one of those."""

import io
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from dinoclassify.decoding.batch import Pixels
from dinoclassify.decoding.loader import load_batches
from dinoclassify.system.environment import available_cpus
from dinoclassify.types.preprocessing import Preprocessing
from dinoclassify.types.source import MAX_PIXELS, Source

SIDE = 160  # pixels: twice the displayed size, for high-density screens

_SQUARE = Preprocessing(
    resize=SIDE,
    crop=(SIDE, SIDE),
    resample=Image.Resampling.BICUBIC,
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    on_white=True,
)
_BATCH = 16  # images
_QUALITY = 75  # JPEG: 4 to 8 KB each


def make_thumbnails(images: Sequence[str]) -> Iterator[bytes | None]:
    """The centre of each image as a JPEG of `SIDE` x `SIDE` pixels, in order; None if it cannot be decoded.

    Raises:
        WorkerError: the decoding processes cannot be started, or keep dying.
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
        pixels = iter(batch.pixels)
        for item in batch.inputs:
            yield _jpeg(next(pixels)) if item.failure is None else None


def _jpeg(pixels: Pixels) -> bytes:
    """The bytes of a JPEG; ``pixels`` is RGB, uint8[3, H, W]."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(file, "JPEG", quality=_QUALITY, optimize=True)
    return file.getvalue()
