"""`report`: what is on the page, what never runs on it, and, in a real browser, what people do with it."""

import base64
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageStat

from dinoclassify.cli import run
from dinoclassify.results.report.page import write_page
from dinoclassify.types.prediction import Failure, Label, Prediction
from dinoclassify.writers.formats import open_format
from tests.conftest import PHOTOS, Cli
from tests.helpers.browser import PROGRAM, Page, browser

Invoke = Callable[..., tuple[int, str, str]]

NAMES = sorted(path.name for path in PHOTOS.glob("*.jpg"))
HOSTILE = [  # names that would run, end the script, change the order of letters, or are not UTF-8
    Prediction("a/<img src=x onerror=alert(1)>.jpg", "ok", (Label("</script><script>alert(2)</script>", 0, 0.9),)),
    Prediction("b/' onclick=alert(3) \".jpg", "ok", (Label("<!-- <script>", 1, 0.8), Label("&lt;b&gt;", 2, 0.1))),
    Prediction("c/photo\u202egpj.exe\n2.jpg", "uncertain", (Label("line\u2028\u2029{{ 7 * 7 }}", 3, 0.3),)),
    Prediction("d/latin-\udce9.jpg", "ok", (Label("half \ud83d", 4, 0.7),)),
    Prediction("e/صورة.jpg", "ok", (Label("قطة" * 100, 5, 1.0),)),
    Prediction(f"f/{'long_' * 60}.jpg", "failed", failure=Failure("not_image", "<b>${alert(4)}</b> " + "why " * 99)),
]
REASONS = ("it ends too early", "a byte is missing", "its tables are broken")


def answer(path: str, label: str, score: float) -> Prediction:
    """The row of an image as it is now."""
    now = os.stat(path) if os.path.exists(path) else None
    size, mtime_ns = (now.st_size, now.st_mtime_ns) if now else (1, 1)
    return Prediction(path, "ok", (Label(label, 0, score),), None, size, mtime_ns)


def many(count: int) -> list[Prediction]:
    """Rows of 50 labels, of which every tenth failed."""
    rows: list[Prediction] = []
    for n in range(count):
        path, score = f"/photos/2026/{n // 500:03d}-somewhere/IMG_{n:05d}.jpg", (n * 7919 % 1000) / 1000
        top = tuple(Label(f"label {(n + k) % 50:02d}", (n + k) % 50, score / 2**k) for k in range(3))
        failed = Prediction(path, "failed", (), Failure("truncated", REASONS[n % 3]), 1000 + n, n * 10**9)
        made = Prediction(path, "ok" if score >= 0.2 else "uncertain", top, None, 1000 + n, n * 10**9)
        rows.append(made if n % 10 else failed)
    return rows


def save(name: str, rows: list[Prediction], top_k: int = 1) -> None:
    lines = open_format(name.rsplit(".", 1)[1], top_k).lines
    Path(name).write_bytes(lines.header() + b"".join(map(lines.line, rows)))


def made(rows: list[Prediction], **options: Any) -> str:  # options are write_page's own
    """The page of some rows."""
    write_page("page.html", rows, **{"title": "labels.csv", "meta": {}, "thumbnails": 0, **options})
    return Path("page.html").read_text(encoding="utf-8")


def data(page: str) -> dict[str, Any]:
    """What the script of a page reads."""
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    content: dict[str, Any] = json.loads(found)
    return content


def images(page: str) -> dict[int, Image.Image]:
    """The thumbnails in a page, by row."""
    found = re.findall(r'<script type="text/plain" id="t(\d+)">(.*?)</script>', page)
    return {int(row): Image.open(io.BytesIO(base64.b64decode(text))) for row, text in found}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of images, which becomes the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def photos(here: Path) -> list[str]:
    """The sample images, as paths in that folder."""
    shutil.copytree(PHOTOS, "photos")
    return [f"photos/{name}" for name in NAMES]


