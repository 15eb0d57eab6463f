"""Inputs and outputs in an object store."""

import io
import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dinoclassify.cli import run
from dinoclassify.results.reader import read_predictions
from tests.conftest import Cli
from tests.helpers.prepared import Program
from tests.helpers.remote_images import (
    COMMAND,
    Predict,
    fill_store,
    images_read,
    jpeg,
    pack_images,
    parse_table,
    rows_without_times,
    wait_until,
)
from tests.helpers.servers import Store


@pytest.mark.slow
@pytest.mark.parametrize("count", [2000])
def test_every_object_has_one_row_whatever_happens_to_the_store(
    store: Store, tiny: str, cli: Cli, predict: Predict, count: int
) -> None:
    names = fill_store(store, count)
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


def test_a_resumed_run_reads_only_changed_objects(store: Store, predict: Predict) -> None:
    names = fill_store(store, 30)
    common = ("s3://bucket/photos/", "-o", "s3://bucket/out.csv", "--resume", "-q")
    assert predict(*common) == (0, "", "")
    first = store.get("out.csv").decode()
    assert rows_without_times(first) == [
        [name, *answer[1:]] for name, answer in zip(names, rows_without_times(first), strict=True)
    ]
    assert len(images_read(store)) == 30
    assert predict(*common) == (0, "", "")
    assert (images_read(store), store.get("out.csv").decode()) == ([], first)
    store.put(names[7], jpeg(200))
    assert predict(*common) == (0, "", "")
    assert images_read(store) == ["00007.jpg"]
    second = store.get("out.csv").decode()
    assert [
        one["path"] for one, other in zip(parse_table(first), parse_table(second), strict=True) if one != other
    ] == ["s3://bucket/photos/00007.jpg"]
    store.delete(names[3])
    assert predict(*common, "--prune") == (0, "", "")
    assert parse_table(store.get("out.csv").decode()) == [
        row for row in parse_table(second) if "00003" not in row["path"]
    ]
    assert images_read(store) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_a_killed_run_resumes_from_the_rows_on_this_machine(
    store: Store, here: Path, tiny: str, predict: Predict, name: str
) -> None:
    names = fill_store(store, 300)
    common = ("s3://bucket/photos/", "-q", "--batch-size", "8", "--resume", "-o")
    killed = [*COMMAND, "predict", "-m", tiny, *common, f"s3://bucket/{name}"]
    with Program(killed, stderr=subprocess.DEVNULL) as process:  # Python says what spawned processes leave
        wait_until(lambda: len(store.faults.asked) > 150)
        process.kill()
    assert set(store.keys()) == {"nothing", *names}
    (partial,) = here.glob(f"state/dinoclassify/outputs/*-{name}.partial")
    written = partial.read_bytes().count(b".jpg")
    assert written > 50
    wait_until(lambda: not any("process_request_thread" in thread.name for thread in threading.enumerate()))
    images_read(store)  # also those of workers that were still asking when the run was killed
    assert predict(*common, f"s3://bucket/{name}") == (0, "", "")
    kept = written // 8 * 8  # whole batches
    assert sorted(images_read(store)) == [Path(left).name for left in names[kept:]]
    assert not list(partial.parent.iterdir())
    assert predict(*common, f"s3://bucket/whole-{name}") == (0, "", "")
    found, whole = (list(read_predictions(f"s3://bucket/{one}")) for one in (name, f"whole-{name}"))
    assert found == whole
    assert name.endswith(".parquet") or store.get(name) == store.get(f"whole-{name}")  # a table has the time in it


def test_a_folder_in_the_store_appears_with_its_manifest(
    store: Store, predict: Predict, capfd: pytest.CaptureFixture[str]
) -> None:
    names = fill_store(store, 30)
    common = ("s3://bucket/photos/", "-o", "s3://bucket/labels/", "-q")
    assert predict(*common) == (0, "", "")
    changes = [line for line in store.faults.asked if line.startswith(("PUT", "POST")) and "/labels/" in line]
    assert re.fullmatch(
        r"PUT /bucket/labels/part-00000-\w+\.parquet PUT /bucket/labels/_manifest\.json", " ".join(changes)
    )
    images_read(store)
    assert predict(*common, "--resume") == (0, "", "")
    assert images_read(store) == []
    store.put(names[7], jpeg(200))
    assert predict(*common, "--resume") == (0, "", "")
    assert images_read(store) == ["00007.jpg"]
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
def test_a_glob_or_prefix_finds_the_objects_that_match(store: Store, predict: Predict, pattern: str) -> None:
    fill_store(store, 10)
    store.put("photos/notes.txt", b"text")
    store.put("photos-of-others/1.jpg", jpeg(1))
    code, out, _ = predict(pattern)
    assert code == 0
    assert rows_without_times(out) == rows_without_times(predict("photos")[1])


