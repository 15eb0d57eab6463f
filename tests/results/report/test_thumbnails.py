"""Thumbnails in the page, and links to the images."""

import base64
import io
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from PIL import Image, ImageChops, ImageStat

from dinoclassify.types.prediction import Failure, Prediction
from tests.conftest import PHOTOS
from tests.helpers.invoke import Invoke
from tests.helpers.report_page import answer, data, save, strange


def images(page: str) -> dict[int, Image.Image]:
    """The thumbnails in a page, by row."""
    found = re.findall(r'<script type="text/plain" id="t(\d+)">(.*?)</script>', page)
    return {int(row): Image.open(io.BytesIO(base64.b64decode(text))) for row, text in found}


def test_thumbnails_show_the_most_certain_images_of_each_label(photos: list[str], invoke: Invoke) -> None:
    scores = (0.5, 0.9, 0.7, 0.2, 0.8)
    rows = [
        answer(path, label, score)
        for path, label, score in zip(photos, ("cat", "cat", "cat", "dog", "fox"), scores, strict=True)
    ]
    save(
        "labels.csv",
        [*rows, replace(rows[0], path="f.jpg", status="failed", top=(), failure=Failure("not_image", "no"))],
    )
    assert invoke("report", "labels.csv", "-o", "page.html", "--thumbnails", "2")[2].startswith(
        "dinoclassify: 6 rows, 4 thumbnails -> page.html ("
    )
    found = images(Path("page.html").read_text())
    assert list(found) == data(Path("page.html").read_text())["thumbnails"] == [1, 2, 3, 4]
    for row, image in found.items():
        assert (image.format, image.size) == ("JPEG", (160, 160))
        with Image.open(photos[row]) as original:
            side = min(original.size)
            left, top = (original.width - side) // 2, (original.height - side) // 2
            square = original.convert("RGB").crop((left, top, left + side, top + side)).resize((160, 160))
        assert max(ImageStat.Stat(ImageChops.difference(image.convert("RGB"), square)).mean) < 8


def test_missing_changed_or_broken_images_have_no_thumbnail(photos: list[str], invoke: Invoke) -> None:
    rows = [answer(path, "cat", 0.5) for path in photos]
    Path(photos[0]).unlink()
    os.utime(photos[1], (1, 1))
    Path(photos[2]).write_bytes(b"\xff\xd8\xff no more")
    rows[2] = answer(photos[2], "cat", 0.5)
    save("labels.jsonl", rows)
    code, _, err = invoke("report", "labels.jsonl", "-o", "page.html")
    assert code == 0
    assert "3 of 5 thumbnails are missing: their images are gone, changed, damaged, or no files of this machine" in err
    assert list(images(Path("page.html").read_text())) == [3, 4]


def test_no_decoder_is_imported_without_thumbnails(photos: list[str]) -> None:
    save("labels.csv", [answer(path, "cat", 0.5) for path in photos])
    heavy = "{'torch', 'PIL', 'pandas'}"
    script = f"import sys; from dinoclassify.cli import run; run(sys.argv[1:]); print({heavy} & set(sys.modules))"
    arguments = ("report", "labels.csv", "-o", "page.html", "--thumbnails", "0", "--link")
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=120)
    assert done.stdout == "set()\n", done.stderr
    assert Path("page.html").exists()


def test_links_are_escaped_and_relative_to_the_page(here: Path, invoke: Invoke) -> None:
    rows = [answer(path, "rocket", 0.9) for path in strange("in put")]
    failed = Prediction("in put/broken.jpg", "failed", failure=Failure("truncated", "it ends too early"))
    save("labels.csv", [*rows, answer("gone.jpg", "rocket", 0.1), failed])
    shutil.copy(PHOTOS / "rocket.jpg", "in put/broken.jpg")
    os.mkdir("out")
    assert invoke("report", "labels.csv", "-o", "out/page.html", "--thumbnails", "0", "--link")[0] == 0
    found = data(Path("out/page.html").read_text())["links"]
    names = ["a%23b", "a%3Fb%3Dc", "100%2525", "a%20b%22c%27d", "a%3Ab", "a%5Cb", "latin-%E9", "%C3%A9%E6%97%A5"]
    assert found == {str(row): f"../in%20put/{name}.jpg" for row, name in enumerate(names)}
