"""The page of `report`: its figures and columns, and that no name from outside runs on it."""

import base64
import hashlib
import re
from pathlib import Path

import pytest

from dinoclassify.types.prediction import Label, Prediction
from tests.helpers.report_page import HOSTILE, answer, data, made, many


def test_hostile_names_are_only_text(here: Path) -> None:
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
def test_security_policy_allows_only_the_own_style_and_script(here: Path, link: bool) -> None:
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


def test_figures_and_columns_match_the_rows(here: Path) -> None:
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


def test_ten_thousand_rows_take_little_space(here: Path) -> None:
    assert len(made(many(10_000))) < 1_500_000


def test_same_rows_give_the_same_bytes(photos: list[str]) -> None:
    rows = [answer(path, "cat", 0.5) for path in photos]
    assert made(rows, thumbnails=6, link=True) == made(rows, thumbnails=6, link=True)


def test_classes_of_one_name_are_told_apart(here: Path) -> None:
    bird, machine = Label("crane", 134, 0.9), Label("crane", 517, 0.8)
    rows = [Prediction(f"{number}.jpg", "ok", (rank,)) for number, rank in enumerate((bird, bird, machine))]
    found = data(made(rows))
    assert found["labels"] == ["crane (134)", "crane (517)"]
    assert found["label"] == [0, 0, 1]
    assert ("labels", "2") in re.findall(r"<dt>([\w/]+)</dt><dd>([\d,.]+)</dd>", made(rows))


def test_class_without_a_name_is_marked(here: Path) -> None:
    rows = [Prediction("a.jpg", "ok", (Label("", 0, 0.9),)), Prediction("b.jpg", "ok", (Label("cat", 1, 0.9),))]
    assert data(made(rows))["labels"] == ["(no name)", "cat"]
