"""An image's bytes -> pixels. Whatever goes wrong with an image becomes a `Failure`, never an error.

Two modes: exact repeats what transformers does, which is to decode in full, resize and crop. The default lets libjpeg
scale while it decodes, to no less than twice the target size, and resizes only the window that the crop keeps; the
results differ by the rounding of one resize. With a nearest-neighbour filter either step would pick other pixels, so
that filter always gets the whole image.
"""

import os
import warnings
from contextlib import suppress

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, JpegImagePlugin, features

from dinoclassify.decoding.batch import DecodedImage, Pixels
from dinoclassify.decoding.decoder_errors import is_damage, is_lack_of_memory
from dinoclassify.decoding.identify import identify
from dinoclassify.storage.reader import RefusedError, open_image
from dinoclassify.storage.signature import file_signature
from dinoclassify.types.prediction import Failure
from dinoclassify.types.preprocessing import OpaqueProcessor, Preprocessing, Window
from dinoclassify.types.source import MAX_PIXELS, Source

FIRST_TRANSPOSED = 5  # EXIF orientations from here up swap width and height

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels

_ALLOW = ": --max-pixels allows more"

# Times the allowed pixels: a JPEG up to that size is decoded if libjpeg scales it down to what is allowed.
SCALED_JPEG_FACTOR = 4

_ORIENTED = ("exif", "xmp")  # the only information about a JPEG that may tell its orientation


def decode(
    source: Source, preprocessing: Preprocessing | OpaqueProcessor, *, exact: bool = False, max_pixels: int = MAX_PIXELS
) -> DecodedImage:
    """The model's input for one image: uint8 pixels before normalising, or an `OpaqueProcessor`'s float32.

    Args:
        source: the image; `storage.fetcher` has read it if it is not on this machine.
        preprocessing: the model's preprocessing.
        exact: give the same pixels as transformers' `load_image` and image processor (``backend="pil"``), to the bit.
            Otherwise JPEGs are scaled while they are decoded, transparent images are laid on white, and 16-bit values
            are scaled to 8 bits.
        max_pixels: an image with more is refused before it is decoded. A JPEG that is scaled to less while it is
            decoded may have `SCALED_JPEG_FACTOR` times as many, unless it is progressive: libjpeg decodes that in full.
    """
    size, mtime_ns = source.signature or (None, None)
    stream, pixels, failure = None, None, None
    try:
        stream, (size, mtime_ns) = open_image(source)
        with stream, identify(stream) as image:
            most = _most_pixels(image, preprocessing, exact=exact, max_pixels=max_pixels)
            if image.width * image.height > most:
                raise RefusedError("too_large", f"{image.width} x {image.height} pixels, over {most:,}{_ALLOW}")
            pixels = _preprocess(image, preprocessing, exact=exact, max_pixels=max_pixels)
    except Exception as error:  # decoders raise nearly anything on broken data
        pixels, failure = None, _failure(error)
        if size is None:  # it could not be opened; a later run compares these to see whether the file has changed
            size, mtime_ns = file_signature(source.path)
    return DecodedImage(source, pixels, failure, size, mtime_ns, stream.seconds if stream is not None else 0.0)


def init_process() -> None:
    """Prepare a process for decoding: no warnings about odd files are printed."""
    Image.MAX_IMAGE_PIXELS = None  # `decode` counts pixels itself
    warnings.simplefilter("ignore")
    with open(os.devnull, "wb") as nothing:  # libtiff and others write to stderr directly
        os.dup2(nothing.fileno(), 2)


def decoders() -> dict[str, str | None]:
    """The version of each of Pillow's decoding libraries, None where Pillow was built without it."""
    libraries = {"jpeg": "libjpeg_turbo", "png": "zlib", "webp": "webp", "tiff": "libtiff", "avif": "avif"}
    return {name: features.version(library) for name, library in libraries.items()}


