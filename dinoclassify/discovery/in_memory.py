"""Images in the memory of a Python program -> sources with their bytes."""

import io

from PIL import Image, ImageOps

from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import Source

# The modes of Pillow that TIFF stores without conversion.
_TIFF_MODES = frozenset({"1", "L", "LA", "RGB", "RGBA", "CMYK", "I", "I;16", "F"})


def in_memory(image: Image.Image | bytes, number: int) -> Source:
    """The source of an image, decoded or encoded (the bytes of a JPEG, say): input ``number``, from 0.

    Its path is ``<image 3>``, which is not a file. An image that cannot be loaded becomes a source that fails.
    """
    name = f"<image {number}>"
    if isinstance(image, bytes):
        return Source(name, image)
    try:
        return Source(name, _encode(image))
    except Exception as error:  # decoders raise nearly anything on broken data
        message = " ".join(str(error).split()) or type(error).__name__
        return Source(name, Failure("truncated" if "truncated" in message else "decode_error", message))


def _encode(image: Image.Image) -> bytes:
    """The same pixels, upright and lossless: an uncompressed TIFF, which is fast, or a PNG for a transparent colour."""
    upright = ImageOps.exif_transpose(image)
    transparent = upright.info.get("transparency")
    upright.info.clear()  # compression, colour profile and other settings of the file it came from
    content = io.BytesIO()
    if transparent is not None:  # one colour is transparent: the model's own processor may treat it
        upright.save(content, "PNG", transparency=transparent, compress_level=1)
        return content.getvalue()
    if upright.mode not in _TIFF_MODES:
        upright = upright.convert("RGBA" if upright.mode in {"PA", "La", "RGBa"} else "RGB")
    upright.save(content, "TIFF")
    return content.getvalue()
