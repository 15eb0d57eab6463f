"""An image's bytes -> pixels. The only room that touches Pillow; what goes wrong becomes a `Failure`, never an error.

Two paths lead to the model's input. The exact one is what transformers does: decode in full, resize, crop. The
default one lets libjpeg scale while it decodes, as long as twice the wanted size is left, and resizes the crop's
window alone; the difference is the rounding of one resize. Both would have the nearest-neighbour filter pick other
pixels, and so it gets the whole image.
"""

import os
import warnings
from contextlib import suppress

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, JpegImagePlugin, UnidentifiedImageError, features

from dinoclassify.decoding.batch import DecodedImage, Pixels
from dinoclassify.decoding.camera_raw import raw_format
from dinoclassify.storage.reader import ImageBytes, LocalImage, RefusedError, open_image
from dinoclassify.storage.signature import file_signature
from dinoclassify.types.prediction import Failure
from dinoclassify.types.preprocessing import OpaqueProcessor, Preprocessing, Window
from dinoclassify.types.source import MAX_PIXELS, Source

TURNED = 5  # EXIF orientations from here up swap width and height

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels

SCALED = 4  # a JPEG of so many times the pixels allowed is decoded all the same, if it is small by then

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")  # no other decoder is reached; JPEG opens MPO

_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"II*\0", b"MM\0*")  # what begins so is an image, if damaged
_FOREIGN = {
    b"%PDF": "PDF",
    b"%!PS": "PostScript",
    b"8BPS": "Photoshop",
    b"II\xbc": "JPEG XR",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\1\0": "icon",
    b"icns": "icon",
    b"<svg": "SVG",
    b"DDS ": "DDS",
    b"qoif": "QOI",
    b"\1\xda": "SGI",
    b"\x59\xa6\x6a\x95": "Sun raster",
    b"\x0a\5\1": "PCX",
    b"SIMPLE  =": "FITS",
    b"/* XPM": "XPM",
}

_ARCHIVES = {
    b"\xfd7zXZ\0": "an xz file",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a RAR archive",
    b"BZh": "a bzip2 file",
    b"\x1f\x8b": "a gzip file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"\x04\x22\x4d\x18": "an lz4 file",
    b"LZIP": "an lzip file",
    b"PK\3\4": "a zip archive",
}
_READABLE = ".zip .cbz .tar .tar.gz .tgz .tar.bz2 .tbz2 .tar.zst .tzst"  # archives that are looked into


def decode(
    source: Source, preprocessing: Preprocessing | OpaqueProcessor, *, exact: bool = False, max_pixels: int = MAX_PIXELS
) -> DecodedImage:
    """The pixels of one image as the model wants them: uint8 before normalising, or an `OpaqueProcessor`'s float32.

    Args:
        source: the image; one that is elsewhere has been read by `storage.fetcher`.
        preprocessing: what to make of it.
        exact: the same pixels as transformers' `load_image` and image processor (``backend="pil"``) give, to the bit.
            Otherwise JPEGs are scaled while they are decoded, transparent images are laid on white and 16-bit ones
            scaled to 8.
        max_pixels: an image with more is refused before it is decoded; a JPEG that is scaled to less while it is
            decoded may have `SCALED` times as many, unless it is progressive and so decoded in full by libjpeg.
    """
    size, mtime_ns = source.signature or (None, None)
    stream, pixels, failure = None, None, None
    try:
        stream, (size, mtime_ns) = open_image(source)
        with stream, _identify(stream) as image:
            most = _most_pixels(image, preprocessing, exact=exact, max_pixels=max_pixels)
            if image.width * image.height > most:
                raise RefusedError("too_large", f"{image.width} x {image.height} pixels, over {most}")
            pixels = _preprocess(image, preprocessing, exact=exact, max_pixels=max_pixels)
    except Exception as error:  # decoders raise nearly anything on broken data
        pixels, failure = None, _failure(error)
        if size is None:  # it could not be opened; what it looks like tells a later run whether it has changed
            size, mtime_ns = file_signature(source.path)
    return DecodedImage(source, pixels, failure, size, mtime_ns, stream.seconds if stream is not None else 0.0)


