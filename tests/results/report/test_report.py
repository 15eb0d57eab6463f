"""The command `report`: what it reads, writes and says."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from tests.conftest import PHOTOS, Cli
from tests.helpers.invoke import Invoke
from tests.helpers.report_page import answer, data, many, save


def test_page_tells_what_the_meta_file_says(here: Path, invoke: Invoke) -> None:
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
def test_missing_or_odd_meta_file_does_no_harm(here: Path, invoke: Invoke, content: str | None) -> None:
    save("labels.csv", many(10))
    if content is not None:
        Path("labels.csv.meta.json").write_text(content)
    code, out, err = invoke("report", "labels.csv", "-o", "page.html", "--thumbnails", "0")
    assert (code, out) == (0, "")
    assert re.fullmatch(r"dinoclassify: 10 rows, 0 thumbnails -> page\.html \([\d.]+ kB\)\n", err)
    unknown = "run metadata (.meta.json) is missing or damaged" in Path("page.html").read_text()
    assert unknown is (content is None or not content.endswith('"x"}'))


@pytest.mark.parametrize(
    "odd", ['{"images_per_second": 1' + "0" * 400 + "}", '{"device": ' + "[" * 900 + "]" * 900 + "}"]
)
def test_damaged_meta_file_does_no_harm(here: Path, invoke: Invoke, odd: str) -> None:
    save("labels.csv", many(3))
    Path("labels.csv.meta.json").write_text(f"{{{odd}}}")
    assert invoke("report", "labels.csv", "-o", "page.html", "--thumbnails", "0")[0] == 0


def test_groups_are_in_the_page(here: Path, invoke: Invoke) -> None:
    save("labels.csv", many(100))
    Path("groups.csv").write_text(
        "label,group\n" + "".join(f"label {n:02d},{'even' if n % 2 == 0 else 'odd'}\n" for n in range(40))
    )
    assert invoke("report", "labels.csv", "-o", "page.html", "--thumbnails", "0", "--groups", "groups.csv")[0] == 0
    found = data(Path("page.html").read_text())
    assert sorted(found["groups"]) == ["even", "odd", "other"]
    assert [found["groups"][found["group"][n]] for n in (1, 2, 41)] == ["odd", "even", "other"]
    assert found["group"][0] == -1


def test_page_to_stdout(here: Path, invoke: Invoke) -> None:
    save("labels.csv", many(10))
    code, out, err = invoke("report", "labels.csv", "-o", "-", "--thumbnails", "0")
    assert code == 0
    assert out.startswith("<!DOCTYPE html>")
    assert out.endswith("</html>\n")
    assert re.fullmatch(r"dinoclassify: 10 rows, 0 thumbnails \([\d.]+ kB\)\n", err)


def test_rows_from_stdin(here: Path, cli: Cli) -> None:
    save("labels.csv", many(10))
    Path("labels.csv.meta.json").write_text("{}")  # which is not theirs
    done = cli("report", "-", "-o", "page.html", "--thumbnails", "0", "-q", stdin=Path("labels.csv").read_bytes())
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    again = cli("report", "-", "-o", "-", "--thumbnails", "0", stdin=Path("labels.csv").read_bytes())
    assert again.stdout == Path("page.html").read_bytes()
    page = Path("page.html").read_text()
    assert '<h1 dir="auto">rows from stdin</h1>' in page
    assert len(data(page)["name"]) == 10


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("", 2, "name a file that predict wrote, or - for its rows on stdin"),
        ("labels.csv", 2, "name a file with --output"),
        ("labels.csv -o labels.csv", 2, "labels.csv is also an input: choose another name"),
        ("labels.csv -o link.csv", 2, "link.csv is also an input: choose another name"),
        ("labels.csv -o labels.csv.meta.json", 2, "labels.csv.meta.json is also an input"),
        ("labels.csv -o groups.csv --groups groups.csv", 2, "groups.csv is also an input"),
        ("labels.csv -o new.jpg", 2, "new.jpg has the suffix of an image: choose another name"),
        ("labels.csv -o image", 2, "image is also one of the images: choose another name"),
        ("labels.csv -o folder", 6, "cannot write folder: it is a folder; name a file, in it or elsewhere"),
        ("labels.csv -o nowhere/page.html", 6, "nowhere: make it first (mkdir -p)"),
        ("nothing.csv -o page.html", 2, "nothing.csv is not there: "),
        ("image -o page.html", 2, "image is not what predict writes"),
    ],
)
def test_wrong_usage_is_reported_in_one_line(
    here: Path, invoke: Invoke, arguments: str, code: int, message: str
) -> None:
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


def test_page_name_that_is_a_folder(here: Path, invoke: Invoke) -> None:
    save("labels.csv", many(3))
    assert invoke("report", "labels.csv", "-o", "page.html/")[0] == 6
