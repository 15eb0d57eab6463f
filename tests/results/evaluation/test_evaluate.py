"""The command `evaluate`: folders, tables and rows of `predict`, and what it prints."""

import csv
import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.conftest import PHOTOS
from tests.helpers.checkpoints import LABELS
from tests.helpers.guesses import SAMPLES
from tests.helpers.invoke import Invoke


def test_folders_named_by_wordnet_id_match_imagenet_models(here: Path, invoke: Invoke) -> None:
    code, out, err = invoke("evaluate", "test", "-m", "builtin", "--runtime", "torch")
    assert code == 0
    lines = [line.split("\t") for line in out.splitlines()]
    assert lines[0] == ["figure", "value", "95 %", "of"]
    assert lines[1] == ["top-1", "1.0000", "0.5655 to 1.0000", "5 of 5"]
    assert lines[2] == ["top-5", "1.0000", "0.5655 to 1.0000", "5 of 5"]
    assert ["true \\ predicted", "Egyptian cat", "missile", "moped", "tripod", "espresso"] in lines
    assert "5 images: 5 ok in" in err


def test_classes_in_csv(here: Path, invoke: Invoke) -> None:
    code, out, _ = invoke("evaluate", "test", "-m", "builtin", "--runtime", "torch", "--csv", "-q")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0
    assert list(rows[0]) == ["label", "index", "pictures", "predicted", "precision", "recall", "f1"]
    assert [row["index"] for row in rows] == ["285", "657", "665", "872", "967"]
    assert {row["f1"] for row in rows} == {"1.0"}


def test_failed_images_are_counted_separately(here: Path, tiny: str, invoke: Invoke) -> None:
    (here / "t.csv").write_text("path,label\ntest/n02124075/chelsea.jpg,0\ngone.jpg,goldfish\n")
    code, out, err = invoke("evaluate", "--labels-from", "t.csv", "-m", tiny)
    assert code == 3
    assert "2 images: 1 ok, 1 failed (1 vanished)" in err
    assert " of 1\n" in out


def test_table_of_labels_opens_no_unsupported_url(
    here: Path, tiny: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "dinoclassify.storage.remote.opening.open_filesystem", lambda url, *_: pytest.fail(f"connects to {url}")
    )
    (here / "t.csv").write_text("path,label\ntest/n02124075/chelsea.jpg,0\nftp://127.0.0.1/a.jpg,goldfish\n")
    code, _, err = invoke("evaluate", "--labels-from", "t.csv", "-m", tiny)
    assert code == 3
    assert "2 images: 1 ok, 1 failed (1 unreadable)" in err


def test_suggested_threshold_reaches_the_precision_in_predict(here: Path, tiny: str, invoke: Invoke) -> None:
    model = ("-m", tiny, "--runtime", "torch")
    invoke("predict", PHOTOS, *model, "-o", "labels.csv", "-q")
    rows = pd.read_csv("labels.csv")
    rows = rows[rows.status == "ok"].sort_values("score")
    wrong = ["goldfish" if label != "goldfish" else "stingray" for label in rows.label[:2]]
    rows["truth"] = [*wrong, *rows.label[2:]]
    rows[["path", "truth"]].to_csv("truth.csv", index=False)
    arguments = ("--labels-from", "truth.csv", "--label-column", "truth", "--predictions", "labels.csv")
    code, out, _ = invoke("evaluate", *arguments, "--target-precision", "1", "-q")
    assert code == 0
    (line,) = [line for line in out.splitlines() if line.startswith("--threshold")]
    assert line.endswith("% of the images got one; judged on images that it was not tuned on.")
    threshold = line.split(":")[0].split()[1]
    invoke("predict", PHOTOS, *model, "--threshold", threshold, "-o", "sure.csv", "-q")
    sure = pd.read_csv("sure.csv")
    assert sorted(sure[sure.status == "ok"].path) == sorted(rows.path[2:])