@pytest.fixture
def invoke(capfd: pytest.CaptureFixture[str]) -> Invoke:
    """Run a command in this process: (exit code, stdout, stderr)."""

    def call(command: str, *arguments: str | Path) -> tuple[int, str, str]:
        code = run([command, *map(str, arguments)])
        return (code, *capfd.readouterr())

    return call


def test_names_from_outside_are_text(here: Path) -> None:
    page = made(HOSTILE, title="<script>alert(0)</script>", meta={"device": "<script>alert(5)</script>"})
    assert page.count("<script") == page.count("</script>") == 2  # the data and the one that runs
    assert "<img" not in page
    assert "alert(0)</title>" not in page
    assert '<h1 dir="auto">&lt;script&gt;alert(0)&lt;/script&gt;</h1>' in page
    found = data(page)
    assert found["labels"][0] == "</script><script>alert(2)</script>"
    assert found["name"][0] == "<img src=x onerror=alert(1)>.jpg"
    assert found["name"][2] == r"photo\u202egpj.exe\n2.jpg"  # as no reader can mistake it
    assert found["name"][3] == r"latin-\xe9.jpg"
    assert "half \\ud83d" in found["labels"]


@pytest.mark.parametrize("link", [False, True])
def test_the_policy_allows_the_one_style_and_script_and_no_request(here: Path, link: bool) -> None:
    page = made(HOSTILE, link=link)
    (policy,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="(.*?)">', page)
    rules = dict(rule.split(" ", 1) for rule in policy.replace("&#39;", "'").split("; "))
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == ("data: file: 'self'" if link else "data:")
    script = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)[0]
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval|Function\(|fetch|import\(", script
    )
    assert not re.findall(r"https?://", page)


def test_figures_and_columns_are_those_of_the_rows(here: Path) -> None:
    page = made(many(100))
    figures = dict(re.findall(r"<dt>([\w/]+)</dt><dd>([\d,.]+)</dd>", page))
    assert figures == {"images": "100", "ok": "71", "uncertain": "19", "failed": "10", "labels": "45"}
    found = data(page)
    assert found["folders"] == ["/photos/2026/000-somewhere/"]
    assert found["name"][:2] == ["IMG_00000.jpg", "IMG_00001.jpg"]
    assert found["status"][:3] == "200"
    assert found["score"][:2] == [None, 0.919]
    assert [found["labels"][found["label"][n]] for n in (1, 2)] == ["label 01", "label 02"]
    assert found["further"][1] == [
        found["labels"].index("label 02"),
        0.4595,
        found["labels"].index("label 03"),
        0.22975,
    ]
    assert found["errors"][found["error"]["10"]] == ["truncated", "a byte is missing"]
    assert (found["size"][3], found["modified"][3]) == (1003, 3)


def test_ten_thousand_rows_are_compact(here: Path) -> None:
    assert len(made(many(10_000))) < 1_500_000


def test_the_sidecar_is_told(here: Path, invoke: Invoke) -> None:
    save("labels.csv", many(10))
    about = {
        "created": "2026-03-04T05:06:07+00:00",
        "model": {"name": "small", "revision": "0123abcd", "labels": 1000, "preprocessing": {"resize": 256}},
        "device": "cuda:0",
        "precision": "bf16",
        "runtime": "torch",
        "versions": {"torch": "2.9.1"},
        "options": {"top_k": 3, "offline": True, "shard": None, "hidden": False, "include": [], "paths": ["a b", "c"]},
        "seconds": 12.5,
        "images_per_second": 1234.5678,
    }
    Path("labels.csv.meta.json").write_text(json.dumps(about))
    assert invoke("report", "labels.csv", "-o", "page.html", "--thumbnails", "0")[0] == 0
    page = Path("page.html").read_text()
    assert "small · cuda:0 · bf16 · 2026-03-04 05:06 UTC" in page
    facts = dict(re.findall(r'<dt>(.*?)</dt><dd dir="auto">(.*?)</dd>', page))
    assert facts["revision"] == "0123abcd"
    assert facts["torch"] == "2.9.1"
    assert facts["preprocessing"] == "resize 256"
    assert (facts["top k"], facts["offline"], facts["paths"]) == ("3", "yes", "a b c")
    assert not facts.keys() & {"shard", "hidden", "include"}
    assert "<dt>images/s</dt><dd>1,234.6</dd>" in page


@pytest.mark.parametrize(
    "content", [None, "{", "[]", '{"model": 1, "options": [], "created": 5, "images_per_second": "x"}']
)
def test_a_sidecar_that_is_missing_or_odd_does_no_harm(here: Path, invoke: Invoke, content: str | None) -> None:
    save("labels.csv", many(10))
    if content is not None:
        Path("labels.csv.meta.json").write_text(content)
    code, out, err = invoke("report", "labels.csv", "-o", "page.html", "--thumbnails", "0")
    assert (code, out) == (0, "")
    assert re.fullmatch(r"dinoclassify: 10 rows, 0 thumbnails -> page\.html \([\d.]+ kB\)\n", err)
    unknown = "no .meta.json stands beside them" in Path("page.html").read_text()
    assert unknown is (content is None or not content.endswith('"x"}'))


def test_the_most_certain_images_of_each_label_are_embedded(photos: list[str], invoke: Invoke) -> None:
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


def test_images_that_are_gone_changed_or_broken_have_none(photos: list[str], invoke: Invoke) -> None:
    rows = [answer(path, "cat", 0.5) for path in photos]
    Path(photos[0]).unlink()
    os.utime(photos[1], (1, 1))
    Path(photos[2]).write_bytes(b"\xff\xd8\xff no more")
    rows[2] = answer(photos[2], "cat", 0.5)
    save("labels.jsonl", rows)
    code, _, err = invoke("report", "labels.jsonl", "-o", "page.html")
    assert code == 0
    assert "3 of 5 thumbnails are missing: their images are gone, have changed or cannot be decoded" in err
    assert list(images(Path("page.html").read_text())) == [3, 4]


def test_without_thumbnails_nothing_is_loaded_that_decodes(photos: list[str]) -> None:
    save("labels.csv", [answer(path, "cat", 0.5) for path in photos])
    heavy = "{'torch', 'PIL', 'pandas'}"
    script = f"import sys; from dinoclassify.cli import run; run(sys.argv[1:]); print({heavy} & set(sys.modules))"
    arguments = ("report", "labels.csv", "-o", "page.html", "--thumbnails", "0", "--link")
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=120)
    assert done.stdout == "set()\n", done.stderr
    assert Path("page.html").exists()


