"""`evaluate --predictions`: rows that `predict` wrote, instead of a model."""

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.helpers.checkpoints import LABELS
from tests.helpers.invoke import Invoke


@pytest.mark.parametrize("made", ["csv", "jsonl", "parquet", "db"])
@pytest.mark.parametrize("ranks", [1, 5])
def test_saved_rows_give_the_same_figures_as_the_model(
    here: Path, tiny: str, invoke: Invoke, made: str, ranks: int
) -> None:
    (here / "test" / "n04485082" / "text.jpg").write_text("no image")
    model = ("-m", tiny, "--runtime", "torch")
    file = f"labels.{made}"
    assert invoke("predict", "test", *model, "-o", file, "-k", ranks, "-q")[0] == 3
    invoke("predict", "test", *model, "-o", "by-hand.csv", "-k", 5, "-q")
    rows = pd.read_csv("by-hand.csv")
    rows.loc[1, "label"] = LABELS[(LABELS.index(rows.label[1]) + 1) % 7]  # what is said to be true of it
    rows.loc[rows.status == "failed", "label"] = LABELS[0]
    rows[["path", "label"]].to_csv("truth.csv", index=False)
    code, out, err = invoke("evaluate", "--labels-from", "truth.csv", "--predictions", file, "--json")
    assert code == 3
    assert err == f"dinoclassify: 6 rows of {file}: 5 ok, 1 failed (1 not_image)\n"
    figures = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert (figures["top1"]["right"], figures["top1"]["total"], figures["failed"]) == (4, 5, 1)
    (mistake,) = figures["mistakes"]
    assert mistake == {
        "path": rows.path[1],
        "true": [rows.label[1]],
        "true_index": [LABELS.index(rows.label[1])],
        "predicted": pd.read_csv("by-hand.csv").label[1],
        "predicted_index": rows["index"][1],
        "score": pytest.approx(rows.score[1], abs=1e-6),
    }
    if ranks == 5:
        ranked = rows[["index", *(f"index_{rank}" for rank in range(2, 6))]].to_numpy()
        hits = [LABELS.index(label) in row for label, row in zip(rows.label, ranked, strict=True)]
        assert figures["top5"]["right"] == sum(hits)
    else:
        assert figures["top5"] is None
    from_model = json.loads(invoke("evaluate", "--labels-from", "truth.csv", *model, "--json")[1])
    assert from_model["calibration_error"] == pytest.approx(figures["calibration_error"], abs=1e-5)
    assert from_model["log_loss"] > 0
    assert figures["log_loss"] is None  # of 7 classes
    invoke("predict", "test", *model, "-o", f"all.{made}", "-k", 7, "-q")
    with_all = json.loads(invoke("evaluate", "--labels-from", "truth.csv", "--predictions", f"all.{made}", "--json")[1])
    for figure in ("log_loss", "brier_score"):
        assert from_model[figure] == pytest.approx(with_all[figure], abs=1e-5)
    for figure in ("top1", "balanced_accuracy", "balanced_interval", "macro_f1", "failed", "classes", "confusions"):
        assert from_model[figure] == figures[figure]


