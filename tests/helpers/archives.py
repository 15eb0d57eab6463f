"""Archives made in memory, and what is found in them."""

import bz2
import gzip
import io
import random
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from typing import BinaryIO

import pyarrow as pa
from PIL import Image

from dinoclassify.discovery.containers.archive import members
from dinoclassify.storage.reader import unpack
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import ByteRange, Source

SIGNATURE = (123, 456)
STREAMED = {"tar.gz": True, "tgz": True, "tar.bz2": True, "tbz2": True, "tar.zst": True, "tzst": True, "tar": False}


def image(number: int = 0) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (number % 256, 50, 100)).save(stream, "PNG")
    return stream.getvalue() + random.Random(number).randbytes(700 * (number % 5))


IMAGES = [(f"dir/{number}.png", image(number)) for number in range(12)]


def open_local(path: str) -> BinaryIO:
    return open(path, "rb")


def header(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, **more: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    for key, value in more.items():
        setattr(info, key, value)
    return info


def tar(files: Iterable[tuple[str | tarfile.TarInfo, bytes]], style: int = tarfile.PAX_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=style, errors="surrogateescape") as archive:
        for name, content in files:
            archive.addfile(
                name if isinstance(name, tarfile.TarInfo) else header(name, len(content)), io.BytesIO(content)
            )
    return stream.getvalue()


def make_zip(files: Iterable[tuple[str | zipfile.ZipInfo, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in files:
            archive.writestr(name, content, None if isinstance(name, str) else method)
    return stream.getvalue()


def zstd(content: bytes) -> bytes:
    packed: bytes = pa.compress(content, "zstd", asbytes=True)
    return packed


def compress(content: bytes, suffix: str) -> bytes:
    if suffix.endswith("gz"):
        return gzip.compress(content)
    if suffix.endswith("bz2"):
        return bz2.compress(content, 1)
    return zstd(content) if suffix.endswith("zst") else content


def listed(
    content: bytes,
    suffix: str = "tar",
    wanted: Callable[[str], bool] = lambda _: True,
    streamed: bool | None = None,
    open_file: Callable[[str], BinaryIO] | None = None,
) -> list[Source]:
    """The members of an archive of these bytes, named a.<suffix>."""
    streamed = STREAMED.get(suffix, False) if streamed is None else streamed
    opener = open_file or (lambda _: io.BytesIO(content))
    return list(members(f"a.{suffix}", wanted, opener, SIGNATURE, streamed=streamed))


def read(source: Source, archive: bytes) -> bytes | Failure:
    content = source.content
    assert isinstance(content, ByteRange | bytes | Failure)
    if isinstance(content, ByteRange):
        return unpack(content, archive[content.offset : content.offset + content.length])
    return content


def outcomes(content: bytes, suffix: str = "tar", streamed: bool | None = None) -> list[tuple[str, str]]:
    """For each row, its path below the archive, and its error code or ok."""
    sources = listed(content, suffix, streamed=streamed)
    results = [read(source, content) if source.content is not None else "as it is" for source in sources]
    codes = [
        result.code if isinstance(result, Failure) else result if isinstance(result, str) else "ok"
        for result in results
    ]
    return [(source.path.removeprefix(f"a.{suffix}"), code) for source, code in zip(sources, codes, strict=True)]
