"""The unpacked sizes of Parquet pages and Arrow batches, known before Arrow allocates memory for them.

The sizes are read next to the data, where Arrow reads them. The footer of a Parquet file may state other sizes.

Parquet: each page has a header (Thrift's compact protocol), https://parquet.apache.org/docs/file-format/.
Arrow: each message has a prefix of 8 bytes, metadata (a flatbuffer) and a body of buffers; a packed buffer begins with
its size, https://arrow.apache.org/docs/format/Columnar.html.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

_PAGE_HEADERS = (1 << 10, 64 << 10, 16 << 20)  # bytes to try for a header; Arrow refuses larger ones
_BEHIND = 100  # bytes that Arrow reads after the pages of some old files

_CONTINUES = 0xFFFFFFFF
_DICTIONARY, _RECORDS = 2, 3  # kinds of messages
_MOST_METADATA = 64 << 20  # bytes
_TAIL = struct.Struct("<I6s")  # end of a file: size of its footer, magic
_BLOCK = struct.Struct("<qi4xq")  # in a footer: offset of a message, size of its metadata, size of its body


class File(Protocol):
    """A seekable file."""

    def read(self, size: int, /) -> bytes: ...  # noqa: D102
    def seek(self, position: int, whence: int = ..., /) -> int: ...  # noqa: D102
    def tell(self) -> int: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Sizes:
    """The packed and unpacked sizes of a page or a batch, in bytes."""

    packed: int
    unpacked: int


class _Thrift:
    """Reads the integers of structs in Thrift's compact protocol."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.at = 0

    def numbers(self) -> dict[int, int]:
        """The integer fields of a struct, by field number; moves past the struct."""
        fields: dict[int, int] = {}
        number = 0
        while head := self._byte():
            kind, step = head & 15, head >> 4
            number = number + step if step else self._signed()
            if kind in (4, 5, 6):
                fields[number] = self._signed()
            else:
                self._skip(kind)
        return fields

    def _skip(self, kind: int) -> None:
        if kind in (1, 2):  # true and false
            return
        if kind in (4, 5, 6):
            self._varint()
        elif kind in (3, 7):
            self.at += 1 if kind == 3 else 8
        elif kind == 8:  # bytes
            length = self._varint()  # changes `at` too
            self.at += length
        elif kind in (9, 10):  # a list, a set
            head = self._byte()
            for _ in range(self._varint() if head >> 4 == 15 else head >> 4):
                self._skip(3 if head & 15 in (1, 2) else head & 15)
                if self.at > len(self._content):
                    raise IndexError
        elif kind == 12:
            self.numbers()
        else:
            raise ValueError("the header of a page is damaged")

    def _byte(self) -> int:
        self.at += 1
        return self._content[self.at - 1]

    def _varint(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 128:
            value |= (byte & 127) << shift
            shift += 7
            if shift > 63:
                raise ValueError("the header of a page is damaged")
        return value | byte << shift

    def _signed(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)


def pages(file: File, start: int, size: int) -> Iterator[Sizes]:
    """The sizes of the pages of a column chunk, ``size`` bytes of a Parquet file; raises ValueError if damaged."""
    at, end = start, start + size
    while at < end:
        header_size, unpacked, packed = _page(file, at, end + _BEHIND)
        if packed < 0 or unpacked < 0:
            raise ValueError("a page says that it has less than no bytes")
        yield Sizes(packed, unpacked)
        at += header_size + packed


def _page(file: File, at: int, end: int) -> tuple[int, int, int]:
    """The size of a page's header, and the unpacked and packed sizes of the page."""
    for most in _PAGE_HEADERS:
        file.seek(at)
        header = _Thrift(file.read(min(most, end - at)))
        try:
            fields = header.numbers()
        except IndexError:
            continue
        return header.at, fields[2], fields[3]
    raise ValueError("the header of a page is damaged")


@dataclass(frozen=True, slots=True)
class _Table:
    """A table in a flatbuffer. Fields have the numbers of the format's schema."""

    content: bytes
    at: int

    @classmethod
    def root(cls, content: bytes) -> "_Table":
        return cls(content, struct.unpack_from("<I", content)[0])

    def find(self, number: int) -> int:
        """The offset of a field; 0 if the table does not have it."""
        fields = self.at - struct.unpack_from("<i", self.content, self.at)[0]
        entry = 4 + 2 * number
        if fields < 0 or entry >= struct.unpack_from("<H", self.content, fields)[0]:
            return 0
        offset: int = struct.unpack_from("<H", self.content, fields + entry)[0]
        return self.at + offset if offset else 0

    def number(self, number: int, kind: str) -> int:
        at = self.find(number)
        return int(struct.unpack_from(f"<{kind}", self.content, at)[0]) if at else 0

    def below(self, number: int) -> "_Table":
        at = self.find(number)
        return _Table(self.content, at + struct.unpack_from("<I", self.content, at)[0])

    def structs(self, number: int, kind: struct.Struct) -> Iterator[tuple[int, ...]]:
        if at := self.find(number):
            at += struct.unpack_from("<I", self.content, at)[0]
            (count,) = struct.unpack_from("<I", self.content, at)
            for index in range(count):
                yield kind.unpack_from(self.content, at + 4 + index * kind.size)


_BUFFER = struct.Struct("<qq")  # offset in the body and size, both packed


def next_batch(file: File) -> Sizes:
    """The sizes of the next records of a stream, with the dictionaries before them, from the position of the file."""
    start = at = file.tell()
    packed = unpacked = 0
    kind = _DICTIONARY
    while kind == _DICTIONARY and (message := _message(file, at)) is not None:
        kind, at, size = message
        packed, unpacked = at - start, unpacked + size
    return Sizes(packed, unpacked)


def batches(file: File) -> Iterator[Sizes]:
    """The sizes of all dictionaries and records that the footer of an IPC file lists."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - _TAIL.size))
    size, _ = _TAIL.unpack(file.read(_TAIL.size))
    file.seek(max(0, end - _TAIL.size - size))
    footer = _Table.root(file.read(min(size, _MOST_METADATA)))
    for number in (_DICTIONARY, _RECORDS):  # these are also their field numbers in the footer
        for offset, metadata, body in footer.structs(number, _BLOCK):
            message = _message(file, offset)
            yield Sizes(metadata + body, message[2] if message is not None else 0)


def _message(file: File, at: int) -> tuple[int, int, int] | None:
    """The kind of a message, where it ends, and the unpacked size of its buffers; None at the end."""
    file.seek(at)
    prefix = file.read(8)
    if len(prefix) < 8:
        return None
    continues, size = struct.unpack("<II", prefix)
    start = at + 8
    if continues != _CONTINUES:  # written before Arrow 0.15
        size, start = continues, at + 4
    if not 0 < size <= _MOST_METADATA:
        return None
    file.seek(start)
    message = _Table.root(file.read(size))
    kind, body = message.number(1, "B"), message.number(3, "q")
    unpacked = 0
    if kind in (_DICTIONARY, _RECORDS):
        records = message.below(2).below(1) if kind == _DICTIONARY else message.below(2)
        is_packed = records.find(3) != 0
        for offset, length in records.structs(2, _BUFFER):
            unpacked += _unpacked(file, start + size + offset, length) if is_packed else length
    return kind, start + size + max(0, body), unpacked


def _unpacked(file: File, at: int, length: int) -> int:
    if length < 8:
        return 0
    file.seek(at)
    size: int = struct.unpack("<q", file.read(8))[0]
    return length if size < 0 else size  # -1: not packed
