"""Pages of `report`: rows to make them of, and what is in them."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from dinoclassify.results.report.page import write_page
from dinoclassify.types.prediction import Failure, Label, Prediction
from dinoclassify.writers.formats import open_format
from tests.conftest import PHOTOS

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