def preprocess_exactly(rgb: npt.NDArray[np.uint8], preprocessing: Preprocessing | OpaqueProcessor) -> Pixels:
    """The exact pixels, 3 x H' x W', of an image in memory: upright RGB, H x W x 3."""
    return _preprocess(Image.fromarray(rgb), preprocessing, exact=True, max_pixels=MAX_PIXELS)


def _most_pixels(
    image: Image.Image, preprocessing: Preprocessing | OpaqueProcessor, *, exact: bool, max_pixels: int
) -> int:
    """The most pixels that the image may have."""
    scales = isinstance(image, JpegImagePlugin.JpegImageFile) and "progressive" not in image.info
    return SCALED_JPEG_FACTOR * max_pixels if scales and _may_rescale(preprocessing, exact=exact) else max_pixels


def _may_rescale(preprocessing: Preprocessing | OpaqueProcessor, *, exact: bool) -> bool:
    """Whether an image may be scaled before it is resized: only for a filter that averages pixels."""
    if isinstance(preprocessing, OpaqueProcessor):
        return False
    return not exact and preprocessing.resample != Image.Resampling.NEAREST


def _preprocess(
    image: Image.Image, preprocessing: Preprocessing | OpaqueProcessor, *, exact: bool, max_pixels: int
) -> Pixels:
    if isinstance(preprocessing, OpaqueProcessor):
        pixels = preprocessing(_upright_rgb(image, exact=exact))
        if preprocessing.output_size not in (None, pixels.shape[1:]):
            raise RefusedError("decode_error", f"the image processor makes it {pixels.shape[2]} x {pixels.shape[1]}")
        return pixels
    full, orientation, used = image.size, 1, None
    may_rescale = _may_rescale(preprocessing, exact=exact)
    if isinstance(image, JpegImagePlugin.JpegImageFile) and may_rescale:
        # Only JPEG tells its orientation without decoding. PNG decodes to find it: an error in its data would be
        # suppressed here, and not occur again.
        orientation = _orientation(image)
        used = _scale_while_decoding(image, preprocessing, turned=orientation >= FIRST_TRANSPOSED)
    if image.width * image.height > max_pixels:
        raise RefusedError("too_large", f"{full[0]} x {full[1]} pixels, over {max_pixels:,} even when scaled{_ALLOW}")
    image = _upright_rgb(image, exact=exact)
    if preprocessing.on_white and "transparency" in image.info:
        image = _on_white(image)
    width, height = image.size
    box: Box = (0, 0, width, height)
    if used is not None:
        width, height = reversed(full) if orientation >= FIRST_TRANSPOSED else full
        box = _upright_box(used, image.size, orientation)
    window = preprocessing.window(height, width)
    fit, size = (_fit_window, window.size) if window.inside and may_rescale else (_fit, window.resized)
    if size[0] * size[1] > max_pixels:
        raise RefusedError("too_large", f"{width} x {height} pixels would be resized to over {max_pixels:,}{_ALLOW}")
    return fit(image, box, window, preprocessing.resample)


def _fit(image: Image.Image, box: Box, window: Window, resample: int) -> Pixels:
    """Resize the ``box`` of an upright RGB image, then crop. With the whole image: transformers' pixels to the bit."""
    height, width = window.resized
    image = image.resize((width, height), resample, box)
    if window.size != window.resized:
        image = image.crop((window.left, window.top, window.left + window.size[1], window.top + window.size[0]))
    return _planes(image)


def _fit_window(image: Image.Image, box: Box, window: Window, resample: int) -> Pixels:
    """Resize only the part of ``box`` that the crop keeps: the same as `_fit` up to rounding, and faster."""
    left, top, right, bottom = box
    x, y = (right - left) / window.resized[1], (bottom - top) / window.resized[0]
    height, width = window.size
    inside = (
        left + window.left * x,
        top + window.top * y,
        min(left + (window.left + width) * x, right),
        min(top + (window.top + height) * y, bottom),
    )
    return _planes(image.resize((width, height), resample, inside))