def test_rows_and_images_without_a_match_are_reported(here: Path, invoke: Invoke) -> None:
    header = "path,status,label,score,index,error_code,error,size,mtime_ns"
    Path("labels.csv").write_text(f"{header}\na.jpg,ok,cat,0.9,0,,,1,1\nb.jpg,ok,dog,0.9,1,,,1,1\n")
    Path("t.csv").write_text("path,label\n./a.jpg,CAT\nc.jpg,unicorn\n")
    command = ("evaluate", "--labels-from", "t.csv", "--predictions", "labels.csv")
    code, out, err = invoke(*command, "--json")
    assert code == 3
    figures = json.loads(out)
    assert (figures["missing"], figures["failed"], figures["extra"]) == (1, 0, 1)
    assert figures["top1"].pop("interval") == pytest.approx([0.2065, 1], abs=1e-4)
    assert figures["top1"] == {"value": 1.0, "right": 1, "total": 1}
    assert "1 image without a row in labels.csv" in err
    assert "1 row of labels.csv for images without a label: left out" in err
    assert "never predicted in labels.csv: unicorn" in err
    assert "1 row of labels.csv: 1 ok; 1 labelled image without a row; 1 row for images without a label\n" in err
    assert invoke(*command, "--json", "-q") == (3, out, "")
    Path("t.csv").write_text("path,label\n./a.jpg,CAT\n")
    code, out, _ = invoke(*command, "--json", "-q")
    assert (code, json.loads(out)["missing"], json.loads(out)["extra"]) == (0, 0, 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"score": None},
        {"score": "0.5"},
        {"score": 7.5},
        {"score": -1},
        {"label": None},
        {"label": 3},
        {"index": "0"},
        {"index": 1.5},
        {"index": -1},
        {"index": 10**12},
        {"index": None},
        {"error_code": "truncated"},
        {"status": "good"},
    ],
)
def test_damaged_rows_are_refused(here: Path, invoke: Invoke, changes: dict[str, object]) -> None:
    row = {"path": "0.jpg", "status": "ok", "label": "a", "score": 0.5, "index": 0}
    row |= dict.fromkeys(["error_code", "error", "size", "mtime_ns"])
    Path("t.csv").write_text("path,label\n0.jpg,a\n")
    command = ("evaluate", "--labels-from", "t.csv", "--predictions", "rows.jsonl")
    Path("rows.jsonl").write_text(json.dumps(row) + "\n")
    assert invoke(*command)[0] == 0
    Path("rows.jsonl").write_text(json.dumps(row | changes) + "\n")
    code, out, err = invoke(*command)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("dinoclassify: rows.jsonl ")


def test_all_scores_of_groups_are_judged(here: Path, tiny: str, invoke: Invoke) -> None:
    groups = [*(f"{label},shark" for label in LABELS[2:5]), *(f"{label},ray" for label in LABELS[5:])]
    Path("groups.csv").write_text("label,group\n" + "\n".join(groups) + "\n")
    images = sorted(map(str, Path("test").rglob("*.jpg")))
    truths = ["shark", "ray", LABELS[3], "goldfish", "ray"]
    pd.DataFrame({"path": images, "label": truths}).to_csv("truth.csv", index=False)
    model = ("-m", tiny, "--runtime", "torch")
    judged = ("evaluate", "--labels-from", "truth.csv", "--groups", "groups.csv", "--json")
    found = json.loads(invoke(*judged, *model)[1])
    invoke("predict", "test", *model, "-k", 7, "-o", "classes.csv", "-q")
    invoke("predict", "test", *model, "-k", 3, "-o", "few.csv", "-q")
    invoke("predict", "test", *model, "-k", 3, "--groups", "groups.csv", "-o", "groups-of.csv", "-q")
    rows = pd.read_csv("groups-of.csv").set_index("path").loc[images]
    scores = [
        dict(zip(row[["label", "label_2", "label_3"]], row[["score", "score_2", "score_3"]], strict=True))
        for _, row in rows.iterrows()
    ]
    true = ["shark", "ray", "shark", "other", "ray"]
    brier = [sum((row[group] - (group == name)) ** 2 for group in row) for row, name in zip(scores, true, strict=True)]
    assert found["brier_score"] == pytest.approx(sum(brier) / 5, abs=1e-5)
    for file in ("classes.csv", "groups-of.csv"):
        saved = json.loads(invoke(*judged, "--predictions", file)[1])
        for figure in ("log_loss", "brier_score", "calibration_error"):
            assert saved[figure] == pytest.approx(found[figure], abs=1e-5), file
    assert json.loads(invoke(*judged, "--predictions", "few.csv")[1])["log_loss"] is None
