"""Files of every kind -> pixels or a reason, and never an exception."""

import io
import json
import lzma
import os
import socket
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, JpegImagePlugin
from PIL.ImageFile import _get_oserror

from dinoclassify.decoding.batch import DecodedImage
from dinoclassify.decoding.decode import decode, init_process
from dinoclassify.decoding.decoder_errors import is_damage, is_lack_of_memory
from dinoclassify.decoding.identify import FORMATS
from dinoclassify.discovery.containers.suffixes import is_archive
from dinoclassify.types.preprocessing import Preprocessing
from dinoclassify.types.source import MAX_PIXELS, Source
from tests.conftest import PHOTOS, UNDO

DINOV2 = Preprocessing(resize=256, crop=(224, 224), resample=3, mean=(0.0,) * 3, std=(1.0,) * 3)
SQUARE = Preprocessing(resize=(224, 160), crop=None, resample=2, mean=(0.0,) * 3, std=(1.0,) * 3)
PADDED = Preprocessing(resize=100, crop=(224, 224), resample=3, mean=(0.0,) * 3, std=(1.0,) * 3)
UNRESIZED = Preprocessing(resize=None, crop=(64, 64), resample=3, mean=(0.0,) * 3, std=(1.0,) * 3)


def decoded(
    path: Path | str, preprocessing: Preprocessing = DINOV2, *, exact: bool = False, max_pixels: int = MAX_PIXELS
) -> DecodedImage:
    return decode(Source(str(path)), preprocessing, exact=exact, max_pixels=max_pixels)


def pixels(path: Path | str, preprocessing: Preprocessing = DINOV2, *, exact: bool = False) -> np.ndarray:
    result = decoded(path, preprocessing, exact=exact)
    assert result.failure is None, result.failure
    assert result.pixels is not None
    return result.pixels.astype(np.int64)


def failure(path: Path | str, *, exact: bool = False, max_pixels: int = MAX_PIXELS) -> tuple[str, str]:
    result = decoded(path, exact=exact, max_pixels=max_pixels)
    assert result.pixels is None
    assert result.failure is not None
    return result.failure.code, result.failure.message


@pytest.fixture
def photo() -> Image.Image:
    with Image.open(PHOTOS / "chelsea.jpg") as image:
        return image.convert("RGB")


@pytest.mark.parametrize("preprocessing", [DINOV2, SQUARE, PADDED, UNRESIZED])
@pytest.mark.parametrize("size", [(1600, 1203), (1203, 1600), (640, 2000), (300, 300), (90, 31)])
def test_the_fast_path_differs_only_by_rounding(
    tmp_path: Path, photo: Image.Image, size: tuple[int, int], preprocessing: Preprocessing
) -> None:
    photo.resize(size, Image.Resampling.LANCZOS).save(tmp_path / "x.png")
    photo.resize(size, Image.Resampling.LANCZOS).save(tmp_path / "x.jpg", quality=95)
    for name, limit in ("x.png", 0.02), ("x.jpg", 1.0):
        fast, exact = (pixels(tmp_path / name, preprocessing, exact=exact) for exact in (False, True))
        assert fast.shape == exact.shape == (3, *(preprocessing.output_size or ()))
        assert abs(fast - exact).mean() < limit, name


@pytest.mark.parametrize("size", [(4000, 3000), (1203, 1600), (1017, 765), (90, 31)])
def test_nearest_resampling_is_identical_in_the_fast_path(
    tmp_path: Path, photo: Image.Image, size: tuple[int, int]
) -> None:
    """Scaling while decoding averages pixels, so JPEGs are not scaled for nearest resampling."""
    photo.resize(size, Image.Resampling.LANCZOS).save(tmp_path / "x.jpg", quality=95)
    for preprocessing in DINOV2, SQUARE, PADDED, UNRESIZED:
        nearest = replace(preprocessing, resample=Image.Resampling.NEAREST)
        fast, exact = (pixels(tmp_path / "x.jpg", nearest, exact=exact) for exact in (False, True))
        assert np.array_equal(fast, exact)


