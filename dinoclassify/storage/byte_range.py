"""A `ByteRange` of an archive -> the image in it."""

import struct
import zlib

from dinoclassify.messages import first_line
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import ByteRange

CUT = Failure("truncated", "the archive ends too early: it has been cut short")
MEMBER_MAGIC = b"PK\3\4"  # before each member of a zip
LOCAL_HEADER = struct.Struct("<4s22xHH")  # of a zip's member: magic, length of its name, and of its extra fields


def unpack(span: ByteRange, raw: bytes) -> bytes | Failure:
    """An image, from the bytes of its archive that are its ``span``."""
    if len(raw) < span.length:
        return CUT
    if span.packing == "plain":
        return raw
    magic, name_length, extra_length = LOCAL_HEADER.unpack_from(raw)
    if magic != MEMBER_MAGIC:
        return Failure("decode_error", "its header in the archive is damaged")
    packed = memoryview(raw)[LOCAL_HEADER.size + name_length + extra_length :]
    try:
        content = _inflate(packed, span.size) if span.packing == "deflated" else bytes(packed[: span.size])
    except zlib.error as error:
        return Failure("decode_error", f"its data in the archive are damaged: {first_line(error)}")
    if len(content) > span.size:
        return Failure("too_large", f"is larger than the {span.size:,} bytes that its archive says")
    if len(content) < span.size or zlib.crc32(content) != span.crc:
        return Failure("decode_error", "its data in the archive are damaged: wrong size or checksum")
    return content


def _inflate(packed: memoryview, size: int) -> bytes:
    """What is in it; no more than one byte more than it should be."""
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, size + 1)