def init_process() -> None:
    """Make a process one for decoding: pixels are counted here, and remarks on odd files are not printed."""
    Image.MAX_IMAGE_PIXELS = None
    warnings.simplefilter("ignore")
    with open(os.devnull, "wb") as nothing:  # libtiff and others write to stderr by themselves
        os.dup2(nothing.fileno(), 2)


def decoders() -> dict[str, str | None]:
    """The version of each of Pillow's decoding libraries, None where it was built without."""
    libraries = {"jpeg": "libjpeg_turbo", "png": "zlib", "webp": "webp", "tiff": "libtiff", "avif": "avif"}
    return {name: features.version(library) for name, library in libraries.items()}


def preprocess_exactly(rgb: npt.NDArray[np.uint8], preprocessing: Preprocessing | OpaqueProcessor) -> Pixels:
    """The exact pixels, 3 x H' x W', of an image that is decoded already: upright RGB, H x W x 3."""
    return _preprocess(Image.fromarray(rgb), preprocessing, exact=True, max_pixels=MAX_PIXELS)


def _identify(stream: LocalImage | ImageBytes) -> Image.Image:
    """Open the image, reading no more than its header."""
    if (name := raw_format(stream)) is not None:
        raise RefusedError("unsupported_format", f"{name}: not supported yet")
    try:
        return Image.open(stream, formats=FORMATS)
    except UnidentifiedImageError:
        stream.seek(0)
        magic = stream.read(16)
        stream.seek(0)
    if not magic:
        raise RefusedError("not_image", "the file is empty")
    if magic.startswith(_MAGIC) or magic[8:12] == b"WEBP" or magic[4:12] in {b"ftypavif", b"ftypavis"}:
        raise RefusedError("decode_error", "its header is damaged, or it ends too early")
    if magic[4:8] == b"ftyp" and magic[8:12] in _HEIF_BRANDS:
        return _open_heif(stream)
    for prefix, name in _FOREIGN.items():
        if magic.startswith(prefix):
            raise RefusedError("unsupported_format", f"{name} is not supported")
    for prefix, name in _ARCHIVES.items():
        if magic.startswith(prefix):
            raise RefusedError("not_image", f"{name}, not an image; archives that can be read are named {_READABLE}")
    raise RefusedError("not_image", "not an image in a known format")


def _open_heif(stream: LocalImage | ImageBytes) -> Image.Image:
    try:
        from pillow_heif import HeifImageFile, register_heif_opener
    except ImportError:
        raise RefusedError("unsupported_format", "HEIC needs: pip install 'dinoclassify[heif]'") from None
    register_heif_opener()
    try:
        return Image.open(stream, formats=[HeifImageFile.format])
    except UnidentifiedImageError:
        raise RefusedError("decode_error", "its header is damaged, or it ends too early") from None


def _most_pixels(
    image: Image.Image, preprocessing: Preprocessing | OpaqueProcessor, *, exact: bool, max_pixels: int
) -> int:
    """How many pixels the image may have."""
    scales = isinstance(image, JpegImagePlugin.JpegImageFile) and "progressive" not in image.info
    return SCALED * max_pixels if scales and _may_rescale(preprocessing, exact=exact) else max_pixels


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
        # Of other formats the orientation must not be asked for yet: PNG decodes to find it, and the error of broken
        # data would come here, never to come again.
        orientation = _orientation(image)
        used = _scale_while_decoding(image, preprocessing, turned=orientation >= TURNED)
    if image.width * image.height > max_pixels:
        raise RefusedError("too_large", f"{full[0]} x {full[1]} pixels, over {max_pixels} even when scaled")
    image = _upright_rgb(image, exact=exact)
    if preprocessing.on_white and "transparency" in image.info:
        image = _on_white(image)
    width, height = image.size
    box: Box = (0, 0, width, height)
    if used is not None:
        width, height = reversed(full) if orientation >= TURNED else full
        box = _upright_box(used, image.size, orientation)
    window = preprocessing.window(height, width)
    fit, made = (_fit_window, window.size) if window.inside and may_rescale else (_fit, window.resized)
    if made[0] * made[1] > max_pixels:
        raise RefusedError("too_large", f"{width} x {height} pixels would be resized to over {max_pixels}")
    return fit(image, box, window, preprocessing.resample)


