"""The directory of a zip, read as a stream: memory is some 30 bytes for each of its members, however many it claims.

`zipfile` reads all of the directory and makes an object of about 500 bytes of each entry before it gives the first.
"""

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple
from zipfile import BadZipFile

from dinoclassify.discovery.tar_headers import NO_ARCHIVE, BrokenError, NoArchiveError
from dinoclassify.storage.byte_range import CUT, MEMBER_MAGIC
from dinoclassify.types.prediction import Failure

_MOST_DIRECTORY = 256 << 20  # bytes: two to four million members
_MOST_COMMENT = 0xFFFF
_PIECE = 1 << 20  # bytes of the directory that are read at a time
_NEWEST = 63  # version of the format, times 10

_END = struct.Struct("<4s8xLLH")  # magic, size and offset of the directory, length of the comment
_END_MAGIC = b"PK\5\6"
_LOCATOR = struct.Struct("<4sLQL")  # magic, disk, offset and number of disks of the next one, which stands before it
_LOCATOR_MAGIC = b"PK\6\7"
_END_64 = struct.Struct("<4s36xQQ")  # magic, size and offset of the directory
_END_64_SIZE = _END_64.size
_END_64_MAGIC = b"PK\6\6"
_RECORD = struct.Struct("<4s2xBxHH4xLLLHHH4xLL")
_RECORD_MAGIC = b"PK\1\2"
_MOST_RECORD = _RECORD.size + 3 * 0xFFFF

_UTF_8 = 0x800  # a flag
_IN_EXTRA = 0xFFFFFFFF  # stands for a number that needs 64 bits
_EXTRA_64 = 1  # the kind of the extra field that has those


class ZipMember(NamedTuple):
    """An entry of the directory. Sizes in bytes; ``mode`` is that of Unix, ``offset`` that of the local header."""

    name: str
    flags: int
    method: int
    crc: int
    packed_size: int
    size: int
    mode: int
    offset: int
    room: int  # bytes up to the next member or the directory; 0 where two members start at the same place


def read_directory(file: BinaryIO) -> Iterator[ZipMember]:
    """The members of a zip, in the order of its directory. The directory is read twice: the first time for offsets.

    Raises:
        BrokenError: the zip is cut short, or its directory is too large.
        NoArchiveError: the file is no zip.
        BadZipFile: the directory is damaged.
        OSError: the file cannot be read.
    """
    import numpy as np

    start, size, shift = _find_directory(file)
    if size > _MOST_DIRECTORY:
        raise BrokenError(Failure("too_large", f"the archive's directory has {size:,} bytes, over {_MOST_DIRECTORY:,}"))
    offsets = np.fromiter((numbers[-1] + shift for numbers, _ in _records(file, start, size)), np.int64)
    if not len(offsets) and _begins_with_member(file):
        raise BadZipFile("its directory says that it is empty")
    starts = np.append(offsets, start)
    starts.sort()
    ends = np.append(starts, start)[np.searchsorted(starts, offsets) + 1]
    members = zip(_records(file, start, size), offsets, ends - offsets, strict=True)
    for ((flags, method, crc, packed_size, file_size, attributes, _), raw_name), offset, room in members:
        name = raw_name.decode("utf-8" if flags & _UTF_8 else "cp437").partition("\0")[0]
        yield ZipMember(name, flags, method, crc, packed_size, file_size, attributes >> 16, int(offset), int(room))


def _find_directory(file: BinaryIO) -> tuple[int, int, int]:
    """Where the directory starts, its size, and what has to be added to the offsets in it: other data may precede."""
    end = file.seek(0, os.SEEK_END)
    tail_start = max(0, end - _MOST_COMMENT - _END.size)
    file.seek(tail_start)
    tail = file.read(end - tail_start)
    without_comment = len(tail) - _END.size
    at = without_comment
    if without_comment < 0 or tail[at : at + 4] != _END_MAGIC or tail[-2:] != b"\0\0":
        at = tail.rfind(_END_MAGIC)
    if at < 0 or at > without_comment:
        raise BrokenError(CUT) if _begins_with_member(file) else NoArchiveError(NO_ARCHIVE)
    _, size, offset, _ = _END.unpack_from(tail, at)
    location = tail_start + at
    if (found := _find_directory_64(file, location)) is not None:
        location, size, offset = found
    start: int = location - size
    if start < 0:
        raise BadZipFile("it says that its directory is larger than all of it")
    return start, size, start - offset


def _find_directory_64(file: BinaryIO, location: int) -> tuple[int, int, int] | None:
    """Of a zip64 where its directory ends, its size and its offset."""
    before = location - _LOCATOR.size - _END_64_SIZE
    if before < 0:
        return None
    file.seek(before)
    records = file.read(location - before)
    magic, disk, _, disks = _LOCATOR.unpack_from(records, _END_64_SIZE)
    magic_64, size, offset = _END_64.unpack_from(records)
    if (magic, magic_64) != (_LOCATOR_MAGIC, _END_64_MAGIC):
        return None
    if disk != 0 or disks > 1:
        raise BadZipFile("it is one of several disks")
    return before, size, offset


def _records(file: BinaryIO, start: int, size: int) -> Iterator[tuple[tuple[int, ...], bytes]]:
    """The numbers of each entry, see `read_directory`, and its name."""
    buffer, at, unread = b"", 0, size
    while unread or at < len(buffer):
        if unread and len(buffer) - at < _MOST_RECORD:
            file.seek(start + size - unread)
            piece = file.read(min(_PIECE, unread))
            if not piece:
                raise BrokenError(CUT)
            buffer, at, unread = buffer[at:] + piece, 0, unread - len(piece)
            continue
        if len(buffer) - at < _RECORD.size:
            raise BadZipFile("its directory is cut short")
        magic, version, *numbers, name_size, extra_size, comment_size, attributes, offset = _RECORD.unpack_from(
            buffer, at
        )
        if magic != _RECORD_MAGIC:
            raise BadZipFile("an entry of its directory does not begin like one")
        if version > _NEWEST:
            raise BadZipFile(f"an entry of its directory is of version {version / 10}")
        flags, method, crc, packed_size, file_size = numbers
        name_end = at + _RECORD.size + name_size
        extra_end = name_end + extra_size
        if _IN_EXTRA in (packed_size, file_size, offset):
            extra = buffer[name_end:extra_end]
            file_size, packed_size, offset = _long_numbers(extra, file_size, packed_size, offset)
        yield (flags, method, crc, packed_size, file_size, attributes, offset), buffer[at + _RECORD.size : name_end]
        at = extra_end + comment_size
    if at > len(buffer):
        raise BadZipFile("its directory is cut short")


def _long_numbers(extra: bytes, *numbers: int) -> list[int]:
    """The same numbers; those of 64 bits are from the extra fields, where they stand in this order."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == _EXTRA_64:
            field = extra[at + 4 : at + 4 + length]
            longs = iter(struct.unpack(f"<{len(field) // 8}Q", field[: len(field) // 8 * 8]))
            found = [next(longs, None) if number == _IN_EXTRA else number for number in numbers]
            if None in found:
                raise BadZipFile("an entry of its directory lacks a number of 64 bits")
            return [number for number in found if number is not None]
        at += 4 + length
    return list(numbers)


def _begins_with_member(file: BinaryIO) -> bool:
    file.seek(0)
    return file.read(len(MEMBER_MAGIC)) == MEMBER_MAGIC
