"""JPEGs decoded and resized on a CUDA GPU by nvJPEG, through torchvision where its build has CUDA.

The workers read; all else of a picture that they decode themselves (other formats, CMYK, files cut short) goes by as
it is. A GPU decodes in full, so that there is no scaling while decoding, and resizes in float with antialiasing, as
transformers' own processors on torchvision do.
"""

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from importlib import import_module

import torch
from torch import Tensor
from torch.nn import functional

from dinoclassify.decode import TURNED, Decoded, decode
from dinoclassify.errors import UsageError, first_line
from dinoclassify.preprocessing import AsIs, Preprocessing
from dinoclassify.workers import Batch

log = logging.getLogger(__name__)

_MODES = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers of the filters that torch has


def check_gpu_decoder(device: str, preprocessing: Preprocessing | AsIs, *, exact: bool) -> None:
    """Find out before the run whether `decode_jpegs` can work.

    Raises:
        UsageError: it cannot; what is missing, and what to do.
    """
    if not device.startswith("cuda"):
        raise UsageError(f"--decoder gpu needs a CUDA GPU and the model runs on {device}: leave it out")
    if exact:
        raise UsageError("--decoder gpu is not --exact: leave one out")
    if isinstance(preprocessing, AsIs) or preprocessing.resample not in _MODES:
        raise UsageError("--decoder gpu: the image processor of this model runs on the CPU alone: leave it out")
    try:
        import_module("torchvision.io")
    except (ImportError, RuntimeError) as error:  # the second where it was built for another torch
        missing = "pip install torchvision" if isinstance(error, ModuleNotFoundError) else first_line(error)
        raise UsageError(f"--decoder gpu needs torchvision built for CUDA: {missing}") from error


def decode_jpegs(
    batches: Iterable[Batch], preprocessing: Preprocessing, device: str, *, max_pixels: int
) -> Iterator[Batch]:
    """The same batches with their JPEGs decoded; ``pixels`` are on ``device``, in the order of ``inputs``.

    What the GPU cannot decode, or has no memory for, is decoded here and now on the CPU, with all of its batch.
    """
    warn = log.warning
    for batch in batches:
        left = [item for item in batch.inputs if item.jpeg is not None]
        try:
            made = _decode_on_gpu(left, preprocessing, device, max_pixels) if left else []
        except RuntimeError as error:  # torchvision does not say which of them it was
            warn("%d JPEGs are decoded on the CPU after all: %s", len(left), first_line(error))
            warn = log.info
            made = [_decode_on_cpu(item, preprocessing, max_pixels) for item in left]
        yield _merged(batch, made, device) if left else batch


def _decode_on_gpu(
    items: Sequence[Decoded], preprocessing: Preprocessing, device: str, max_pixels: int
) -> list[tuple[Decoded, Tensor | None]]:
    from torchvision.io import ImageReadMode, decode_jpeg

    jpegs = [item.jpeg for item in items if item.jpeg is not None]
    contents = [torch.frombuffer(bytearray(jpeg.content), dtype=torch.uint8) for jpeg in jpegs]
    images: list[Tensor] = decode_jpeg(contents, mode=ImageReadMode.RGB, device=device)
    return [
        (replace(item, jpeg=None), _fit(_upright(image, jpeg.orientation), preprocessing, max_pixels))
        for item, jpeg, image in zip(items, jpegs, images, strict=True)
    ]


def _decode_on_cpu(item: Decoded, preprocessing: Preprocessing, max_pixels: int) -> tuple[Decoded, Tensor | None]:
    decoded = decode(item.source, preprocessing, max_pixels=max_pixels)
    pixels = None if decoded.pixels is None else torch.tensor(decoded.pixels)
    return replace(decoded, pixels=None), pixels


def _merged(batch: Batch, made: Iterable[tuple[Decoded, Tensor | None]], device: str) -> Batch:
    """The batch with what was ``made`` of its JPEGs in their places."""
    made, ready = iter(made), iter(batch.pixels.to(device, non_blocking=True))
    inputs, rows = list[Decoded](), list[Tensor]()
    for item in batch.inputs:
        if item.jpeg is None:
            done, row = item, next(ready) if item.failure is None else None
        else:
            done, row = next(made)
        inputs.append(done)
        if row is not None:
            rows.append(row.to(device))
    return replace(batch, inputs=inputs, pixels=torch.stack(rows) if rows else batch.pixels)


def _upright(image: Tensor, orientation: int) -> Tensor:
    """Turn 3 x H x W as stored the way that its EXIF orientation says."""
    if orientation >= TURNED:
        image = image.transpose(1, 2)
    flips = {2: (2,), 3: (1, 2), 4: (1,), 6: (2,), 7: (1, 2), 8: (1,)}.get(orientation, ())
    return image.flip(flips) if flips else image


def _fit(image: Tensor, preprocessing: Preprocessing, max_pixels: int) -> Tensor:
    """Resize and crop uint8, 3 x H x W; what lies outside the picture is black."""
    window = preprocessing.window(*image.shape[1:])
    if math.prod(window.resized) > max_pixels:  # the CPU resizes no more of a very long strip than it keeps
        raise RuntimeError(f"{window.resized[1]} x {window.resized[0]} pixels are too many to resize to")
    if tuple(image.shape[1:]) != window.resized:
        mode = _MODES[preprocessing.resample]
        values = functional.interpolate(image[None].float(), window.resized, mode=mode, antialias=True)[0]
        image = values.round().clamp(0, 255).to(torch.uint8)
    height, width = window.resized
    right, bottom = window.left + window.size[1] - width, window.top + window.size[0] - height
    return functional.pad(image, (-window.left, right, -window.top, bottom))  # a negative margin crops