def strange(folder: str) -> list[str]:
    """Images whose names are addresses only when they are written with care."""
    os.makedirs(folder)
    names = [
        b"a#b.jpg",
        b"a?b=c.jpg",
        b"100%25.jpg",
        b"a b\"c'd.jpg",
        b"a:b.jpg",
        b"a\\b.jpg",
        b"latin-\xe9.jpg",
        "é日.jpg".encode(),
    ]
    paths = [os.path.join(folder, os.fsdecode(name)) for name in names]
    for path in paths:
        shutil.copy(PHOTOS / "rocket.jpg", path)
    return paths


def test_links_are_addresses_from_the_page_byte_by_byte(here: Path, invoke: Invoke) -> None:
    rows = [answer(path, "rocket", 0.9) for path in strange("in put")]
    failed = Prediction("in put/broken.jpg", "failed", failure=Failure("truncated", "it ends too early"))
    save("labels.csv", [*rows, answer("gone.jpg", "rocket", 0.1), failed])
    shutil.copy(PHOTOS / "rocket.jpg", "in put/broken.jpg")
    os.mkdir("out")
    assert invoke("report", "labels.csv", "-o", "out/page.html", "--thumbnails", "0", "--link")[0] == 0
    found = data(Path("out/page.html").read_text())["links"]
    names = ["a%23b", "a%3Fb%3Dc", "100%2525", "a%20b%22c%27d", "a%3Ab", "a%5Cb", "latin-%E9", "%C3%A9%E6%97%A5"]
    assert found == {str(row): f"../in%20put/{name}.jpg" for row, name in enumerate(names)}


