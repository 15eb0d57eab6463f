"""The command with inputs and outputs that are not on this machine: a real S3 API and a web server, on loopback."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dinoclassify.cli import run
from dinoclassify.discovery.filters import Filters, InputSelector
from dinoclassify.discovery.roots import check_roots
from dinoclassify.results.reader import read_predictions
from tests.conftest import Cli
from tests.helpers.servers import Page, Store, Web, store_server, web_server

Predict = Callable[..., tuple[int, str, str]]
COMMAND = [sys.executable, "-m", "dinoclassify"]
PHOTOS = "GET /bucket/photos/"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, which is home to what outputs leave behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


@pytest.fixture
def store(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with store_server(monkeypatch) as server:
        server.put("nothing", b"")
        yield server


@pytest.fixture
def predict(here: Path, tiny: str, capfd: pytest.CaptureFixture[str]) -> Predict:
    """Run the command in this process: (exit code, stdout, stderr)."""

    def call(*arguments: str) -> tuple[int, str, str]:
        code = run(["predict", "-m", tiny, "-j", "1", *arguments])  # one worker: started before a server is busy
        return (code, *capfd.readouterr())

    return call


def jpeg(number: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (60, 60), (number % 251, number * 7 % 256, 90)).save(content, "JPEG")
    return content.getvalue()


def greys(level: int) -> bytes:
    """An image in as many bytes as that of any other level."""
    content = io.BytesIO()
    Image.new("L", (60, 60), level).save(content, "PNG", compress_level=0)
    return content.getvalue()


def packed(name: str, content: bytes) -> bytes:
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


def fill(store: Store, count: int) -> list[str]:
    """Put images into the store, and into a folder: the names of both."""
    Path("photos").mkdir()
    names = [f"photos/{number:05}.jpg" for number in range(count)]
    for number, name in enumerate(names):
        Path(name).write_bytes(jpeg(number))
        store.put(name, jpeg(number))
    return names


def table(content: str) -> list[dict[str, str]]:
    """The rows of a CSV."""
    return list(csv.DictReader(io.StringIO(content)))


def answers(content: str) -> list[list[str]]:
    """What a CSV says of images, wherever they are: no prefix of the store, no times."""
    return [[row["path"].removeprefix("s3://bucket/"), *list(row.values())[1:-1]] for row in table(content)]


def reads(store: Store) -> list[str]:
    """The images that were asked for since the last call."""
    asked = [line.removeprefix(PHOTOS) for line in store.faults.asked if line.startswith(PHOTOS)]
    store.faults.asked.clear()
    return asked


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2000])
def test_every_object_has_one_row_whatever_happens_to_the_store(
    store: Store, tiny: str, cli: Cli, predict: Predict, count: int
) -> None:
    names = fill(store, count)
    gone = names[count * 2 // 5 : count // 2 : 4]  # of the first page of the listing
    store.faults.share = 0.05

    def disturb() -> None:
        wait_until(lambda: len(store.faults.asked) > count // 10)
        for name in gone:
            store.delete(name)
            os.unlink(name)
        for _ in range(count // 100):
            store.faults.drip = 0.02 - store.faults.drip
            time.sleep(0.2)
        store.faults.drip = 0

    thread = threading.Thread(target=disturb)
    thread.start()
    done = cli("predict", "s3://bucket/photos/", "-m", tiny, "-o", "s3://bucket/labels.parquet", "-q")
    thread.join()
    assert (done.returncode, done.stdout, done.stderr) == (3, b"", b"")
    assert len(store.faults.asked) > count * 1.02
    made = pd.read_parquet(io.BytesIO(store.get("labels.parquet")))
    assert list(made["path"]) == [f"s3://bucket/{name}" for name in names]
    assert list(made["path"][made["error_code"] == "vanished"]) == [f"s3://bucket/{name}" for name in gone]
    Path("list").write_text("\n".join(names))
    assert predict("--files-from", "list", "-o", "local.parquet", "-q") == (3, "", "")
    local = pd.read_parquet("local.parquet")
    same = ["status", "label", "score", "index", "error_code"]
    pd.testing.assert_frame_equal(made[same], local[same])
    left = local["size"].notna()
    assert list(made["size"][left]) == list(local["size"][left])
    meta = json.loads(store.get("labels.parquet.meta.json"))
    assert meta["counts"] == {"ok": count - len(gone), "uncertain": 0, "failed": len(gone)}


def test_resumed_only_what_has_changed_is_read(store: Store, predict: Predict) -> None:
    names = fill(store, 30)
    common = ("s3://bucket/photos/", "-o", "s3://bucket/out.csv", "--resume", "-q")
    assert predict(*common) == (0, "", "")
    first = store.get("out.csv").decode()
    assert answers(first) == [[name, *answer[1:]] for name, answer in zip(names, answers(first), strict=True)]
    assert len(reads(store)) == 30
    assert predict(*common) == (0, "", "")
    assert (reads(store), store.get("out.csv").decode()) == ([], first)
    store.put(names[7], jpeg(200))
    assert predict(*common) == (0, "", "")
    assert reads(store) == ["00007.jpg"]
    second = store.get("out.csv").decode()
    assert [one["path"] for one, other in zip(table(first), table(second), strict=True) if one != other] == [
        "s3://bucket/photos/00007.jpg"
    ]
    store.delete(names[3])
    assert predict(*common, "--prune") == (0, "", "")
    assert table(store.get("out.csv").decode()) == [row for row in table(second) if "00003" not in row["path"]]
    assert reads(store) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_a_run_that_was_killed_goes_on_with_its_rows_on_this_machine(
    store: Store, here: Path, tiny: str, predict: Predict, name: str
) -> None:
    names = fill(store, 300)
    common = ("s3://bucket/photos/", "-q", "--batch-size", "8", "--resume", "-o")
    killed = [*COMMAND, "predict", "-m", tiny, *common, f"s3://bucket/{name}"]
    with subprocess.Popen(killed, stderr=subprocess.DEVNULL) as process:  # Python says what spawned processes leave
        wait_until(lambda: len(store.faults.asked) > 150)
        process.kill()
    assert set(store.keys()) == {"nothing", *names}
    (partial,) = here.glob(f"state/dinoclassify/outputs/*-{name}.partial")
    written = partial.read_bytes().count(b".jpg")
    assert written > 50
    wait_until(lambda: not any("process_request_thread" in thread.name for thread in threading.enumerate()))
    reads(store)  # also those of workers that were still asking when the run was killed
    assert predict(*common, f"s3://bucket/{name}") == (0, "", "")
    kept = written // 8 * 8  # whole batches
    assert sorted(reads(store)) == [Path(left).name for left in names[kept:]]
    assert not list(partial.parent.iterdir())
    assert predict(*common, f"s3://bucket/whole-{name}") == (0, "", "")
    found, whole = (list(read_predictions(f"s3://bucket/{one}")) for one in (name, f"whole-{name}"))
    assert found == whole
    assert name.endswith(".parquet") or store.get(name) == store.get(f"whole-{name}")  # a table has the time in it


def test_a_folder_in_the_store_appears_with_its_manifest(
    store: Store, predict: Predict, capfd: pytest.CaptureFixture[str]
) -> None:
    names = fill(store, 30)
    common = ("s3://bucket/photos/", "-o", "s3://bucket/labels/", "-q")
    assert predict(*common) == (0, "", "")
    changes = [line for line in store.faults.asked if line.startswith(("PUT", "POST")) and "/labels/" in line]
    assert re.fullmatch(
        r"PUT /bucket/labels/part-00000-\w+\.parquet PUT /bucket/labels/_manifest\.json", " ".join(changes)
    )
    reads(store)
    assert predict(*common, "--resume") == (0, "", "")
    assert reads(store) == []
    store.put(names[7], jpeg(200))
    assert predict(*common, "--resume") == (0, "", "")
    assert reads(store) == ["00007.jpg"]
    assert run(["merge", "s3://bucket/labels/", "-o", "s3://bucket/merged.csv", "-q"]) == 0
    assert predict("s3://bucket/photos/", "-o", "s3://bucket/whole.csv", "-q") == (0, "", "")
    assert store.get("merged.csv") == store.get("whole.csv")
    capfd.readouterr()
    assert run(["report", "s3://bucket/labels/", "-o", "page.html"]) == 0
    assert "30 rows, " in capfd.readouterr().err
    left = [re.sub(r"-\w+\.parquet", "", key) for key in sorted(store.keys()) if key.startswith("labels")]
    assert left == ["labels/_manifest.json", "labels/part-00000"]


@pytest.mark.parametrize(
    "pattern", ["s3://bucket/photos/**/*.jpg", "s3://bucket/photos/0000[0-9].jpg", "s3://bucket/photos"]
)
def test_a_glob_or_prefix_is_what_matches(store: Store, predict: Predict, pattern: str) -> None:
    fill(store, 10)
    store.put("photos/notes.txt", b"text")
    store.put("photos-of-others/1.jpg", jpeg(1))
    code, out, _ = predict(pattern)
    assert code == 0
    assert answers(out) == answers(predict("photos")[1])


def test_lists_of_urls(store: Store, here: Path, predict: Predict, stdin: Callable[[bytes], None]) -> None:
    names = [*fill(store, 6), "photos/none.jpg"]
    Path("list").write_text("\n".join(f"s3://bucket/{name}" for name in names))
    Path("local").write_text("\n".join(names))
    code, out, _ = predict("--files-from", "list")
    assert code == 3
    assert [row[:5] for row in answers(out)] == [row[:5] for row in answers(predict("--files-from", "local")[1])]
    stdin(Path("list").read_bytes())
    code, piped, _ = predict("-")
    assert code == 3
    assert [row[:3] for row in answers(piped)] == [row[:3] for row in answers(out)]
    common = ("--files-from", "list", "-o", "out.csv", "-q", "--resume")
    assert predict(*common) == (3, "", "")
    reads(store)
    assert predict(*common) == (3, "", "")
    assert reads(store) == []
    store.put(names[2], jpeg(100))
    store.put(names[6], jpeg(101))
    assert predict(*common) == (0, "", "")
    assert sorted(reads(store)) == ["00002.jpg", "none.jpg"]


def archive(name: str, images: dict[str, bytes]) -> bytes:
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


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", pytest.param("a.tar", marks=pytest.mark.slow)])
def test_an_archive_in_the_store(store: Store, predict: Predict, name: str) -> None:
    content = archive(name, {f"x/{number}.jpg": jpeg(number) for number in range(12)} | {"x/bad.jpg": b"bad"})
    store.put(name, content)
    Path(name).write_bytes(content)
    code, out, _ = predict(f"s3://bucket/{name}", "--errors-to", "failed")
    assert code == 3
    assert answers(out) == answers(predict(name)[1])
    Path("list").write_text("\n".join(row["path"] for row in table(out)))
    assert predict("--files-from", "list")[1] == out
    assert Path("failed").read_text() == f"s3://bucket/{name}!x/bad.jpg\n"
    store.put(name, archive(name, {"x/bad.jpg": jpeg(0)}))
    code, again, _ = predict("--files-from", "failed")
    assert (code, [row[0] for row in answers(again)]) == (0, [f"{name}!x/bad.jpg"])


def test_a_table_of_images_in_the_store(store: Store, predict: Predict) -> None:
    images = [{"bytes": jpeg(number), "path": None} for number in range(10)]
    pq.write_table(pa.table({"image": images}), "a.parquet")
    store.put("data/a.parquet", Path("a.parquet").read_bytes())
    code, out, _ = predict("s3://bucket/data/", "--column", "image")
    assert code == 0
    expected = [[f"data/{row[0]}", *row[1:]] for row in answers(predict("a.parquet", "--column", "image")[1])]
    assert answers(out) == expected


def pages(site: Web) -> list[str]:
    return [f"{site.url}/{number}.jpg" for number in range(20)]


@pytest.fixture
def site() -> Iterator[Web]:
    with web_server({f"/{number}.jpg": Page(jpeg(number)) for number in range(20)}) as server:
        yield server


def test_private_web_addresses_are_for_those_who_ask(site: Web, predict: Predict) -> None:
    urls = (f"{site.url}/1.jpg", f"{site.url}/none.jpg")
    code, out, _ = predict(*urls)
    assert (code, [row["error_code"] for row in table(out)]) == (3, ["unreadable", "unreadable"])
    assert all("--allow-private-urls" in row["error"] for row in table(out))
    assert not site.faults.asked
    code, out, _ = predict(*urls, "--allow-private-urls")
    assert (code, [row["error_code"] for row in table(out)]) == (3, ["", "vanished"])
    assert table(out)[0]["label"]
    assert sorted(site.faults.asked) == ["GET /1.jpg", "GET /none.jpg"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".db"])
def test_what_has_neither_time_nor_tag_is_asked_for_again(predict: Predict, suffix: str) -> None:
    first, second = greys(1), greys(200)
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


def test_an_interrupted_update_of_what_has_no_time_makes_no_row_twice(
    predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    with web_server({f"/{name}.png": Page(greys(1)) for name in "ab"}) as site:
        urls = [f"{site.url}/{name}.png" for name in "ab"]
        options = ("--allow-private-urls", "--resume", "-o", "rows.csv", "--batch-size", "1")
        assert predict(*urls, *options)[0] == 0
        with monkeypatch.context() as patch:
            patch.setattr("dinoclassify.writers.output.Output.finish", lambda *_: 1 / 0)
            assert predict(*urls, *options)[0] == 1
        assert os.path.exists("rows.csv.partial")
        assert predict(*urls, *options)[0] == 0
    assert [row["path"] for row in table(Path("rows.csv").read_text())] == urls


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_members_of_an_archive_without_a_time_are_read_again(predict: Predict, name: str) -> None:
    with web_server({f"/{name}": Page(packed(name, greys(1)))}) as site:
        arguments = (f"{site.url}/{name}", "--allow-private-urls", "--resume", "-o", "rows.csv")
        assert predict(*arguments)[0] == 0
        [before] = table(Path("rows.csv").read_text())
        site.pages[f"/{name}"].content = packed(name, greys(200))
        assert predict(*arguments)[0] == 0
    [after] = table(Path("rows.csv").read_text())
    assert (before["size"], before["mtime_ns"]) == (str(len(greys(1))), "")
    assert before["score"] != after["score"]


class _Slow(dict[str, Page]):
    """Pages of which one takes its time."""

    def get(self, path: str, default: Page | None = None) -> Page | None:  # type: ignore[override]
        if path == "/5.jpg":
            time.sleep(60)
        return super().get(path, default)


def test_a_page_that_takes_too_long_costs_no_other(predict: Predict) -> None:
    with web_server(_Slow({f"/{number}.jpg": Page(jpeg(number)) for number in range(20)})) as site:
        code, out, _ = predict(*pages(site), "--allow-private-urls", "--timeout", "6")
    assert code == 3
    assert [row["error_code"] for row in table(out)] == ["timeout" if number == 5 else "" for number in range(20)]
    assert table(out)[5]["error"] == "took longer than 6 s to read"


def test_a_server_that_hangs_does_not_hang_the_run(site: Web, predict: Predict) -> None:
    site.faults.delay = 240
    started = time.monotonic()
    code, out, _ = predict(*pages(site), "--allow-private-urls", "--timeout", "1")
    assert (code, {row["error_code"] for row in table(out)}, len(table(out))) == (3, {"timeout"}, 20)
    assert time.monotonic() - started < 120


@pytest.mark.parametrize(
    ("url", "status", "code", "message"),
    [
        ("s3://nowhere/1.jpg", "", "vanished", "The specified bucket does not exist"),
        ("s3://bucket/none.jpg", "", "vanished", "The specified key does not exist"),
        ("s3://bucket/photos/00000.jpg", "403 Forbidden", "unreadable", "Forbidden"),
    ],
)
def test_what_is_named_and_cannot_be_had_is_a_row(
    store: Store, predict: Predict, url: str, status: str, code: str, message: str
) -> None:
    fill(store, 1)
    if status:
        store.faults.status, store.faults.share = status, 1.0
    exit_code, out, err = predict("photos", url, "-q")
    assert (exit_code, err) == (3, "")
    good, bad = table(out)
    assert (good["path"], bad["path"], bad["error_code"]) == ("photos/00000.jpg", url, code)
    assert message in bad["error"]


@pytest.mark.parametrize(
    ("url", "status", "message"),
    [
        ("s3://nowhere/photos/", "", "cannot be listed (The specified bucket does not exist): check its name"),
        ("s3://nowhere/*.jpg", "", "cannot be listed (The specified bucket does not exist): check its name"),
        ("s3://bucket/none/", "", "there is nothing at s3://bucket/none/: check its name"),
        ("s3://bucket/none", "", "there is nothing at s3://bucket/none: check its name"),
        ("s3://bucket/*.gif", "", "nothing matches s3://bucket/*.gif: check the pattern"),
        ("s3://bucket/photos/", "403 Forbidden", "cannot be listed (403 Forbidden): check its name and your access"),
        ("s3://bucket/photos", "403 Forbidden", "cannot be listed (Forbidden): check its name and your access"),
    ],
)
def test_a_prefix_that_is_away_ends_the_run_before_the_output_is_touched(
    store: Store, predict: Predict, url: str, status: str, message: str
) -> None:
    fill(store, 1)
    assert predict("s3://bucket/photos/", "-o", "labels.csv", "-q")[0] == 0
    before = Path("labels.csv").read_bytes()
    if status:
        store.faults.status, store.faults.share = status, 1.0
    for more in ([], ["--resume", "--prune"]):
        code, out, err = predict("photos", url, "-o", "labels.csv", *more)
        assert (code, out, err.count("\n")) == (4, "", 1)
        assert message in err
        assert Path("labels.csv").read_bytes() == before


@pytest.mark.parametrize("suffix", ["txt", "csv", "parquet"])
def test_a_list_may_be_an_object(store: Store, predict: Predict, suffix: str) -> None:
    names = fill(store, 3)
    local = pd.DataFrame({"path": names})
    if suffix == "parquet":
        local.to_parquet("list")
    else:
        local.to_csv("list", index=False, header=suffix == "csv")
    store.put(f"list.{suffix}", Path("list").read_bytes())
    code, out, _ = predict("--files-from", f"s3://bucket/list.{suffix}", "--list")
    assert (code, out.split()) == (0, names)
    code, _, err = predict("--files-from", f"s3://bucket/none.{suffix}", "--list")
    assert (code, err) == (
        2,
        f"dinoclassify: cannot read the list s3://bucket/none.{suffix}: there is no such object\n",
    )


@pytest.mark.parametrize("suffix", ["txt", "csv"])
def test_a_list_on_the_web_is_bound_by_its_rules(site: Web, predict: Predict, suffix: str) -> None:
    site.pages[f"/list.{suffix}"] = Page(b"path\na.jpg\n")
    url = f"{site.url}/list.{suffix}"
    code, _, err = predict("--files-from", url, "--list")
    assert (code, err.count("\n"), "its address is private: --allow-private-urls allows it" in err) == (2, 1, True)
    code, out, _ = predict("--files-from", url, "--list", "--allow-private-urls")
    assert (code, out.split()[-1]) == (0, "a.jpg")


def test_a_prefix_is_checked_with_one_page_and_an_object_with_none(store: Store, predict: Predict) -> None:
    fill(store, 1)
    check_roots(
        ["s3://bucket/photos/00000.jpg", "https://example.org/x/", "s3://bucket/x.tar"], InputSelector(Filters())
    )
    assert store.faults.asked == []
    check_roots(["s3://bucket/photos/"], InputSelector(Filters()))
    assert len(store.faults.asked) == 1


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("s3://nowhere/out.csv", "s3://nowhere/out.csv: there is no bucket nowhere"),
        ("s3://nowhere/labels/", "s3://nowhere/labels.partial: The specified bucket does not exist"),
    ],
)
def test_an_output_without_a_bucket_is_said_before_the_work(
    store: Store, predict: Predict, output: str, said: str
) -> None:
    fill(store, 1)
    code, out, err = predict("s3://bucket/photos/", "-o", output)
    assert (code, out, err) == (6, "", f"dinoclassify: cannot write {said}\n")
    assert reads(store) == []


@pytest.mark.parametrize("output", ["s3://bucket", "s3://"])
def test_a_bucket_is_no_output(store: Store, predict: Predict, output: str) -> None:
    fill(store, 1)
    code, _, err = predict("photos", "-o", output)
    assert (code != 0, err.count("\n"), err.startswith(f"dinoclassify: {output} ")) == (True, 1, True), err


@pytest.mark.parametrize("output", ["s3://bucket/out.csv", "s3://bucket/labels/"])
def test_without_credentials(store: Store, predict: Predict, monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    fill(store, 1)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    code, out, err = predict("s3://bucket/photos/", "-q")
    assert (code, out) == (4, "")
    assert "s3://bucket/photos/ cannot be listed (Unable to locate credentials): check its name and your access" in err
    code, out, err = predict("photos", "-o", output)
    assert (code in (2, 6), out, err.count("\n")) == (True, "", 1)
    assert "Unable to locate credentials" in err


def test_an_output_that_is_refused_in_the_end_stays_on_this_machine(store: Store, predict: Predict) -> None:
    fill(store, 3)
    store.faults.only, store.faults.status, store.faults.share = "PUT", "403 Forbidden", 1.0
    code, _, err = predict("s3://bucket/photos/", "-o", "s3://bucket/out.csv", "-q")
    match = re.fullmatch(r"dinoclassify: cannot write s3://bucket/out.csv: .*; the rows are in (.*), .*\n", err)
    assert code == 6
    assert match is not None, err
    kept = Path(match[1]).read_bytes()
    assert len(reads(store)) == kept.count(b".jpg") == 3
    store.faults.share = 0
    assert predict("s3://bucket/photos/", "-o", "s3://bucket/out.csv", "-q", "--resume") == (0, "", "")
    assert (reads(store), store.get("out.csv")) == ([], kept)


@pytest.mark.parametrize("silent", ["list-type", pytest.param(".jpg", marks=pytest.mark.slow)])
def test_a_signal_ends_a_run_that_waits_for_a_store(store: Store, tiny: str, silent: str) -> None:
    fill(store, 3)
    real = store.faults

    class Silent(list[str]):
        def append(self, line: str) -> None:
            super().append(line)
            real.delay = 240 if silent in line else 0

    real.asked = Silent()
    command = [*COMMAND, "predict", "s3://bucket/photos/", "-m", tiny, "-o", "out.csv"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: any(silent in line for line in store.faults.asked))
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        started = time.monotonic()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - started < 40
    assert "Traceback" not in err
    assert "stopped by SIGINT" in err
    assert not Path("out.csv").exists()


def test_what_the_other_commands_say_of_images_elsewhere(
    store: Store, predict: Predict, capfd: pytest.CaptureFixture[str]
) -> None:
    names = fill(store, 2)
    Path("a.zip").write_bytes(archive("a.zip", {"x.jpg": jpeg(1)}))
    assert predict("s3://bucket/photos/", "a.zip", *names, "-o", "out.csv", "-q") == (0, "", "")
    elsewhere = ["s3://bucket/photos/00000.jpg", "s3://bucket/photos/00001.jpg", "a.zip!x.jpg"]
    for command in (["sort", "out.csv", "--into", "sorted"], ["tag", "out.csv"]):
        assert run(command) == 3
        *said, _summary = capfd.readouterr().err.splitlines()
        assert [line.split(" is no file of its own")[0] for line in said] == [
            f"dinoclassify: {path}" for path in elsewhere
        ]
    assert len(list(Path("sorted").rglob("*.jpg"))) == 2
    assert len(list(Path().rglob("*.xmp"))) == 2
    assert run(["report", "out.csv", "-o", "page.html"]) == 0
    assert "3 of 5 thumbnails are missing" in capfd.readouterr().err
