"""What the batches of an Arrow file become when they are unpacked, as they say themselves: before Arrow allocates it.

The file is made of messages. Each has a prefix of 8 bytes, metadata (a flatbuffer) and a body of buffers; a packed
buffer begins with its size. See https://arrow.apache.org/docs/format/Columnar.html
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

_CONTINUES = 0xFFFFFFFF
_DICTIONARY, _RECORDS = 2, 3  # kinds of messages
_MOST_METADATA = 64 << 20  # bytes
_TAIL = struct.Struct("<I6s")  # of a file: the size of its footer, magic
_BLOCK = struct.Struct("<qi4xq")  # of a footer: offset of a message, size of its metadata, size of its body


class File(Protocol):
    """A file in which one may seek."""

    def read(self, size: int, /) -> bytes: ...  # noqa: D102
    def seek(self, position: int, whence: int = ..., /) -> int: ...  # noqa: D102
    def tell(self) -> int: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class _Table:
    """A table in a flatbuffer. Fields are asked for by their number in the schema of the format."""

    content: bytes
    at: int

    @classmethod
    def root(cls, content: bytes) -> "_Table":
        return cls(content, struct.unpack_from("<I", content)[0])

    def find(self, number: int) -> int:
        """Where a field is; 0 if the table has none."""
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


_BUFFER = struct.Struct("<qq")  # offset in the body and size, both as packed


@dataclass(frozen=True, slots=True)
class Batch:
    """How many bytes there are of a batch, and how many they become."""

    packed: int
    unpacked: int


def next_batch(file: File) -> Batch:
    """The next records of a stream, with the dictionaries before them. The file stays where it is."""
    start = at = file.tell()
    packed = unpacked = 0
    kind = _DICTIONARY
    while kind == _DICTIONARY and (message := _message(file, at)) is not None:
        kind, at, size = message
        packed, unpacked = at - start, unpacked + size
    file.seek(start)
    return Batch(packed, unpacked)


def batches(file: File) -> Iterator[Batch]:
    """All dictionaries and records of a file in the IPC file format, as its footer names them."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - _TAIL.size))
    size, _ = _TAIL.unpack(file.read(_TAIL.size))
    file.seek(max(0, end - _TAIL.size - size))
    footer = _Table.root(file.read(min(size, _MOST_METADATA)))
    for number in (_DICTIONARY, _RECORDS):  # by chance these are their numbers in the footer, too
        for offset, metadata, body in footer.structs(number, _BLOCK):
            message = _message(file, offset)
            yield Batch(metadata + body, message[2] if message is not None else 0)


def _message(file: File, at: int) -> tuple[int, int, int] | None:
    """The kind of a message, where it ends, and how many bytes its buffers become; None at the end."""
    file.seek(at)
    prefix = file.read(8)
    if len(prefix) < 8:
        return None
    continues, size = struct.unpack("<II", prefix)
    start = at + 8
    if continues != _CONTINUES:  # as before version 0.15
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
    return length if size < 0 else size  # -1: it is as it is