def test_large_jpegs_are_scaled_while_decoding(tmp_path: Path, photo: Image.Image) -> None:
    photo.resize((4000, 3000)).save(tmp_path / "x.jpg")
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        from PIL.JpegImagePlugin import JpegImageFile

        original = JpegImageFile.draft

        def spy(self: JpegImageFile, mode: str | None, size: tuple[int, int] | None) -> object:
            answer = original(self, mode, size)
            seen.append(self.size)
            return answer

        patch.setattr(JpegImageFile, "draft", spy)
        pixels(tmp_path / "x.jpg")
        pixels(tmp_path / "x.jpg", exact=True)
    assert seen == [(1000, 750)], "a quarter, as an eighth would leave less than twice 256"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpegs_with_exif_orientation_are_scaled_and_turned(
    tmp_path: Path, photo: Image.Image, orientation: int
) -> None:
    """2011 is not divisible by the scale: the odd pixels lie on another side in each orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    large = photo.resize((2011, 1203))
    (large.transpose(UNDO[orientation]) if orientation in UNDO else large).save(
        tmp_path / "x.jpg", quality=98, exif=exif
    )
    for preprocessing in DINOV2, SQUARE, PADDED:
        fast, exact = (pixels(tmp_path / "x.jpg", preprocessing, exact=exact) for exact in (False, True))
        assert abs(fast - exact).mean() < 0.5


@pytest.mark.parametrize("suffix", ["png", "webp", "gif", "bmp", "tif", "avif", "ppm", "jpg"])
def test_common_formats_are_decoded(tmp_path: Path, photo: Image.Image, suffix: str) -> None:
    photo.save(tmp_path / f"x.{suffix}")
    photo.save(tmp_path / "x.png")
    assert abs(pixels(tmp_path / f"x.{suffix}") - pixels(tmp_path / "x.png")).mean() < (8 if suffix == "gif" else 4)


def test_heic_is_decoded_or_names_the_extra(
    tmp_path: Path, photo: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    heif = pytest.importorskip("pillow_heif", reason="the extra heif is not installed")
    heif.from_pillow(photo).save(tmp_path / "x.heic")
    photo.save(tmp_path / "x.png")
    assert abs(pixels(tmp_path / "x.heic") - pixels(tmp_path / "x.png")).mean() < 4
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    assert failure(tmp_path / "x.heic") == ("unsupported_format", "HEIC needs: pip install 'dinoclassify[heif]'")


def test_transparent_images_are_put_on_white(tmp_path: Path, photo: Image.Image) -> None:
    mask = Image.linear_gradient("L").resize(photo.size)
    red = photo.copy()
    red.putalpha(mask)
    red.save(tmp_path / "alpha.png")
    white = Image.new("RGB", photo.size, "white")
    white.paste(photo, mask=mask)
    white.save(tmp_path / "flat.png")
    assert abs(pixels(tmp_path / "alpha.png") - pixels(tmp_path / "flat.png")).max() <= 2
    palette = Image.new("P", (300, 300), 0)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.save(tmp_path / "palette.png", transparency=0)
    assert (pixels(tmp_path / "palette.png") == 255).all()
    assert pixels(tmp_path / "palette.png", exact=True)[:, 0, 0].tolist() == [255, 0, 0], "as transformers has it"
    Image.new("RGB", (300, 300), "red").save(tmp_path / "key.png", transparency=(255, 0, 0))
    assert (pixels(tmp_path / "key.png") == 255).all()
    Image.new("LA", (300, 300), (0, 0)).save(tmp_path / "la.png")
    assert (pixels(tmp_path / "la.png") == 255).all()


def test_16_bit_greys_keep_their_contrast(tmp_path: Path, photo: Image.Image) -> None:
    grey = np.asarray(photo.convert("L"))
    Image.fromarray(grey).save(tmp_path / "8.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "16.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "16.tif")
    Image.fromarray(grey.astype(np.float32) / 255).save(tmp_path / "float.tif")
    expected = pixels(tmp_path / "8.png")
    assert abs(pixels(tmp_path / "16.png") - expected).max() <= 1
    assert abs(pixels(tmp_path / "16.tif") - expected).max() <= 1
    spread = (expected - grey.min()) * 255 / (int(grey.max()) - grey.min())
    assert abs(pixels(tmp_path / "float.tif") - spread).max() <= 4
    assert (pixels(tmp_path / "16.png", exact=True) == 255).mean() > 0.9, "as transformers has it"
    Image.new("F", (300, 300), float("nan")).save(tmp_path / "nan.tif")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert (pixels(tmp_path / "nan.tif") == 0).all()


def test_only_the_first_frame_of_an_animation_is_used(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (300, 300), "red"), Image.new("RGB", (300, 300), "blue")
    for suffix in ("gif", "webp", "png"):
        first.save(tmp_path / f"x.{suffix}", save_all=True, append_images=[second], lossless=True)
        assert pixels(tmp_path / f"x.{suffix}")[:, 100, 100].tolist() == pytest.approx([255, 0, 0], abs=2)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "not_image"),
        (b"hello, this is no image", "not_image"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "not_image"),
        (b"%PDF-1.7\n%abc and more", "unsupported_format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unsupported_format"),
        (b"\xff\x0a" + b"\0" * 30, "unsupported_format"),
    ],
)
def test_files_that_are_not_images_are_told_apart(tmp_path: Path, content: bytes, code: str) -> None:
    (tmp_path / "x.jpg").write_bytes(content)
    assert failure(tmp_path / "x.jpg")[0] == code
    assert decoded(tmp_path / "x.jpg").size == len(content)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (lzma.compress(b"tar"), "an xz file"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "a 7z archive"),
        (b"Rar!\x1a\x07\1\0", "a RAR archive"),
        (b"PK\3\4\x14\0", "a zip archive"),
    ],
)
def test_unsupported_archives_name_the_supported_ones(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / "x.tar.xz").write_bytes(content)
    code, message = failure(tmp_path / "x.tar.xz")
    start, _, suffixes = message.partition(" are named ")
    assert (code, start) == ("not_image", f"{name}, not an image; archives that can be read")
    assert all(is_archive(f"x{suffix}") for suffix in suffixes.split())


@pytest.mark.parametrize("part", [0.02, 0.1, 0.5, 0.9])
@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("x.jpg", {"truncated"}),
        ("x.png", {"truncated"}),
        ("x.gif", {"truncated", "decode_error"}),
        ("x.bmp", {"truncated"}),
        ("x.tif", {"truncated", "decode_error"}),
        ("x.webp", {"decode_error"}),
        ("x.avif", {"decode_error"}),
    ],
)
def test_truncated_files_fail(tmp_path: Path, photo: Image.Image, name: str, codes: set[str], part: float) -> None:
    photo.save(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(len(content) * part)])
    assert failure(tmp_path / name)[0] in codes


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("x.tif", {"compression": "tiff_lzw"}, "the TIFF's data is damaged"),
        ("x.tif", {"compression": "tiff_adobe_deflate"}, "the TIFF's data is damaged"),
        ("x.png", {}, "the PNG's data is damaged"),
    ],
)
def test_damaged_data_is_reported_in_words(
    tmp_path: Path, photo: Image.Image, name: str, options: dict[str, str], message: str
) -> None:
    """Decoders report it by codes: decoder error -2, broken data stream."""
    photo.save(tmp_path / name, **options)
    content = bytearray((tmp_path / name).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = b"\xff" * 2000
    (tmp_path / name).write_bytes(content)
    failure = decoded(tmp_path / name).failure
    assert failure is not None
    assert (failure.code, failure.message) == ("decode_error", message)


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (OSError("out of memory when reading image file"), "out_of_memory", "not enough memory to decode it"),
        (OSError("decoder error -9"), "out_of_memory", "not enough memory to decode it"),
        (MemoryError(), "out_of_memory", "not enough memory to decode it"),
        (
            OSError("codec configuration error when reading image file"),
            "decode_error",
            "codec configuration error when",
        ),
        (OSError("broken data stream when reading image file"), "decode_error", "the JPEG's data is damaged"),
        (OSError("decoder error -2"), "decode_error", "the JPEG's data is damaged"),
        (ValueError("an ICC profile is too large"), "decode_error", "an ICC profile is too large"),
        (OSError(5, "Input/output error"), "unreadable", "Input/output error"),
    ],
)
def test_only_known_codes_of_decoders_are_translated(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, code: str, message: str
) -> None:
    def load(_: Image.Image) -> None:
        raise raised

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load", load)
    failure = decoded(PHOTOS / "coffee.jpg").failure
    assert failure is not None
    assert (failure.code, failure.message[: len(message)]) == (code, message)


def test_the_known_codes_are_those_of_this_pillow() -> None:
    damage, memory = ([_get_oserror(status, encoder=False) for status in codes] for codes in ((-1, -2, -3), (-9,)))
    assert all(map(is_damage, damage))
    assert all(map(is_lack_of_memory, memory))


def test_what_a_decoder_does_not_support_keeps_its_words(tmp_path: Path, photo: Image.Image) -> None:
    photo.save(tmp_path / "x.bmp")
    content = bytearray((tmp_path / "x.bmp").read_bytes())
    content[30] = 77  # the compression
    (tmp_path / "x.bmp").write_bytes(content)
    failure = decoded(tmp_path / "x.bmp").failure
    assert failure is not None
    assert (failure.code, failure.message) == ("decode_error", "Unsupported BMP compression (77)")


def test_pillow_s_own_pixel_limit_is_not_used(
    photo: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo.save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    with warnings.catch_warnings():
        init_process()
        assert pixels(tmp_path / "x.png").shape == (3, 224, 224)


def test_unreadable_files_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert failure("gone.jpg") == ("vanished", "no such file")
    Path("link.jpg").symlink_to("gone")
    assert failure("link.jpg")[0] == "vanished"
    Path("folder.jpg").mkdir()
    assert failure("folder.jpg") == ("unreadable", "is a folder")
    os.mkfifo("pipe.jpg")
    assert failure("pipe.jpg") == ("unreadable", "is not a regular file")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.jpg")
        assert failure("socket.jpg")[0] == "unreadable"
    Path("loop.jpg").symlink_to("loop.jpg")
    assert failure("loop.jpg")[0] == "unreadable"
    assert failure("x" * 300 + ".jpg")[0] == "unreadable"


def test_the_pixel_limit_is_checked_before_decoding(tmp_path: Path) -> None:
    Image.new("L", (300, 201)).save(tmp_path / "x.png")
    assert failure(tmp_path / "x.png", max_pixels=60_000) == (
        "too_large",
        "300 x 201 pixels, over 60,000: --max-pixels allows more",
    )
    assert decoded(tmp_path / "x.png", max_pixels=60_300).failure is None


def test_a_jpeg_that_is_scaled_while_decoding_may_be_larger(tmp_path: Path, photo: Image.Image) -> None:
    """2400 x 1600 pixels, a sixteenth of that when decoded for 256: allowed up to four times the limit."""
    photo.resize((2400, 1600)).save(tmp_path / "x.jpg")
    assert decoded(tmp_path / "x.jpg", max_pixels=960_000).failure is None
    assert failure(tmp_path / "x.jpg", max_pixels=959_999) == (
        "too_large",
        "2400 x 1600 pixels, over 3,839,996: --max-pixels allows more",
    )
    assert failure(tmp_path / "x.jpg", max_pixels=960_000, exact=True)[0] == "too_large"
    photo.resize((2400, 1600)).save(tmp_path / "x.jpg", progressive=True)
    assert failure(tmp_path / "x.jpg", max_pixels=3_839_999)[0] == "too_large", "libjpeg holds all of it"
    photo.resize((900, 600)).save(tmp_path / "x.jpg")
    message = "900 x 600 pixels, over 539,999 even when scaled: --max-pixels allows more"
    assert failure(tmp_path / "x.jpg", max_pixels=539_999) == ("too_large", message)


def test_a_very_long_image_is_not_resized_in_full(tmp_path: Path) -> None:
    """Resized in full, as transformers does, it would have 256 x 2,560,000 pixels."""
    Image.new("L", (10_000, 1)).save(tmp_path / "x.png")
    assert pixels(tmp_path / "x.png").shape == (3, 224, 224)
    assert failure(tmp_path / "x.png", exact=True)[0] == "too_large"


def test_running_out_of_memory_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image.Image, "resize", fail)
    assert failure(PHOTOS / "coffee.jpg")[0] == "out_of_memory"


def test_garbage_in_exif_is_ignored(tmp_path: Path, photo: Image.Image) -> None:
    photo.save(tmp_path / "x.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\xff\xff\xff\xff\0\0\0\x06")
    photo.save(tmp_path / "y.jpg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert (pixels(tmp_path / "x.jpg") == pixels(tmp_path / "y.jpg")).all()


@given(data=st.data(), suffix=st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "TIFF"]), exact=st.booleans())
def test_broken_bytes_never_raise(
    data: st.DataObject, suffix: str, exact: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((40, 30)).convert("RGB").save(buffer, suffix)
    content = bytearray(buffer.getvalue())
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=8)):
        content[position] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "broken"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = decoded(path, exact=exact)
    assert (result.pixels is None) != (result.failure is None)
    assert result.failure is None or "\n" not in result.failure.message


def test_the_hostile_collection_gives_pillow_s_outcomes(shared_data: Path) -> None:
    """In supported formats, what Pillow decodes is decoded, and what it refuses is a failure."""
    folder = shared_data / "hostile" / "pillow"
    outcomes = [json.loads(line) for line in open_lines(shared_data / "hostile" / "pillow-outcomes.jsonl")]
    assert len(outcomes) == 1067
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = {item["f"]: decoded(folder / item["f"], max_pixels=178_956_970) for item in outcomes}
    assert all((result.pixels is None) != (result.failure is None) for result in results.values())
    differing = {
        item["f"]: results[item["f"]].failure
        for item in outcomes
        if item.get("fmt") in {*FORMATS, "MPO"} and item["ok"] != (results[item["f"]].failure is None)
    }
    assert differing == {}
    others = [item["f"] for item in outcomes if item.get("fmt") not in {*FORMATS, "MPO"}]
    assert [name for name in others if results[name].failure is None and not name.endswith(".heif")] == []


def open_lines(path: Path) -> list[str]:
    return path.read_text().splitlines()