def _planes(image: Image.Image) -> npt.NDArray[np.uint8]:
    """An RGB image as 3 x H x W."""
    planes = np.empty((3, image.height, image.width), np.uint8)
    # Pillow picks one byte of each pixel in half the time in which NumPy picks every third byte.
    for band, plane in zip(image.mode, planes, strict=True):
        plane[...] = np.frombuffer(image.tobytes("raw", band), np.uint8).reshape(plane.shape)
    return planes


def _scale_while_decoding(
    image: JpegImagePlugin.JpegImageFile, preprocessing: Preprocessing, *, turned: bool
) -> tuple[float, float] | None:
    """Have libjpeg decode at 1/2, 1/4 or 1/8, to no less than twice the target size.

    Returns the (right, bottom) of the part that is used: the last column and row of the decoded image may reach beyond
    its edge. None where libjpeg cannot scale.
    """
    width, height = reversed(image.size) if turned else image.size
    target = preprocessing.window(height, width).resized
    drafted = image.draft(None, (2 * target[0], 2 * target[1]) if turned else (2 * target[1], 2 * target[0]))
    return None if drafted is None else drafted[1][2:]


def _upright_box(used: tuple[float, float], size: tuple[int, int], orientation: int) -> Box:
    """The used box of an upright image of ``size``; ``used`` is the (right, bottom) of that box as stored."""
    width, height = reversed(used) if orientation >= FIRST_TRANSPOSED else used
    left = size[0] - width if orientation in {2, 3, 6, 7} else 0.0
    top = size[1] - height if orientation in {3, 4, 7, 8} else 0.0
    return left, top, left + width, top + height


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 if it is missing or cannot be read."""
    if isinstance(image, JpegImagePlugin.JpegImageFile) and image.info.keys().isdisjoint(_ORIENTED):
        return 1
    with suppress(Exception):
        orientation = int(image.getexif().get(0x0112, 1))
        return orientation if orientation in range(1, 9) else 1
    return 1


def _upright_rgb(image: Image.Image, *, exact: bool) -> Image.Image:
    _load(image)
    if _orientation(image) != 1:
        with suppress(Exception):  # garbage in other tags does no harm to the image
            ImageOps.exif_transpose(image, in_place=True)
    if exact:
        return image if image.mode == "RGB" else image.convert("RGB")
    if image.mode == "F" or image.mode.startswith("I"):
        image = _to_8_bit(image)
    if image.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or "transparency" in image.info:
        return _on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _load(image: Image.Image) -> None:
    """Decode all pixels; raises RefusedError if the decoder fails with the code for damaged data."""
    try:
        image.load()
    except OSError as error:
        if is_damage(error):
            raise RefusedError("decode_error", f"the {image.format}'s data is damaged") from error
        raise


def _to_8_bit(image: Image.Image) -> Image.Image:
    """16-bit greys scaled by 1/257, floats from their minimum to their maximum: Pillow would clip both to white."""
    values = np.asarray(image)
    if values.dtype.kind == "f":
        low, high = np.nanmin(values), np.nanmax(values)
        values = np.nan_to_num((values - low) / max(high - low, np.finfo(values.dtype).tiny)) * 255
    else:
        values = values.clip(0, 65535) / 257
    return Image.fromarray(values.round().astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image.convert("RGBA"))
    return white.convert("RGB")


def _failure(error: Exception) -> Failure:
    if isinstance(error, RefusedError):
        return error.failure
    message = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, FileNotFoundError):
        return Failure("vanished", "no such file")
    if is_lack_of_memory(error):
        return Failure("out_of_memory", "not enough memory to decode it")
    if isinstance(error, OSError) and error.errno is not None:
        return Failure("unreadable", os.strerror(error.errno))
    if "truncated" in message.lower():
        return Failure("truncated", "the file ends too early")
    return Failure("decode_error", message)