def test_the_same_rows_are_the_same_bytes(photos: list[str]) -> None:
    rows = [answer(path, "cat", 0.5) for path in photos]
    assert made(rows, thumbnails=6, link=True) == made(rows, thumbnails=6, link=True)


def test_groups_are_told(here: Path, invoke: Invoke) -> None:
    save("labels.csv", many(100))
    Path("groups.csv").write_text(
        "label,group\n" + "".join(f"label {n:02d},{'even' if n % 2 == 0 else 'odd'}\n" for n in range(40))
    )
    assert invoke("report", "labels.csv", "-o", "page.html", "--thumbnails", "0", "--groups", "groups.csv")[0] == 0
    found = data(Path("page.html").read_text())
    assert sorted(found["groups"]) == ["even", "odd", "other"]
    assert [found["groups"][found["group"][n]] for n in (1, 2, 41)] == ["odd", "even", "other"]
    assert found["group"][0] == -1


def test_the_page_goes_to_stdout(here: Path, invoke: Invoke) -> None:
    save("labels.csv", many(10))
    code, out, err = invoke("report", "labels.csv", "-o", "-", "--thumbnails", "0")
    assert code == 0
    assert out.startswith("<!DOCTYPE html>")
    assert out.endswith("</html>\n")
    assert re.fullmatch(r"dinoclassify: 10 rows, 0 thumbnails \([\d.]+ kB\)\n", err)


def test_rows_come_from_stdin(here: Path, cli: Cli) -> None:
    save("labels.csv", many(10))
    Path("labels.csv.meta.json").write_text("{}")  # which is not theirs
    done = cli("report", "-", "-o", "page.html", "--thumbnails", "0", "-q", input=Path("labels.csv").read_bytes())
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    again = cli("report", "-", "-o", "-", "--thumbnails", "0", input=Path("labels.csv").read_bytes())
    assert again.stdout == Path("page.html").read_bytes()
    page = Path("page.html").read_text()
    assert '<h1 dir="auto">rows from stdin</h1>' in page
    assert len(data(page)["name"]) == 10


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("", 2, "name a file that predict wrote, or - for its rows on stdin"),
        ("labels.csv", 2, "name a file with --output"),
        ("labels.csv -o labels.csv", 2, "labels.csv would be written over an input: choose another name"),
        ("labels.csv -o link.csv", 2, "link.csv would be written over an input: choose another name"),
        ("labels.csv -o labels.csv.meta.json", 2, "labels.csv.meta.json would be written over an input"),
        ("labels.csv -o groups.csv --groups groups.csv", 2, "groups.csv would be written over an input"),
        ("labels.csv -o new.jpg", 2, "new.jpg has the suffix of an image: choose another name"),
        ("labels.csv -o image", 2, "image is one of the images: it would be written over"),
        ("labels.csv -o folder", 6, "cannot write folder: it is a folder; name a file, in it or elsewhere"),
        ("labels.csv -o nowhere/page.html", 6, "nowhere: make it first (mkdir -p)"),
        ("nothing.csv -o page.html", 2, "nothing.csv is not there: "),
        ("image -o page.html", 2, "image is not what predict writes"),
    ],
)
def test_wrong_usage_is_one_line(here: Path, invoke: Invoke, arguments: str, code: int, message: str) -> None:
    shutil.copy(PHOTOS / "rocket.jpg", "image")
    save("labels.csv", [answer("image", "rocket", 0.9)])
    Path("link.csv").symlink_to("labels.csv")
    os.mkdir("folder")
    before = {path: path.read_bytes() for path in here.iterdir() if path.is_file()}
    found, out, err = invoke("report", *arguments.split(), "--thumbnails", "0")
    assert (found, out) == (code, "")
    assert message in err
    assert err.count("\n") == 1
    assert {path: path.read_bytes() for path in here.iterdir() if path.is_file()} == before


