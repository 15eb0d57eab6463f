"""JPEGs: their orientation where it is in XMP, how they are read, and planes that the model gets."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from dinoclassify.decoding.batch import Pixels
from dinoclassify.decoding.decode import _planes, decode
from dinoclassify.types.preprocessing import Preprocessing
from dinoclassify.types.source import Source
from tests.conftest import PHOTOS

UNRESIZED = Preprocessing(resize=None, crop=None, resample=3, mean=(0.0,) * 3, std=(1.0,) * 3)
DINOV2 = replace(UNRESIZED, resize=256, crop=(224, 224))
GARBAGE = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\xff\xff\xff\xff\0\0\0\x06"


def pixels(source: Source, preprocessing: Preprocessing, *, exact: bool = False) -> Pixels:
    result = decode(source, preprocessing, exact=exact)
    assert result.pixels is not None, result.failure
    return result.pixels


def exif(orientation: int | None) -> bytes:
    made = Image.Exif()
    made[0x010F] = "a maker"
    if orientation is not None:
        made[0x0112] = orientation
    return made.tobytes()


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("form", ['<a tiff:Orientation="{}"/>', "<tiff:Orientation>{}</tiff:Orientation>"])
@pytest.mark.parametrize("tags", [b"", exif(None), exif(1), exif(8), GARBAGE], ids=["no", "no tag", "1", "8", "bad"])
@pytest.mark.filterwarnings("ignore")  # of Pillow, about garbage
def test_an_orientation_in_xmp_counts_as_pillow_counts_it(
    tmp_path: Path, orientation: int, form: str, tags: bytes
) -> None:
    path = tmp_path / "x.jpg"
    with Image.open(PHOTOS / "coffee.jpg") as photo:
        photo.crop((0, 0, 61, 42)).save(path, xmp=form.format(orientation).encode(), exif=tags)
    with Image.open(path) as image:
        expected = ImageOps.exif_transpose(image)
    for exact in False, True:
        seen = pixels(Source(str(path)), UNRESIZED, exact=exact)
        assert np.array_equal(seen, np.asarray(expected).transpose(2, 0, 1))


@pytest.mark.parametrize("exact", [False, True])
def test_a_large_file_gives_the_pixels_of_its_bytes(tmp_path: Path, exact: bool) -> None:
    """The file is read as its decoder asks for bytes."""
    path = tmp_path / "x.jpg"
    with Image.open(PHOTOS / "coffee.jpg") as photo:
        photo.resize((2400, 1600)).save(path, quality=100)
    content = path.read_bytes()
    assert len(content) > 1 << 20
    from_file, from_bytes = (
        pixels(source, DINOV2, exact=exact) for source in (Source(str(path)), Source("x", content=content))
    )
    assert np.array_equal(from_file, from_bytes)


def test_planes_are_those_of_numpy() -> None:
    with Image.open(PHOTOS / "coffee.jpg") as photo:
        image = photo.convert("RGB").resize((301, 222))
    assert np.array_equal(_planes(image), np.asarray(image).transpose(2, 0, 1))
    assert pixels(Source(str(PHOTOS / "coffee.jpg")), DINOV2).flags.c_contiguous
