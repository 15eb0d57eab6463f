"""The entries of a zip, from its directory, which is read as a stream: about 30 bytes of memory for each member.

`zipfile` reads the whole directory, and makes an object of about 500 bytes of each entry before it returns the first.
"""

import os
import stat
import struct
from collections.abc import Iterator
from typing import BinaryIO, Literal, NamedTuple
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile

from dinoclassify.discovery.containers import suffixes
from dinoclassify.discovery.containers.base import (
    NOT_AN_ARCHIVE,
    ArchiveFormat,
    BrokenError,
    Entry,
    NotAnArchiveError,
    Wanted,
    refuse_member,
    tidy_name,
)
from dinoclassify.storage.reader import LOCAL_HEADER, MEMBER_MAGIC, TRUNCATED_ARCHIVE
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import ByteRange

_MOST_DIRECTORY = 256 << 20  # bytes: two to four million members
_MOST_COMMENT = 0xFFFF
_MOST_LOCAL_HEADER = LOCAL_HEADER.size + 2 * 0xFFFF
_PIECE = 1 << 20  # bytes of the directory to read at a time
_NEWEST = 63  # version of the format, times 10

_ENCRYPTED, _UTF_8 = 1, 0x800  # flags of a member
_PACKINGS: dict[int, Literal["stored", "deflated"]] = {ZIP_STORED: "stored", ZIP_DEFLATED: "deflated"}

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

_IN_EXTRA = 0xFFFFFFFF  # stands for a number of 64 bits, which an extra field holds
_EXTRA_64 = 1  # the kind of that extra field


class ZipMember(NamedTuple):
    """An entry of the directory. Sizes are in bytes, ``mode`` is a Unix mode, ``offset`` is where the header starts."""

    name: str
    flags: int
    method: int
    crc: int
    packed_size: int
    size: int
    mode: int
    offset: int
    room: int  # bytes up to the next member or the directory; 0 where two members start at the same place


def zip_entries(path: str, file: BinaryIO, wanted: Wanted) -> Iterator[Entry]:
    """The wanted members of a zip; for errors see `read_directory`."""
    for info in read_directory(file):
        name = tidy_name(info.name)
        if name.endswith("/") or not wanted(name):
            continue
        content: ByteRange | Failure | None = _refuse(name, info)
        if content is None:
            length = min(info.room, _MOST_LOCAL_HEADER + info.packed_size)  # not what has been deleted behind it
            content = ByteRange(path, info.offset, length, info.size, _PACKINGS[info.method], info.crc)
        yield Entry(name, info.size, content)


ZIP = ArchiveFormat(suffixes.ZIP, zip_entries)


def _refuse(name: str, info: ZipMember) -> Failure | None:
    if info.flags & _ENCRYPTED:
        return Failure("unreadable", "is encrypted")
    if stat.S_ISLNK(info.mode):
        return Failure("unreadable", "is a link in the archive")
    if info.method not in _PACKINGS:
        reason = f"is packed by method {info.method} of zip, which is not supported: pack it again by deflate"
        return Failure("unsupported_format", reason)
    if info.packed_size > info.room - LOCAL_HEADER.size:
        return Failure("decode_error", "overlaps what follows it in the archive")
    return refuse_member(name, max(info.size, info.packed_size))


def read_directory(file: BinaryIO) -> Iterator[ZipMember]:
    """The members of a zip, in the order of its directory. The directory is read twice: the first time for offsets.

    Raises BrokenError for a zip that is cut short or has a huge directory, NotAnArchiveError for another file,
    BadZipFile for a damaged directory, and OSError.
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
    """Where the directory starts, its size, and what to add to its offsets, since other data may precede the zip."""
    end = file.seek(0, os.SEEK_END)
    tail_start = max(0, end - _MOST_COMMENT - _END.size)
    file.seek(tail_start)
    tail = file.read(end - tail_start)
    without_comment = len(tail) - _END.size
    at = without_comment
    if without_comment < 0 or tail[at : at + 4] != _END_MAGIC or tail[-2:] != b"\0\0":
        at = tail.rfind(_END_MAGIC)
    if at < 0 or at > without_comment:
        raise BrokenError(TRUNCATED_ARCHIVE) if _begins_with_member(file) else NotAnArchiveError(NOT_AN_ARCHIVE)
    _, size, offset, _ = _END.unpack_from(tail, at)
    location = tail_start + at
    if (large := _find_directory_64(file, location)) is not None:
        location, size, offset = large
    start: int = location - size
    if start < 0:
        raise BadZipFile("it says that its directory is larger than all of it")
    return start, size, start - offset


def _find_directory_64(file: BinaryIO, location: int) -> tuple[int, int, int] | None:
    """Where the directory of a zip64 ends, its size and its offset; None if the zip is not a zip64."""
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
    """The numbers and the raw name of each entry of the directory."""
    buffer, at, unread = b"", 0, size
    while unread or at < len(buffer):
        if unread and len(buffer) - at < _MOST_RECORD:
            file.seek(start + size - unread)
            piece = file.read(min(_PIECE, unread))
            if not piece:
                raise BrokenError(TRUNCATED_ARCHIVE)
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
    """The same numbers, with those of 64 bits taken from the extra fields, which hold them in this order."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == _EXTRA_64:
            field = extra[at + 4 : at + 4 + length]
            longs = iter(struct.unpack(f"<{len(field) // 8}Q", field[: len(field) // 8 * 8]))
            resolved = [next(longs, None) if number == _IN_EXTRA else number for number in numbers]
            if None in resolved:
                raise BadZipFile("an entry of its directory lacks a number of 64 bits")
            return [number for number in resolved if number is not None]
        at += 4 + length
    return list(numbers)


def _begins_with_member(file: BinaryIO) -> bool:
    file.seek(0)
    return file.read(len(MEMBER_MAGIC)) == MEMBER_MAGIC
