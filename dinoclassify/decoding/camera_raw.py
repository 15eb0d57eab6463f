"""Recognise camera RAW by content: many RAW files are TIFFs whose first image is only a thumbnail."""

from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

from PIL.TiffImagePlugin import PREFIXES, ImageFileDirectory_v2

_MAGIC = {
    b"FUJIFILMCCD-RAW": "Fujifilm RAW (RAF)",
    b"FOVb": "Sigma RAW (X3F)",
    b"II\x1a\0\0\0HEAPCCDR": "Canon RAW (CRW)",
    b"IIRO": "Olympus RAW (ORF)",
    b"IIRS": "Olympus RAW (ORF)",
    b"IIU\0": "Panasonic RAW (RW2)",
    b"MMOR": "Olympus RAW (ORF)",
    b"\0MRM": "Minolta RAW (MRW)",
}
_TIFF_MAGIC = {b"CR": "Canon RAW (CR2)", b"IIII": "Phase One RAW (IIQ)", b"MMMM": "Phase One RAW (IIQ)"}  # from byte 8
_PREFIXES = tuple(PREFIXES)  # of TIFF
_CR3 = b"ftypcrx "  # from byte 4
_HEADER = 16  # bytes

_MAKERS = {
    "CANON": "Canon RAW (CR2)",
    "EPSON": "Epson RAW (ERF)",
    "HASSELBLAD": "Hasselblad RAW (3FR)",
    "KODAK": "Kodak RAW (KDC)",
    "LEAF": "Leaf RAW (MOS)",
    "MAMIYA": "Mamiya RAW (MEF)",
    "NIKON": "Nikon RAW (NEF)",
    "PENTAX": "Pentax RAW (PEF)",
    "PHASE ONE": "Phase One RAW (IIQ)",
    "RICOH": "Pentax RAW (PEF)",
    "SAMSUNG": "Samsung RAW (SRW)",
    "SONY": "Sony RAW (ARW)",
}
_DNG = "camera RAW (DNG)"

_SUBFILE_TYPE, _REDUCED = 254, 1  # a flag
_PHOTOMETRIC, _SENSOR_DATA = 262, frozenset({32803, 34892})  # a colour filter array, LinearRaw
_MAKE = 271
_SUB_IFDS = 330
_DNG_VERSION = 0xC612
_MOST_DIRECTORIES = 16  # read of one file


def raw_format(stream: BinaryIO) -> str | None:
    """The name of the RAW format of a file, such as ``Nikon RAW (NEF)``; None for any other file.

    The stream is at its start before and after. A TIFF whose tags cannot be read gives None too: the decoder judges it.
    """
    head = stream.read(_HEADER)
    try:
        return _by_magic(head) or (_by_tags(stream) if head.startswith(_PREFIXES) else None)
    finally:
        stream.seek(0)


def _by_magic(head: bytes) -> str | None:
    if head[4:12] == _CR3:
        return "Canon RAW (CR3)"
    known, start = (_TIFF_MAGIC, head[8:]) if head.startswith(_PREFIXES) else (_MAGIC, head)
    for magic, name in known.items():
        if start.startswith(magic):
            return name
    return None


def _by_tags(stream: BinaryIO) -> str | None:
    make, is_raw = "", False
    with suppress(Exception):  # Pillow raises nearly anything on damaged tags
        for number, tags in enumerate(_directories(stream)):
            if number == 0:
                if _DNG_VERSION in tags:
                    return _DNG
                make = str(tags.get(_MAKE, "")).upper()
                is_raw = bool(make) and _SUB_IFDS in tags and bool(tags.get(_SUBFILE_TYPE, 0) & _REDUCED)
            is_raw = is_raw or tags.get(_PHOTOMETRIC) in _SENSOR_DATA
    return next((name for maker, name in _MAKERS.items() if maker in make), "camera RAW") if is_raw else None


def _directories(stream: BinaryIO) -> Iterator[ImageFileDirectory_v2]:
    """The directories of a TIFF, depth first: each, then its sub-directories, then the next one of the file."""
    stream.seek(0)
    header = stream.read(_HEADER)
    if 43 not in header[2:4]:  # 43 marks a BigTIFF, whose header is longer
        header = header[:8]
    waiting, seen = [ImageFileDirectory_v2(header).next], {0}
    while waiting and len(seen) <= _MOST_DIRECTORIES:
        offset = waiting.pop(0)
        if offset in seen:
            continue
        seen.add(offset)
        stream.seek(offset)
        tags = ImageFileDirectory_v2(header)
        tags.load(stream)
        yield tags
        below = tags.get(_SUB_IFDS, ())
        waiting = [*(below if isinstance(below, tuple) else (below,)), tags.next, *waiting]
