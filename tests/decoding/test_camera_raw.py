"""Camera RAW, told by its content, and TIFFs that only look like it."""

import io
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from PIL import Image

from dinoclassify.decoding.camera_raw import raw_format
from dinoclassify.decoding.decode import decode
from dinoclassify.types.prediction import Failure
from dinoclassify.types.preprocessing import Preprocessing
from dinoclassify.types.source import Source

SMALL = Preprocessing(resize=8, crop=(8, 8), resample=3, mean=(0.0,) * 3, std=(1.0,) * 3)
GREY = {256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 277: 1, 278: 8, 279: 64}
SENSOR = {254: 0, 256: 4000, 257: 3000, 259: 34713, 262: 32803}

Tags = Mapping[int, int | bytes]


def tiff(tags: Tags, below: Sequence[Tags] = (), later: Sequence[Tags] = (), *, order: str = "<") -> bytes:
    """An 8 x 8 grey TIFF with these tags, subdirectories (`below`) and further directories (`later`)."""
    first = {**GREY, 273: 8, **tags}
    pixels = bytes(range(64))
    at = 8 + len(pixels)
    starts = []
    for directory in (*below, *later):
        starts.append(at)
        at += _length(directory)
    if below:
        first[330] = struct.pack(f"{order}{len(below)}I", *starts[: len(below)])
    chain = [*starts[len(below) :], 0]
    content = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", at) + pixels
    for number, directory in enumerate((*below, *later)):
        following = chain[number - len(below) + 1] if number >= len(below) else 0
        content += _directory(directory, starts[number], following, order)
    return content + _directory(first, at, chain[0], order)


def _length(tags: Tags) -> int:
    return 2 + 12 * len(tags) + 4 + sum(len(value) for value in tags.values() if isinstance(value, bytes))


def _directory(tags: Tags, at: int, following: int, order: str) -> bytes:
    entries, data = b"", b""
    data_at = at + 2 + 12 * len(tags) + 4
    for tag, value in sorted(tags.items()):
        if isinstance(value, int):
            entries += struct.pack(f"{order}HHII", tag, 4, 1, value)
        else:
            kind, count = (4, len(value) // 4) if tag == 330 else (2, len(value))
            inside = value if len(value) <= 4 else struct.pack(f"{order}I", data_at + len(data))
            entries += struct.pack(f"{order}HHI", tag, kind, count) + inside.ljust(4, b"\0")
            data += value if len(value) > 4 else bytes(len(value))
    return struct.pack(f"{order}H", len(tags)) + entries + struct.pack(f"{order}I", following) + data


def outcome(content: bytes) -> str:
    failure = decode(Source("x.jpg", content), SMALL).failure
    return "ok" if failure is None else f"{failure.code}: {failure.message}"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("tags", "below", "later", "name"),
    [
        ({254: 1, 271: b"NIKON CORPORATION\0"}, [{254: 1, 259: 6}, SENSOR], [], "Nikon RAW (NEF)"),
        ({254: 1, 271: b"SONY\0"}, [SENSOR], [{254: 1, 259: 6}], "Sony RAW (ARW)"),
        ({271: b"RICOH IMAGING COMPANY, LTD.\0", 262: 32803}, [], [], "Pentax RAW (PEF)"),
        ({271: b"SAMSUNG\0"}, [{254: 0}], [SENSOR], "Samsung RAW (SRW)"),
        ({254: 1, 271: b"Hasselblad\0"}, [{254: 0, 262: 2}], [], "Hasselblad RAW (3FR)"),
        ({271: b"Nobody\0"}, [SENSOR], [], "camera RAW"),
        ({}, [{262: 34892}], [], "camera RAW"),
        ({271: b"Canon\0", 0xC612: 0x0401}, [], [], "camera RAW (DNG)"),
    ],
)
def test_raw_is_recognised_by_its_tags(tags: Tags, below: list[Tags], later: list[Tags], name: str, order: str) -> None:
    content = tiff(tags, below, later, order=order)
    assert outcome(content) == f"unsupported_format: {name}: not supported yet"


@pytest.mark.parametrize(
    ("tags", "below", "later"),
    [
        ({}, [], []),
        ({271: b"NIKON\0"}, [], []),
        ({271: b"NIKON\0"}, [{254: 1, 262: 2}, {254: 1, 262: 2}], [{254: 1, 262: 2}]),
        ({254: 1}, [{254: 0, 262: 2}], []),
        ({271: b"NIKON\0", 254: 2}, [], [SENSOR | {262: 1}]),
    ],
)
def test_other_tiffs_are_decoded(tags: Tags, below: list[Tags], later: list[Tags]) -> None:
    assert outcome(tiff(tags, below, later)) == "ok"


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"II*\0\x10\0\0\0CR\2\0", "Canon RAW (CR2)"),
        (b"II*\0\x08\0\0\0IIII\x01\0", "Phase One RAW (IIQ)"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "Canon RAW (CR3)"),
        (b"FUJIFILMCCD-RAW 0201FF159502", "Fujifilm RAW (RAF)"),
        (b"IIRO\x08\0\0\0", "Olympus RAW (ORF)"),
        (b"IIU\0\x18\0\0\0", "Panasonic RAW (RW2)"),
    ],
)
def test_raw_is_recognised_by_its_first_bytes(content: bytes, name: str) -> None:
    assert outcome(content + bytes(100)) == f"unsupported_format: {name}: not supported yet"


def test_circular_directories_do_not_loop_forever() -> None:
    content = bytearray(tiff({271: b"NIKON\0"}, [], [{254: 1}]))
    start = struct.unpack("<I", content[4:8])[0]
    later = 8 + 64
    content[later + 2 + 12 : later + 2 + 12 + 4] = struct.pack("<I", start)
    assert raw_format(io.BytesIO(content)) is None
    many = tiff({}, [{254: 1}] * 100 + [SENSOR])
    assert raw_format(io.BytesIO(many)) is None


def test_the_stream_is_left_at_its_start(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "x.tif")
    for content in ((tmp_path / "x.tif").read_bytes(), b"", b"II*\0", b"MM\0*\xff\xff\xff\xff", b"\xff\xd8\xff"):
        stream = io.BytesIO(content)
        assert raw_format(stream) is None
        assert stream.tell() == 0


def test_real_camera_files_are_recognised(shared_data: Path) -> None:
    folder = shared_data / "raw"
    failure = decode(Source(str(folder / "dc50.kdc")), SMALL).failure
    assert failure == Failure("unsupported_format", "Kodak RAW (KDC): not supported yet")
    for path in folder.glob("*.nef"):
        is_jpeg = path.read_bytes().startswith(b"\xff\xd8")  # as Capture NX writes it, whatever its suffix
        failure = decode(Source(str(path)), SMALL).failure
        assert (failure is None) == is_jpeg
        assert failure in (None, Failure("unsupported_format", "Nikon RAW (NEF): not supported yet"))