def _fit(image: Image.Image, box: Box, window: Window, resample: int) -> Pixels:
    """Resize the ``box`` of an upright RGB image, then crop: with all of it, what transformers does to the bit."""
    height, width = window.resized
    image = image.resize((width, height), resample, box)
    if window.size != window.resized:
        image = image.crop((window.left, window.top, window.left + window.size[1], window.top + window.size[0]))
    return np.asarray(image).transpose(2, 0, 1)


def _fit_window(image: Image.Image, box: Box, window: Window, resample: int) -> Pixels:
    """Resize only the part of ``box`` that the crop keeps: as `_fit`, but for rounding, and faster."""
    left, top, right, bottom = box
    x, y = (right - left) / window.resized[1], (bottom - top) / window.resized[0]
    height, width = window.size
    kept = (
        left + window.left * x,
        top + window.top * y,
        min(left + (window.left + width) * x, right),
        min(top + (window.top + height) * y, bottom),
    )
    return np.asarray(image.resize((width, height), resample, kept)).transpose(2, 0, 1)


def _scale_while_decoding(
    image: JpegImagePlugin.JpegImageFile, preprocessing: Preprocessing, *, turned: bool
) -> tuple[float, float] | None:
    """Have libjpeg decode at 1/2, 1/4 or 1/8 where twice the size wanted is left.

    Gives the (right, bottom) up to which the decoded image is used: its last column and row may be in part
    beyond the edge. None where libjpeg cannot.
    """
    width, height = reversed(image.size) if turned else image.size
    wanted = preprocessing.window(height, width).resized
    drafted = image.draft(None, (2 * wanted[0], 2 * wanted[1]) if turned else (2 * wanted[1], 2 * wanted[0]))
    return None if drafted is None else drafted[1][2:]


def _upright_box(used: tuple[float, float], size: tuple[int, int], orientation: int) -> Box:
    """The box that is used of an upright image of ``size``, of which (right, bottom) is used as it is stored."""
    width, height = reversed(used) if orientation >= TURNED else used
    left = size[0] - width if orientation in {2, 3, 6, 7} else 0.0
    top = size[1] - height if orientation in {3, 4, 7, 8} else 0.0
    return left, top, left + width, top + height


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none or it cannot be read."""
    with suppress(Exception):
        orientation = int(image.getexif().get(0x0112, 1))
        return orientation if orientation in range(1, 9) else 1
    return 1


def _upright_rgb(image: Image.Image, *, exact: bool) -> Image.Image:
    image.load()
    if _orientation(image) != 1:
        with suppress(Exception):  # garbage in other tags does not make the image worse
            ImageOps.exif_transpose(image, in_place=True)
    if exact:
        return image if image.mode == "RGB" else image.convert("RGB")
    if image.mode == "F" or image.mode.startswith("I"):
        image = _to_8_bit(image)
    if image.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or "transparency" in image.info:
        return _on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_8_bit(image: Image.Image) -> Image.Image:
    """16-bit greys by 1/257, floats from their least to their greatest value: Pillow would clip both to white."""
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
    if isinstance(error, MemoryError):
        return Failure("out_of_memory", "not enough memory to decode it")
    if isinstance(error, OSError) and error.errno is not None:
        return Failure("unreadable", os.strerror(error.errno))
    if "truncated" in message.lower():
        return Failure("truncated", message)
    return Failure("decode_error", message)
