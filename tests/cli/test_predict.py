"""The command `predict`: its rows, options and output files."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.checkpoints import LABELS
from tests.helpers.commands import HEADER, NAMES, Invoke, parse_rows


def test_each_image_of_a_folder_has_a_row_and_broken_files_are_failed_rows(
    here: Path, tiny: str, invoke: Invoke
) -> None:
    code, out, err = invoke("predict", "photos", "-m", tiny)
    assert code == 3
    assert out.startswith(HEADER + "\n")
    table = parse_rows(out)
    assert [row["path"] for row in table] == [f"photos/{name}" for name in NAMES]
    assert [row["status"] for row in table] == ["failed", "ok", "ok", "ok", "ok", "ok", "failed"]
    assert [row["error_code"] for row in table][:: len(NAMES) - 1] == ["truncated", "not_image"]
    assert all(row["label"] in LABELS and 0 < float(row["score"]) <= 1 for row in table[1:-1])
    assert all(row["label"] == row["score"] == row["index"] == "" for row in (table[0], table[-1]))
    pattern = (
        r"dinoclassify: 7 images: 5 ok, 2 failed \(1 truncated, 1 not_image\) in [\d.]+ s, .*; 1 passed over: 1 .md\n"
    )
    assert re.fullmatch(pattern, err)


def test_the_same_rows_in_every_format(here: Path, tiny: str, invoke: Invoke) -> None:
    for name in ("out.csv", "out.jsonl", "out.parquet", "out.db"):
        assert invoke("predict", "photos", "-m", tiny, "-k", "3", "-o", name)[:2] == (3, "")
    table = parse_rows(Path("out.csv").read_text())
    objects = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [row["path"] for row in table] == [item["path"] for item in objects]
    assert [row["label_3"] for row in table] == [item["top"][2]["label"] if item["top"] else "" for item in objects]
    import pandas as pd

    parquet = pd.read_parquet("out.parquet")
    assert list(parquet) == list(table[0])
    assert parquet["score_2"].fillna(-1).tolist() == [float(row["score_2"] or -1) for row in table]


def test_an_output_file_has_its_metadata_beside_it(here: Path, tiny: str, invoke: Invoke) -> None:
    code, out, err = invoke("predict", "photos", "-m", tiny, "-o", "out.csv", "--threshold", "0.999", "--exact")
    assert (code, out) == (3, "")
    assert err.endswith(" -> out.csv; 1 passed over: 1 .md\n")
    meta = json.loads(Path("out.csv.meta.json").read_text())
    assert meta["counts"]["failed"] == 2
    assert sum(meta["counts"].values()) == 7
    assert meta["errors"] == {"truncated": 1, "not_image": 1}
    assert meta["model"]["name"] == tiny
    assert meta["model"]["labels"] == 7
    assert meta["model"]["preprocessing"]["crop"] == [56, 56]
    assert meta["options"]["threshold"] == 0.999
    assert meta["options"]["exact"] is True
    assert set(meta["versions"]) >= {"dinoclassify", "torch", "transformers", "pillow"}
    assert sorted(os.listdir()) == ["out.csv", "out.csv.meta.json", "photos"]


def test_threshold_makes_rows_uncertain_and_labels_name_the_classes(here: Path, tiny: str, invoke: Invoke) -> None:
    Path("names.txt").write_text("\n".join("abcdefg"))
    Path("names.json").write_text(json.dumps({str(n): letter for n, letter in enumerate("abcdefg")}))
    Path("names.csv").write_text("index,label\n" + "".join(f"{n},{'abcdefg'[n]}\n" for n in reversed(range(7))))
    plain = parse_rows(invoke("predict", "photos/c*.jpg", "-m", tiny, "--threshold", "1")[1])
    assert {row["status"] for row in plain} == {"uncertain"}
    for name in ("names.txt", "names.json", "names.csv"):
        named = parse_rows(invoke("predict", "photos/c*.jpg", "-m", tiny, "--labels", name)[1])
        assert [row["label"] for row in named] == ["abcdefg"[int(row["index"])] for row in plain]
    Path("names.txt").write_text("too\nfew\n")
    code, out, err = invoke("predict", "photos/c*.jpg", "-m", tiny, "--labels", "names.txt")
    assert (code, out, err) == (
        2,
        "",
        f"dinoclassify: names.txt has 2 names, {tiny} has 7 classes: give each class one name\n",
    )


def test_options_can_be_set_by_environment_variables(
    here: Path, tiny: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"MODEL": tiny, "TOP_K": "2", "FORMAT": "jsonl", "EXCLUDE": "*.png b*", "QUIET": "1"}.items():
        monkeypatch.setenv(f"DINOCLASSIFY_PREDICT_{name}", value)
    code, out, err = invoke("predict", "photos")
    assert (code, err) == (0, "")
    assert [len(json.loads(line)["top"]) for line in out.splitlines()] == [2] * 5


def test_top_k_is_at_most_the_number_of_classes(here: Path, tiny: str, invoke: Invoke) -> None:
    assert "index_7,error_code" in invoke("predict", "photos/coffee.jpg", "-m", tiny, "-k", "100")[1]


def test_an_image_of_more_than_max_pixels_is_a_failed_row(here: Path, tiny: str, invoke: Invoke) -> None:
    Image.new("RGB", (300, 100)).save("large.png")
    code, out, _ = invoke("predict", "large.png", "-m", tiny, "--max-pixels", "29999")
    assert (code, parse_rows(out)[0]["error_code"]) == (3, "too_large")


def test_a_run_without_images_leaves_the_old_output_as_it_was(here: Path, invoke: Invoke) -> None:
    """An unmounted disk must not cost the labels of yesterday."""
    Path("empty").mkdir()
    Path("out.csv").write_text("old")
    assert invoke("predict", "empty", "-o", "out.csv")[0] == 4
    assert Path("out.csv").read_text() == "old"
    for output in ("new.csv", "new/", "-"):
        assert invoke("predict", "empty", "-o", output)[:2] == (4, "")
    assert sorted(os.listdir()) == ["empty", "out.csv", "photos"]


@pytest.mark.slow
def test_output_may_be_a_pipe_or_a_device(here: Path, tiny: str) -> None:
    command = f"{sys.executable} -m dinoclassify predict photos -q -m {tiny}"
    done = subprocess.run(["bash", "-c", f"{command} -o >(cat > copy.csv); wait $!"], capture_output=True, timeout=200)
    assert done.stderr == b""
    assert len(parse_rows(Path("copy.csv").read_text())) == 7
    done = subprocess.run(["bash", "-c", f"{command} -o /dev/stdout | cat"], capture_output=True, timeout=200)
    assert done.stdout == Path("copy.csv").read_bytes()
    Path("all.csv").write_text("precious\n")
    subprocess.run(["bash", "-c", f"{command} -o /dev/stdout >> all.csv"], timeout=200)
    assert Path("all.csv").read_bytes() == b"precious\n" + done.stdout
    assert sorted(os.listdir()) == ["all.csv", "copy.csv", "photos"], "and no sidecar of a pipe"


def test_the_metadata_name_the_commit_of_a_hub_model(
    here: Path, tiny: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.helpers.models import COMMIT, SMALL, put_into_cache

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(here / "hub"))
    put_into_cache(here / "hub", Path(tiny))
    assert invoke("predict", "photos/coffee.jpg", "-o", "out.csv", "-q") == (0, "", "")
    model = json.loads(Path("out.csv.meta.json").read_text())["model"]
    assert (model["name"], model["revision"]) == (SMALL, COMMIT)


def test_exact_and_fast_scores_differ_little(here: Path, tiny: str, invoke: Invoke) -> None:
    common = ("predict", "photos/*.jpg", "-m", tiny, "--precision", "fp32")
    fast, exact = parse_rows(invoke(*common)[1]), parse_rows(invoke(*common, "--exact")[1])
    for one, other in zip(fast, exact, strict=True):
        assert one["index"] == other["index"]
        assert not one["score"] or float(one["score"]) == pytest.approx(float(other["score"]), abs=0.05)


def test_batch_size_and_workers_do_not_change_the_rows(here: Path, tiny: str, invoke: Invoke) -> None:
    common = ("predict", "photos", "-m", tiny, "--precision", "fp32", "-f", "jsonl")
    expected = [json.loads(line) for line in invoke(*common)[1].splitlines()]
    for options in (("--batch-size", "1"), ("-j", "2", "--batch-size", "3"), ("-j", "auto", "--batch-size", "auto")):
        actual = [json.loads(line) for line in invoke(*common, *options)[1].splitlines()]
        for one, other in zip(actual, expected, strict=True):
            assert one.pop("score") == pytest.approx(other["score"], abs=2e-6)
            assert one == {key: value for key, value in other.items() if key != "score"}
