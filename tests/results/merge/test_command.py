"""The command `merge`: what it says and writes over, outputs in a store, and runs that resume with a merged file."""

import json
import os
import shutil
from pathlib import Path

import pytest

from dinoclassify import cli
from dinoclassify.discovery.filters import Shard
from dinoclassify.results.merge.merge import merge
from dinoclassify.results.reader import read_meta, read_predictions
from dinoclassify.storage.lock import locked
from dinoclassify.types.prediction import Failure, Prediction
from dinoclassify.writers.staging import stage_of
from tests.conftest import PHOTOS
from tests.helpers.invoke import Invoke
from tests.helpers.parts import TWENTY, why_not, write, write_part, write_shard, write_shards
from tests.helpers.servers import store_server

MORE = ["out.parquet", "out.db"]


def test_unfinished_run_of_the_output_is_kept(here: Path) -> None:
    parts = write_shards(here, TWENTY, 2)
    Path("out.jsonl.partial").write_text("")
    assert "out.jsonl.partial is from an unfinished run: finish it with" in why_not(*parts)


@pytest.mark.parametrize(
    ("left", "message"),
    [
        (".partial", "out.jsonl.partial is from an unfinished run: finish it with predict --resume"),
        ("", "is finished, but not sent to s3://bucket/out.jsonl: the command that made it sends it with --resume"),
    ],
)
def test_rows_waiting_to_be_uploaded_are_kept(
    here: Path, run_merge: Invoke, monkeypatch: pytest.MonkeyPatch, left: str, message: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", os.path.abspath("state"))
    with store_server(monkeypatch) as store:
        store.put("others", b"")
        waiting = write_part(Path(stage_of("s3://bucket/out.jsonl") + left), TWENTY)
        before = waiting.read_bytes()
        code, _, stderr = run_merge(*write_shards(here, TWENTY, 2), "-o", "s3://bucket/out.jsonl")
        assert code == 2
        assert message in stderr
        assert waiting.read_bytes() == before
        assert store.keys() == ["others"]


def test_merge_can_be_repeated_after_a_failed_upload(
    here: Path, run_merge: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", os.path.abspath("state"))
    parts = write_shards(here, TWENTY, 2)
    with store_server(monkeypatch) as store:
        store.put("others", b"")
        store.faults.only, store.faults.status, store.faults.share = "PUT", "403 Forbidden", 1.0
        code, _, stderr = run_merge(*parts, "-o", "s3://bucket/out.jsonl")
        assert code == 6, stderr
        store.faults.share = 0.0
        assert run_merge(*parts, "-o", "s3://bucket/out.jsonl")[0] == 0
        assert store.get("out.jsonl").count(b"\n") == 20


def test_command_reports_what_it_did(here: Path, run_merge: Invoke) -> None:
    rows = [*TWENTY, Prediction("bad", "failed", failure=Failure("truncated", "short"))]
    parts = write_shards(here, rows, 3)
    said = "dinoclassify: 21 images: 20 ok, 1 failed (1 truncated) of 3 parts"
    assert run_merge(*parts, "-o", "out.csv") == (0, "", f"{said} -> out.csv\n")
    write(Path("whole.csv"), rows, "csv")
    assert Path("out.csv").read_bytes() == Path("whole.csv").read_bytes()
    assert run_merge("part-*.jsonl", "-o", "again.csv", "-q") == (0, "", "")
    write(Path("whole.jsonl"), rows)
    assert run_merge(*parts, "-f", "jsonl") == (0, Path("whole.jsonl").read_text(), f"{said}\n")
    assert run_merge(*parts, "-o", "safe.csv", "--excel-safe", "-q") == (0, "", "")
    assert json.loads(Path("safe.csv.meta.json").read_text())["made_with"]["format"] == "excel"


def test_command_reports_what_is_wrong(here: Path, run_merge: Invoke) -> None:
    parts = write_shards(here, TWENTY, 3)
    cure = "See: dinoclassify merge --help"
    assert run_merge("-o", "out.csv") == (2, "", f"dinoclassify: name the parts: files that predict wrote. {cure}\n")
    assert run_merge(*parts[:2], "-o", "out.csv")[0] == 2
    code, _, stderr = run_merge(*parts[:2], "-o", "out.csv", "--allow-gaps")
    assert (code, stderr.splitlines()[0]) == (0, "dinoclassify: part 3 of 3 is missing")
    with locked("out.csv", wait=False):
        assert run_merge(*parts, "-o", "out.csv")[0] == 11
    assert run_merge(*parts, "-o", "no/out.csv")[0] == 6
    assert run_merge(*parts, "-o", "out.jpg")[0] == 2
    code, _, stderr = run_merge(parts[0], parts[0], *parts[1:], "-o", "out.csv", "--allow-duplicates")
    assert (code, stderr.splitlines()[-1]) == (0, "dinoclassify: 20 images: 20 ok of 4 parts -> out.csv")


def test_parts_are_never_overwritten(here: Path, run_merge: Invoke) -> None:
    parts = write_shards(here, TWENTY, 2)
    os.symlink(f"{parts[1]}.meta.json", "link")
    before = {name: Path(name).read_bytes() for name in os.listdir()}
    for output in (parts[0], "link"):
        code, _, stderr = run_merge(*parts, "-o", output, "-f", "jsonl")
        assert (code, stderr) == (2, f"dinoclassify: {output} is also one of the parts: choose another name\n")
    for output in (f"{parts[1]}.meta.json", f"./{parts[1]}.partial"):
        assert run_merge(*parts, "-o", output, "-f", "jsonl")[0] == 2
    code, _, stderr = run_merge(".", "-o", "out.jsonl")
    assert (code, stderr) == (2, "dinoclassify: out.jsonl would be one of the parts in .: choose another folder\n")
    assert {name: Path(name).read_bytes() for name in os.listdir()} == before


def test_parts_and_output_in_an_object_store(here: Path, run_merge: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    with store_server(monkeypatch) as store:
        for name in write_shards(here, TWENTY, 2):
            for file in (name, f"{name}.meta.json"):
                store.put(f"parts/{file}", Path(file).read_bytes())
        urls = [f"s3://bucket/parts/part-0{index}.jsonl" for index in (1, 2)]
        code, _, stderr = run_merge(*urls, "-o", "s3://bucket/out.jsonl")
        assert (code, stderr) == (0, "dinoclassify: 20 images: 20 ok of 2 parts -> s3://bucket/out.jsonl\n")
        write(Path("whole.jsonl"), TWENTY)
        assert store.get("out.jsonl") == Path("whole.jsonl").read_bytes()
        assert json.loads(store.get("out.jsonl.meta.json"))["merged_from"] == urls


@pytest.mark.parametrize("name", ["out.jsonl", *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)])
def test_predict_resumes_with_a_merged_file(
    here: Path, tiny: str, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    shutil.copytree(PHOTOS, "photos")
    arguments = ["predict", "photos", "-m", tiny, "-k", "2"]
    assert cli.run([*arguments, "-o", "whole.csv", "-q"]) == 0
    rows, meta = list(read_predictions("whole.csv")), read_meta("whole.csv")
    parts = [str(write_shard(here, rows, Shard(index, 3), "csv", **meta["made_with"])) for index in (1, 2, 3)]
    made = {".jsonl": "jsonl", ".parquet": "parquet", ".db": "sqlite"}[Path(name).suffix]
    merge(parts, name, made)
    before = Path(name).read_bytes()
    capfd.readouterr()
    assert cli.run([*arguments, "-o", name, "--resume"]) == 0
    assert "5 images: 5 ok; 5 kept" in capfd.readouterr().err
    assert Path(name).read_bytes() == before
    shutil.copy("photos/coffee.jpg", "photos/more.jpg")
    assert cli.run([*arguments, "-o", name, "--resume"]) == 0
    assert "6 images: 6 ok; 5 kept, 1 new" in capfd.readouterr().err
    assert cli.run([*arguments, "-o", name, "--resume", "--threshold", "0.5"]) == 2


def test_merged_shards_of_predict_equal_a_single_run(here: Path, tiny: str) -> None:
    shutil.copytree(PHOTOS, "photos")
    arguments = ["predict", "photos", "photos/coffee.jpg", "-m", tiny, "-q", "--batch-size", "1"]
    parts = ["part-1.csv", "part-2.csv"]
    for name in ("aaa.jpg", "zzz.jpg"):
        assert cli.run([*arguments, "-o", "whole.csv"]) == 0
        for index, part in enumerate(parts, start=1):
            assert cli.run([*arguments, "-o", part, "--shard", f"{index}/2", "--resume"]) == 0
        merge(parts, "out.csv", "csv")
        assert Path("out.csv").read_bytes() == Path("whole.csv").read_bytes()
        shutil.copy("photos/coffee.jpg", f"photos/{name}")
    os.unlink("photos/chelsea.jpg")
    assert cli.run([*arguments, "-o", "whole.csv", "--resume"]) == 0
    for index, part in enumerate(parts, start=1):
        assert cli.run([*arguments, "-o", part, "--shard", f"{index}/2", "--resume"]) == 0
    merge(parts, "out.csv", "csv")
    assert Path("out.csv").read_bytes() == Path("whole.csv").read_bytes()
    assert Path("out.csv").read_text().splitlines()[1].startswith("photos/chelsea.jpg,"), "gone, and kept"
