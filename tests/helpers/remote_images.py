"""Images in a store or on the web, and the rows of those."""

import csv
import io
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from tests.helpers.servers import Store, Web

Predict = Callable[..., tuple[int, str, str]]
COMMAND = [sys.executable, "-m", "dinoclassify"]
PHOTOS = "GET /bucket/photos/"


def jpeg(number: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (60, 60), (number % 251, number * 7 % 256, 90)).save(content, "JPEG")
    return content.getvalue()


def grey_png(level: int) -> bytes:
    """An image whose file has the same size for every level."""
    content = io.BytesIO()
    Image.new("L", (60, 60), level).save(content, "PNG", compress_level=0)
    return content.getvalue()


def pack_image(name: str, content: bytes) -> bytes:
    """An archive with one image in it."""
    made = io.BytesIO()
    if name.endswith(".zip"):
        with zipfile.ZipFile(made, "w") as archive:
            archive.writestr("x.png", content)
    else:
        with tarfile.open(fileobj=made, mode="w:gz") as archive:
            header = tarfile.TarInfo("x.png")
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return made.getvalue()


def fill_store(store: Store, count: int) -> list[str]:
    """Put images into the store and into a local folder; returns their names, which are the same in both."""
    Path("photos").mkdir()
    names = [f"photos/{number:05}.jpg" for number in range(count)]
    for number, name in enumerate(names):
        Path(name).write_bytes(jpeg(number))
        store.put(name, jpeg(number))
    return names


def parse_table(content: str) -> list[dict[str, str]]:
    """The rows of a CSV."""
    return list(csv.DictReader(io.StringIO(content)))


def rows_without_times(content: str) -> list[list[str]]:
    """The rows of a CSV without the prefix of the store and without times."""
    return [[row["path"].removeprefix("s3://bucket/"), *list(row.values())[1:-1]] for row in parse_table(content)]


def images_read(store: Store) -> list[str]:
    """The images that were requested since the last call."""
    asked = [line.removeprefix(PHOTOS) for line in store.faults.asked if line.startswith(PHOTOS)]
    store.faults.asked.clear()
    return asked


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def pack_images(name: str, images: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    if name.endswith(".zip"):
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as made:
            for image, data in images.items():
                made.writestr(image, data)
    else:
        with tarfile.open(fileobj=content, mode="w:gz" if name.endswith(".gz") else "w") as tar:
            for image, data in images.items():
                header = tarfile.TarInfo(image)
                header.size = len(data)
                tar.addfile(header, io.BytesIO(data))
    return content.getvalue()


def page_urls(site: Web) -> list[str]:
    return [f"{site.url}/{number}.jpg" for number in range(20)]