def test_tables_on_a_terminal(here: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "140")
    out = invoke("evaluate", "test", "-m", "builtin", "--runtime", "torch", "-q")[1]
    assert "─" in out
    assert "Confusion matrix" in out
    assert "\t" not in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("", 2, "name a folder with one folder for each class, or --labels-from a table"),
        ("nothing", 4, "nothing is not there: "),
        ("nothing --labels-from t.csv", 4, "nothing is not there: "),
        ("test --json --csv", 2, "--json and --csv exclude each other: leave one out"),
        ("test --predictions labels.csv -m builtin", 2, "--predictions runs no model: leave out --model"),
        ("test --predictions labels.csv --exact", 2, "--predictions runs no model: leave out --exact"),
        ("test --plot-format svg", 2, "nothing is drawn without --plots: leave out --plot-format"),
        ("test --predictions labels.csv", 2, "labels.csv is not there: "),
        ("test --predictions t.csv", 2, "t.csv is not what predict writes"),
        ("test --target-precision 95", 2, "--target-precision 95 is not a share from 0 to 1, such as 0.4 or 40%"),
        (
            "test --predictions other.jsonl",
            2,
            "other.jsonl has no rows for these images, such as test/n02124075",
        ),
        ("unknown -m builtin", 2, "unicorn is not among the 1,000 classes of builtin"),
        ("test -m ./nothing", 5, "there is no folder ./nothing"),
        ("test -m builtin --plots t.csv", 6, "cannot write t.csv: File exists"),
    ],
)
def test_wrong_usage_is_reported_in_one_line(
    here: Path, invoke: Invoke, arguments: str, code: int, message: str
) -> None:
    Path("t.csv").write_text("a,b\n1,2\n")
    row = {"path": "x.jpg", "status": "ok", "label": "a", "score": 0.5, "index": 0}
    absent = dict.fromkeys(["error_code", "error", "size", "mtime_ns"])
    Path("other.jsonl").write_text(json.dumps(row | absent) + "\n")
    shutil.copytree("test/n02124075", "unknown/unicorn")
    found, out, err = invoke("evaluate", *arguments.split())
    assert (found, out) == (code, "")
    assert message in err
    assert sum(": preparing " not in line for line in err.splitlines()) == 1  # the first use of a model is announced


def test_no_usable_image_is_reported_and_nothing_drawn(here: Path, tiny: str, invoke: Invoke) -> None:
    Path("t.csv").write_text("path,label\ngone.jpg,goldfish\n")
    table = ("--labels-from", "t.csv", "-m", tiny)
    code, out, err = invoke("evaluate", *table, "--plots", "plots", "--csv")
    assert (code, out) == (3, "label,index,pictures,predicted,precision,recall,f1\n")
    assert "1 image: 1 failed (1 vanished)" in err
    code, out, _ = invoke("evaluate", *table, "--json")
    assert (code, json.loads(out)["balanced_accuracy"]) == (3, None)


def test_control_characters_in_names_are_escaped(here: Path, tiny: str, invoke: Invoke) -> None:
    shutil.copy(PHOTOS / "rocket.jpg", "a\x1b[2Jb\t.jpg")
    Path("t.csv").write_text("path,label\na\x1b[2Jb\t.jpg,goldfish\n")
    for label in LABELS[1:3]:
        Path("t.csv").write_text(f"path,label\na\x1b[2Jb\t.jpg,{label}\n")
        out = invoke("evaluate", "--labels-from", "t.csv", "-m", tiny, "--runtime", "torch")[1]
        assert "\x1b" not in out
    assert "a\\x1b[2Jb\\t.jpg\t" in out


def test_linked_folders_are_classes(here: Path, invoke: Invoke) -> None:
    shutil.move("test/n02124075", "cats")
    Path("test/n02124075").symlink_to(here / "cats")
    figures = json.loads(invoke("evaluate", "test", "-m", "builtin", "--runtime", "torch", "--json")[1])
    assert figures["top1"]["total"] == 5


@pytest.mark.slow
def test_photographs_of_imagenet(here: Path, invoke: Invoke, shared_data: Path) -> None:
    """200 photographs and the five samples: what is printed is what is counted by hand in the rows of `predict`."""
    known = pd.read_csv(shared_data / "photos" / "labels.csv")
    truth = {str(shared_data / "photos" / file): wnid for file, wnid in zip(known.file, known.wnid, strict=True)}
    truth |= {str(PHOTOS / name): wnid for name, wnid in SAMPLES.items()}
    pd.DataFrame({"path": truth.keys(), "label": truth.values()}).to_csv("truth.csv", index=False)
    out = invoke("evaluate", "--labels-from", "truth.csv", "-m", "builtin", "--json")[1]
    figures: dict[str, Any] = json.loads(out)
    assert invoke("predict", *truth, "-m", "builtin", "-k", 5, "-o", "labels.csv")[0] == 0
    rows = pd.read_csv("labels.csv")
    ids = pd.read_csv(shared_data / "imagenet-1k-labels.csv").set_index("index").wnid
    ranks = [[ids[index] for index in rows[column]] for column in ("index", "index_2", "index_3", "index_4", "index_5")]
    best = sum(guess == truth[path] for path, guess in zip(rows.path, ranks[0], strict=True))
    five = sum(truth[path] in row for path, row in zip(rows.path, zip(*ranks, strict=True), strict=True))
    assert (figures["top1"]["right"], figures["top1"]["total"]) == (best, 205)
    assert figures["top5"]["right"] == five
    assert figures["top1"]["value"] >= 0.86
    assert figures["top5"]["value"] >= 0.96
