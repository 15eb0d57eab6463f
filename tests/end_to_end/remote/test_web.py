"""Inputs on the web."""

import os
import time
from pathlib import Path

import pytest

from dinoclassify.results.reader import read_predictions
from tests.helpers.remote_images import Predict, grey_png, jpeg, pack_image, page_urls, parse_table
from tests.helpers.servers import Page, Web, web_server


def test_private_addresses_need_allow_private_urls(site: Web, predict: Predict) -> None:
    urls = (f"{site.url}/1.jpg", f"{site.url}/none.jpg")
    code, out, _ = predict(*urls)
    assert (code, [row["error_code"] for row in parse_table(out)]) == (3, ["unreadable", "unreadable"])
    assert all("--allow-private-urls" in row["error"] for row in parse_table(out))
    assert not site.faults.asked
    code, out, _ = predict(*urls, "--allow-private-urls")
    assert (code, [row["error_code"] for row in parse_table(out)]) == (3, ["", "vanished"])
    assert parse_table(out)[0]["label"]
    assert sorted(site.faults.asked) == ["GET /1.jpg", "GET /none.jpg"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".db"])
def test_a_page_without_time_or_etag_is_read_again(predict: Predict, suffix: str) -> None:
    first, second = grey_png(1), grey_png(200)
    assert len(first) == len(second)
    with web_server({f"/{name}.png": Page(first) for name in "abc"}) as site:
        site.pages["/b.png"].headers["ETag"] = '"1"'
        urls = [f"{site.url}/{name}.png" for name in "aabc"]  # one of them twice
        options = ("--allow-private-urls", "--resume", "-o", f"rows{suffix}")
        assert predict(*urls, *options)[0] == 0
        before = list(read_predictions(f"rows{suffix}"))
        assert [(row.size, row.mtime_ns is None) for row in before] == [
            (len(first), row.path != urls[2]) for row in before
        ]
        site.pages["/a.png"].content = second
        code, _, said = predict(*urls, *options)
        assert (code, "4 images: 4 ok; 1 kept, 3 changed" in said) == (0, True), said
    after = list(read_predictions(f"rows{suffix}"))
    assert [row.path for row in after] == urls
    assert [row.score == old.score for row, old in zip(after, before, strict=True)] == [False, False, True, True]


def test_an_interrupted_update_of_pages_without_time_writes_no_row_twice(
    predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    with web_server({f"/{name}.png": Page(grey_png(1)) for name in "ab"}) as site:
        urls = [f"{site.url}/{name}.png" for name in "ab"]
        options = ("--allow-private-urls", "--resume", "-o", "rows.csv", "--batch-size", "1")
        assert predict(*urls, *options)[0] == 0
        with monkeypatch.context() as patch:
            patch.setattr("dinoclassify.writers.output.Output.finish", lambda *_: 1 / 0)
            assert predict(*urls, *options)[0] == 1
        assert os.path.exists("rows.csv.partial")
        assert predict(*urls, *options)[0] == 0
    assert [row["path"] for row in parse_table(Path("rows.csv").read_text())] == urls


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_members_of_an_archive_without_a_time_are_read_again(predict: Predict, name: str) -> None:
    with web_server({f"/{name}": Page(pack_image(name, grey_png(1)))}) as site:
        arguments = (f"{site.url}/{name}", "--allow-private-urls", "--resume", "-o", "rows.csv")
        assert predict(*arguments)[0] == 0
        [before] = parse_table(Path("rows.csv").read_text())
        site.pages[f"/{name}"].content = pack_image(name, grey_png(200))
        assert predict(*arguments)[0] == 0
    [after] = parse_table(Path("rows.csv").read_text())
    assert (before["size"], before["mtime_ns"]) == (str(len(grey_png(1))), "")
    assert before["score"] != after["score"]


class _Slow(dict[str, Page]):
    """Pages of which one takes a minute."""

    def get(self, path: str, default: Page | None = None) -> Page | None:  # type: ignore[override]
        if path == "/5.jpg":
            time.sleep(60)
        return super().get(path, default)


def test_only_the_slow_page_times_out(predict: Predict) -> None:
    with web_server(_Slow({f"/{number}.jpg": Page(jpeg(number)) for number in range(20)})) as site:
        code, out, _ = predict(*page_urls(site), "--allow-private-urls", "--timeout", "3")
    assert code == 3
    assert [row["error_code"] for row in parse_table(out)] == ["timeout" if number == 5 else "" for number in range(20)]
    assert parse_table(out)[5]["error"] == "took longer than 3 s to read"


def test_a_server_that_hangs_does_not_hang_the_run(site: Web, predict: Predict) -> None:
    site.faults.delay = 240
    started = time.monotonic()
    code, out, _ = predict(*page_urls(site), "--allow-private-urls", "--timeout", "1")
    assert (code, {row["error_code"] for row in parse_table(out)}, len(parse_table(out))) == (3, {"timeout"}, 20)
    assert time.monotonic() - started < 120


@pytest.mark.parametrize("suffix", ["txt", "csv"])
def test_a_list_at_a_private_address_needs_allow_private_urls(site: Web, predict: Predict, suffix: str) -> None:
    site.pages[f"/list.{suffix}"] = Page(b"path\na.jpg\n")
    url = f"{site.url}/list.{suffix}"
    code, _, err = predict("--files-from", url, "--list")
    assert (code, err.count("\n"), "its address is private: --allow-private-urls allows it" in err) == (2, 1, True)
    code, out, _ = predict("--files-from", url, "--list", "--allow-private-urls")
    assert (code, out.split()[-1]) == (0, "a.jpg")