# --- in a browser


@pytest.fixture(scope="module")
def chromium() -> Iterator[Page]:
    if PROGRAM is None:
        pytest.skip("there is no chromium")
    with browser() as page:
        yield page


@pytest.fixture
def page(chromium: Page) -> Iterator[Page]:
    """A tab, as wide as a desk; whatever a test does, nothing is complained of, and nothing is asked of a network."""
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


def test_names_from_outside_run_nothing(page: Page) -> None:
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


def test_inline_script_of_a_page_that_was_tampered_with_does_not_run(chromium: Page) -> None:
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


def test_filters_and_their_address(page: Page) -> None:
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


def test_a_range_of_scores_is_drawn_with_the_mouse(page: Page) -> None:
    rows = many(200)
    show(page, rows)
    box = page.evaluate("document.getElementById('histogram').getBoundingClientRect().toJSON()")
    at = [(box["x"] + box["width"] * share, box["y"] + 40) for share in (0.475, 0.5, 0.725)]
    page.drag(*at)
    assert page.evaluate("[min.value, max.value]") == ["0.45", "0.75"]
    between = [row for row in rows if row.score is not None and 0.45 <= row.score < 0.75]
    assert counted(page) == f"{len(between)} of 200"


def test_orders(page: Page) -> None:
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


def test_keys(page: Page) -> None:
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


def test_linked_images_are_found_whatever_their_names(page: Page) -> None:
    paths = strange("in put")
    show(page, [answer(path, "rocket", 0.9) for path in paths], "#view=images", link=True)
    page.wait_for("[...document.images].every((image) => image.complete && image.naturalWidth)")
    with Image.open(PHOTOS / "rocket.jpg") as rocket:
        assert page.evaluate("[...document.images].map((image) => image.naturalWidth)") == [rocket.width] * len(paths)
    assert page.evaluate("[...document.images].every((image) => image.loading === 'lazy')")


@pytest.mark.parametrize("rows", [[], HOSTILE[-1:], HOSTILE[:1], HOSTILE], ids=["none", "failed", "one", "hostile"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_on_a_phone_in_both_schemes(page: Page, rows: list[Prediction], scheme: str) -> None:
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
def test_text_stands_out_from_what_is_behind_it(page: Page, scheme: str) -> None:
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


def test_classes_of_one_name_are_two(here: Path) -> None:
    bird, machine = Label("crane", 134, 0.9), Label("crane", 517, 0.8)
    rows = [Prediction(f"{number}.jpg", "ok", (rank,)) for number, rank in enumerate((bird, bird, machine))]
    found = data(made(rows))
    assert found["labels"] == ["crane (134)", "crane (517)"]
    assert found["label"] == [0, 0, 1]
    assert ("labels", "2") in re.findall(r"<dt>([\w/]+)</dt><dd>([\d,.]+)</dd>", made(rows))


def test_a_class_without_a_name_is_no_filter(here: Path) -> None:
    rows = [Prediction("a.jpg", "ok", (Label("", 0, 0.9),)), Prediction("b.jpg", "ok", (Label("cat", 1, 0.9),))]
    assert data(made(rows))["labels"] == ["(no name)", "cat"]


@pytest.mark.parametrize(
    "odd", ['{"images_per_second": 1' + "0" * 400 + "}", '{"device": ' + "[" * 900 + "]" * 900 + "}"]
)
def test_sidecars_that_nobody_has_written(here: Path, invoke: Invoke, odd: str) -> None:
    save("labels.csv", many(3))
    Path("labels.csv.meta.json").write_text(f"{{{odd}}}")
    assert invoke("report", "labels.csv", "-o", "page.html", "--thumbnails", "0")[0] == 0


def test_a_page_that_would_be_a_folder(here: Path, invoke: Invoke) -> None:
    save("labels.csv", many(3))
    assert invoke("report", "labels.csv", "-o", "page.html/")[0] == 6