def test_lists_may_name_urls(store: Store, here: Path, predict: Predict, stdin: Callable[[bytes], None]) -> None:
    names = [*fill_store(store, 6), "photos/none.jpg"]
    Path("list").write_text("\n".join(f"s3://bucket/{name}" for name in names))
    Path("local").write_text("\n".join(names))
    code, out, _ = predict("--files-from", "list")
    assert code == 3
    assert [row[:5] for row in rows_without_times(out)] == [
        row[:5] for row in rows_without_times(predict("--files-from", "local")[1])
    ]
    stdin(Path("list").read_bytes())
    code, piped, _ = predict("-")
    assert code == 3
    assert [row[:3] for row in rows_without_times(piped)] == [row[:3] for row in rows_without_times(out)]
    common = ("--files-from", "list", "-o", "out.csv", "-q", "--resume")
    assert predict(*common) == (3, "", "")
    images_read(store)
    assert predict(*common) == (3, "", "")
    assert images_read(store) == []
    store.put(names[2], jpeg(100))
    store.put(names[6], jpeg(101))
    assert predict(*common) == (0, "", "")
    assert sorted(images_read(store)) == ["00002.jpg", "none.jpg"]


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", pytest.param("a.tar", marks=pytest.mark.slow)])
def test_an_archive_in_the_store(store: Store, predict: Predict, name: str) -> None:
    content = pack_images(name, {f"x/{number}.jpg": jpeg(number) for number in range(12)} | {"x/bad.jpg": b"bad"})
    store.put(name, content)
    Path(name).write_bytes(content)
    code, out, _ = predict(f"s3://bucket/{name}", "--errors-to", "failed")
    assert code == 3
    assert rows_without_times(out) == rows_without_times(predict(name)[1])
    Path("list").write_text("\n".join(row["path"] for row in parse_table(out)))
    assert predict("--files-from", "list")[1] == out
    assert Path("failed").read_text() == f"s3://bucket/{name}!x/bad.jpg\n"
    store.put(name, pack_images(name, {"x/bad.jpg": jpeg(0)}))
    code, again, _ = predict("--files-from", "failed")
    assert (code, [row[0] for row in rows_without_times(again)]) == (0, [f"{name}!x/bad.jpg"])


def test_a_table_of_images_in_the_store(store: Store, predict: Predict) -> None:
    images = [{"bytes": jpeg(number), "path": None} for number in range(10)]
    pq.write_table(pa.table({"image": images}), "a.parquet")
    store.put("data/a.parquet", Path("a.parquet").read_bytes())
    code, out, _ = predict("s3://bucket/data/", "--column", "image")
    assert code == 0
    expected = [
        [f"data/{row[0]}", *row[1:]] for row in rows_without_times(predict("a.parquet", "--column", "image")[1])
    ]
    assert rows_without_times(out) == expected


@pytest.mark.parametrize("suffix", ["txt", "csv", "parquet"])
def test_a_list_may_be_an_object(store: Store, predict: Predict, suffix: str) -> None:
    names = fill_store(store, 3)
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


def test_sort_and_tag_skip_images_that_are_no_local_files(
    store: Store, predict: Predict, capfd: pytest.CaptureFixture[str]
) -> None:
    names = fill_store(store, 2)
    Path("a.zip").write_bytes(pack_images("a.zip", {"x.jpg": jpeg(1)}))
    assert predict("s3://bucket/photos/", "a.zip", *names, "-o", "out.csv", "-q") == (0, "", "")
    elsewhere = ["s3://bucket/photos/00000.jpg", "s3://bucket/photos/00001.jpg", "a.zip!x.jpg"]
    for command in (["sort", "out.csv", "--into", "sorted"], ["tag", "out.csv"]):
        assert run(command) == 3
        *said, _summary = capfd.readouterr().err.splitlines()
        assert [line.split(" is not a separate file")[0] for line in said] == [
            f"dinoclassify: {path}" for path in elsewhere
        ]
    assert len(list(Path("sorted").rglob("*.jpg"))) == 2
    assert len(list(Path().rglob("*.xmp"))) == 2
    assert run(["report", "out.csv", "-o", "page.html"]) == 0
    assert "3 of 5 thumbnails are missing" in capfd.readouterr().err
