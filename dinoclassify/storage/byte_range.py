"""The bytes of a `ByteRange` -> the image in them."""

import struct
import zlib

from dinoclassify.messages import first_line
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import ByteRange

CUT = Failure("truncated", "the archive ends too early: it has been cut short")
MEMBER_MAGIC = b"PK\3\4"  # starts each member of a zip
LOCAL_HEADER = struct.Struct("<4s22xHH")  # of a member of a zip: magic, lengths of its name and of its extra fields


def unpack(member: ByteRange, raw: bytes) -> bytes | Failure:
    """The encoded image of a member, from the ``raw`` bytes of its range; a failure if they are damaged."""
    if len(raw) < member.length:
        return CUT
    if member.packing == "plain":
        return raw
    magic, name_length, extra_length = LOCAL_HEADER.unpack_from(raw)
    if magic != MEMBER_MAGIC:
        return Failure("decode_error", "its header in the archive is damaged")
    packed = memoryview(raw)[LOCAL_HEADER.size + name_length + extra_length :]
    try:
        content = _inflate(packed, member.size) if member.packing == "deflated" else bytes(packed[: member.size])
    except zlib.error as error:
        return Failure("decode_error", f"its data in the archive are damaged: {first_line(error)}")
    if len(content) > member.size:
        return Failure("too_large", f"is larger than the {member.size:,} bytes that its archive says")
    if len(content) < member.size or zlib.crc32(content) != member.crc:
        return Failure("decode_error", "its data in the archive are damaged: wrong size or checksum")
    return content


def _inflate(packed: memoryview, size: int) -> bytes:
    """The inflated bytes; at most one more than ``size``, which shows that there are too many."""
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, size + 1)
