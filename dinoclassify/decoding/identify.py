"""A file's first bytes -> its image, opened but not decoded, or the reason why it is refused."""

from PIL import Image, UnidentifiedImageError

from dinoclassify.decoding.camera_raw import raw_format
from dinoclassify.decoding.decoder_errors import is_damage
from dinoclassify.storage.reader import ImageBytes, LocalImage, RefusedError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")  # no other decoder is reached; JPEG opens MPO

_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"II*\0", b"MM\0*")  # of images, even of damaged ones
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
_DAMAGED_HEADER = "its header is damaged, or it ends too early"
_READABLE = ".zip .cbz .tar .tar.gz .tgz .tar.bz2 .tbz2 .tar.zst .tzst"  # archives that discovery opens


def identify(stream: LocalImage | ImageBytes) -> Image.Image:
    """Open an image, reading no more than its header; raises RefusedError for other files, with the reason."""
    if (name := raw_format(stream)) is not None:
        raise RefusedError("unsupported_format", f"{name}: not supported yet")
    try:
        return Image.open(stream, formats=FORMATS)
    except UnidentifiedImageError:
        stream.seek(0)
        magic = stream.read(16)
        stream.seek(0)
    except OSError as error:
        if is_damage(error):
            raise RefusedError("decode_error", _DAMAGED_HEADER) from error
        raise
    if not magic:
        raise RefusedError("not_image", "the file is empty")
    if magic.startswith(_MAGIC) or magic[8:12] == b"WEBP" or magic[4:12] in {b"ftypavif", b"ftypavis"}:
        raise RefusedError("decode_error", _DAMAGED_HEADER)
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
        raise RefusedError("decode_error", _DAMAGED_HEADER) from None
