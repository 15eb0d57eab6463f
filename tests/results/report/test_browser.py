"""The page of `report` in a real browser: what people do with it."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dinoclassify.types.prediction import Failure, Prediction
from tests.conftest import PHOTOS
from tests.helpers.browser import PROGRAM, Page, browser
from tests.helpers.report_page import HOSTILE, NAMES, answer, made, many, strange


@pytest.fixture(scope="module")
def chromium() -> Iterator[Page]:
    if PROGRAM is None:
        pytest.skip("there is no chromium")
    with browser() as page:
        yield page


@pytest.fixture
def page(chromium: Page) -> Iterator[Page]:
    """A tab of desktop width; the test fails if the page logs an error or asks the network for anything."""
    chromium.look(1280, 900)
    yield chromium
    assert chromium.complaints == []
    assert all(url.startswith("file:///") for url in chromium.requests)


def show(page: Page, rows: list[Prediction], fragment: str = "", **options: Any) -> None:
    made(rows, **options)
    page.open(f"{Path('page.html').absolute().as_uri()}{fragment}")


def texts(page: Page, selector: str) -> list[str]:
    """What stands in elements that are on the page."""
    found: list[str] = page.evaluate(
        f"[...document.querySelectorAll({json.dumps(selector)})].map((one) => one.textContent)"
    )
    return found


def counted(page: Page) -> str:
    text: str = page.evaluate("document.getElementById('count').textContent")
    return text


def active(page: Page) -> str:
    """The name of the image that the keys are at."""
    (name,) = texts(page, ".row.active .name")
    return name


def test_hostile_names_run_nothing(page: Page) -> None:
    show(page, HOSTILE, title="<img src=x onerror=alert(0)>", meta={"device": "<img src=x onerror=alert(5)>"})
    assert texts(page, ".name")[:2] == ["<img src=x onerror=alert(1)>.jpg", "' onclick=alert(3) \".jpg"]
    assert texts(page, "h1") == ["<img src=x onerror=alert(0)>"]
    page.press("j", "Enter", *["ArrowRight"] * (len(HOSTILE) - 1))
    assert "<b>${alert(4)}</b>" in texts(page, "#detail .facts")[0]
    page.press("Escape")
    page.click("#by-label .bar")
    assert counted(page) == "1 of 6"
    assert page.evaluate("document.images.length") == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert len(page.requests) == 1


def test_script_added_to_the_page_does_not_run(chromium: Page) -> None:
    text = made(many(3))
    Path("page.html").write_text(text.replace("<body>", "<body><img src='data:,x' onerror='window.ran = true'>"))
    chromium.open(Path("page.html").absolute().as_uri())
    assert chromium.evaluate("window.ran") is None
    assert "Content Security Policy" in chromium.complaints[0]


def test_search(page: Page) -> None:
    show(page, many(200))
    assert counted(page) == "200 images"
    page.press("/", *"img_0012")
    assert counted(page) == "10 of 200"
    assert texts(page, ".name")[0] == "IMG_00120.jpg"
    page.press(*" LABEL 25")
    assert (counted(page), texts(page, ".name")) == ("1 of 200", ["IMG_00125.jpg"])
    page.press("Escape", *"tables")
    assert counted(page) == "6 of 200"  # rows 20, 50, 80, 110, 140, 170
    assert set(texts(page, ".reason")) == {"its tables are broken"}
    page.press("Escape", *"nothing like it")
    assert texts(page, "#nothing:not([hidden])") == ["No image matches."]
    page.press("Escape", "Escape", *"j")
    assert counted(page) == "200 images"


def test_filters_are_kept_in_the_address(page: Page) -> None:
    rows = many(200)
    show(page, rows, group=lambda row: "even" if row.top[0].index % 2 == 0 else "odd")
    page.click("#by-label .bar:nth-of-type(1)")
    label = page.evaluate("document.getElementById('label').value")
    assert set(texts(page, ".answer bdi:first-child")) == {label}
    assert counted(page) == "4 of 200"
    page.click("#by-label .bar[aria-pressed=true]")
    assert counted(page) == "200 images"
    page.click(".chip.uncertain")
    uncertain = sum(row.status == "uncertain" for row in rows)
    assert counted(page) == f"{uncertain} of 200"
    page.click(".chip.failed")
    assert counted(page) == f"{uncertain + 20} of 200"
    page.click("#clear")
    page.click(".bin:nth-child(20)")
    high = [row for row in rows if row.score is not None and row.score >= 0.95]
    assert counted(page) == f"{len(high)} of 200"
    page.click("#by-group .bar")
    group = texts(page, "#by-group [aria-pressed=true] .bar-name")[0]
    here = [row for row in high if (row.top[0].index % 2 == 0) == (group == "even")]
    assert counted(page) == f"{len(here)} of 200"
    assert page.evaluate("location.hash") == f"#group={group}&min=0.95"
    page.click("#by-error .bar")
    assert counted(page) == "0 of 200"
    page.open(
        f"{Path('page.html').absolute().as_uri()}#status=ok,failed&min=0.5&max=0.75&sort=score-down&label=unknown"
    )
    between = [row for row in rows if row.score is not None and 0.5 <= row.score < 0.75]
    assert counted(page) == f"{len(between)} of 200"
    scores = [float(text) for text in texts(page, ".score > span:first-child")]
    assert scores == sorted(scores, reverse=True)


def test_score_range_is_chosen_with_the_mouse(page: Page) -> None:
    rows = many(200)
    show(page, rows)
    box = page.evaluate("document.getElementById('histogram').getBoundingClientRect().toJSON()")
    at = [(box["x"] + box["width"] * share, box["y"] + 40) for share in (0.475, 0.5, 0.725)]
    page.drag(*at)
    assert page.evaluate("[min.value, max.value]") == ["0.45", "0.75"]
    between = [row for row in rows if row.score is not None and 0.45 <= row.score < 0.75]
    assert counted(page) == f"{len(between)} of 200"


def test_sort_orders(page: Page) -> None:
    rows = many(30)
    show(page, list(reversed(rows)))
    scores = sorted(row.score for row in rows if row.score is not None)
    for order, first in (
        ("input", rows[-1].path),
        ("path", rows[0].path),
        ("score-up", next(row.path for row in rows if row.score == scores[0])),
        ("score-down", next(row.path for row in rows if row.score == scores[-1])),
    ):
        page.evaluate(f"sort.value = '{order}', sort.dispatchEvent(new Event('input'))")
        assert texts(page, ".name")[0] == os.path.basename(first)
    page.press("j", "End")
    assert texts(page, ".row.active .status") == ["failed"]  # without a score they come last


def test_keyboard(page: Page) -> None:
    show(page, many(300), title="keys")
    page.press("j")
    assert active(page) == "IMG_00000.jpg"
    page.press("j", "ArrowDown", "k")
    assert active(page) == "IMG_00001.jpg"
    page.press("PageDown")
    further = int(active(page)[4:9])
    assert 5 < further < 20
    page.press("PageUp", "End")
    assert active(page) == "IMG_00299.jpg"
    assert page.evaluate("document.activeElement.getAttribute('aria-activedescendant')") == "row-299"
    assert page.evaluate("document.getElementById('row-299').getAttribute('aria-rowindex')") == "300"
    box = page.evaluate("document.querySelector('.row.active').getBoundingClientRect().toJSON()")
    assert 0 < box["top"] < box["bottom"] < 901
    page.press("Home", "ArrowDown", "Enter")
    assert texts(page, "dialog[open] h2") == ["IMG_00001.jpg"]
    assert texts(page, "dialog[open] .ranks bdi") == ["label 01", "label 02", "label 03"]
    assert texts(page, "dialog[open] .facts")[0].startswith("path/photos/2026/000-somewhere/IMG_00001.jpg")
    page.press("ArrowRight")
    assert texts(page, "dialog[open] h2") == ["IMG_00002.jpg"]
    page.press("Escape")
    assert texts(page, "dialog[open]") == []
    assert active(page) == "IMG_00002.jpg"
    page.press("?")
    assert texts(page, "dialog[open] h2") == ["Keys"]
    page.press("Escape", "/", *"00007", "ArrowDown")
    assert active(page) == "IMG_00007.jpg"
    page.press("Escape")
    assert counted(page) == "300 images"


def test_ten_thousand_rows_stay_responsive(page: Page) -> None:
    show(page, many(10_000))
    timing = page.evaluate("performance.getEntriesByType('navigation')[0].toJSON()")
    assert timing["loadEventEnd"] < 5_000  # milliseconds; a fifth of a second on a machine that is not busy
    nodes = "document.querySelectorAll('*').length"
    assert page.evaluate(nodes) < 2_000
    started = time.monotonic()
    page.press("/", *"img_09999")
    assert time.monotonic() - started < 5
    assert texts(page, ".name") == ["IMG_09999.jpg"]
    page.press("Escape", "ArrowDown", "End")
    assert active(page) == "IMG_09999.jpg"
    page.evaluate("scrollTo(0, document.body.scrollHeight / 2)")
    page.settle()
    assert 4_000 < int(texts(page, ".name")[0][4:9]) < 6_000
    assert page.evaluate(nodes) < 2_000


def test_thumbnails_by_label_and_in_the_list(page: Page, photos: list[str]) -> None:
    rows = [answer(path, "cat" if n < 3 else "dog", 0.5 + n / 10) for n, path in enumerate(photos)]
    show(page, [*rows, Prediction("x.jpg", "failed", failure=Failure("vanished", "gone"))], thumbnails=2)
    assert texts(page, ".card-name") == ["cat", "dog", "No label: failed"]
    page.wait_for("[...document.images].every((image) => image.complete && image.naturalWidth)")
    assert page.evaluate("[...document.images].map((image) => image.naturalWidth)") == [160] * 4
    page.click(".card-head")
    assert (counted(page), texts(page, ".name")) == ("3 of 6", NAMES[:3])
    assert page.evaluate("document.images.length") == 2  # the third has none
    page.click(".row")
    assert texts(page, "dialog[open] h2") == NAMES[:1]
    assert len(page.requests) == 1


def test_linked_images_load_whatever_their_names(page: Page) -> None:
    paths = strange("in put")
    show(page, [answer(path, "rocket", 0.9) for path in paths], "#view=images", link=True)
    page.wait_for("[...document.images].every((image) => image.complete && image.naturalWidth)")
    with Image.open(PHOTOS / "rocket.jpg") as rocket:
        assert page.evaluate("[...document.images].map((image) => image.naturalWidth)") == [rocket.width] * len(paths)
    assert page.evaluate("[...document.images].every((image) => image.loading === 'lazy')")


@pytest.mark.parametrize("rows", [[], HOSTILE[-1:], HOSTILE[:1], HOSTILE], ids=["none", "failed", "one", "hostile"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_a_phone_in_both_colour_schemes(page: Page, rows: list[Prediction], scheme: str) -> None:
    page.look(390, 844, scheme)
    show(page, rows)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    red = page.evaluate("Number(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])")
    assert red > 200 if scheme == "light" else red < 50
    assert texts(page, "#no-rows:not([hidden])") == ([] if rows else ["There are no rows in this file."])
    if rows:
        page.click("#toggle")
        assert page.evaluate("document.getElementById('filters').getBoundingClientRect().right") <= 390
        small = (
            "[...document.querySelectorAll('#toolbar input, #toolbar select, .chip')].filter((one) => one.offsetHeight)"
        )
        assert page.evaluate(f"Math.min(...{small}.map((one) => one.offsetHeight))") >= 38


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(page: Page, scheme: str) -> None:
    page.look(1280, 900, scheme)
    show(page, many(50), "#status=ok,failed")
    colors = page.evaluate(
        """Object.fromEntries("paper surface fill ink muted accent on-accent alarm".split(" ").map((name) => {
            const probe = document.body.appendChild(document.createElement("i"));
            probe.style.color = `var(--${name})`;
            return [name, getComputedStyle(probe).color.match(/\\d+/g).map(Number)];
        }))"""
    )

    def luminance(name: str) -> float:
        parts = (value / 255 for value in colors[name])
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return float(0.2126 * red + 0.7152 * green + 0.0722 * blue)

    pairs = [(text, behind) for text in ("ink", "muted", "accent", "alarm") for behind in ("paper", "surface", "fill")]
    for text, behind in [*pairs, ("on-accent", "accent")]:
        low, high = sorted((luminance(text), luminance(behind)))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (text, behind)  # WCAG 2, level AA
