"""`evaluate`: its figures against scikit-learn, classes by all their names, and what it prints."""

import csv
import io
import json
import math
import shutil
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from PIL import Image
from sklearn import metrics

from dinoclassify import UsageError
from dinoclassify.cli import run
from dinoclassify.labels.imagenet import imagenet_labels
from dinoclassify.labels.matching import match_classes
from dinoclassify.results.evaluation.evaluate import evaluate
from dinoclassify.types.prediction import Failure, Label, Prediction
from dinoclassify.types.share import wilson
from tests.conftest import PHOTOS
from tests.helpers.checkpoints import LABELS

Invoke = Callable[..., tuple[int, str, str]]
Matrix = npt.NDArray[np.float64]

SAMPLES = {  # the five sample images, as they are labelled here by hand
    "camera.jpg": "n04485082",
    "chelsea.jpg": "n02124075",
    "coffee.jpg": "n07920052",
    "motorcycle_left.jpg": "n03785016",
    "rocket.jpg": "n03773504",
}


def predictions(scores: Matrix, top_k: int) -> list[Prediction]:
    """What a classifier with such scores (images x classes) answers."""
    rows = []
    for number, row in enumerate(scores):
        best = np.argsort(-row, kind="stable")[:top_k].tolist()
        rows.append(Prediction(f"{number}.jpg", "ok", tuple(Label(f"c{n}", n, float(row[n])) for n in best)))
    return rows


def guesses(count: int, classes: int = 8, seed: int = 0) -> tuple[Matrix, npt.NDArray[np.int64]]:
    """Scores that are often right, and the truth, in which the last class never occurs."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, classes - 1, count)
    logits = generator.normal(size=(count, classes)) * 1.5
    logits[np.arange(count), truth] += 1.5
    scores = np.exp(logits)
    return scores / scores.sum(axis=1, keepdims=True), truth


def names(count: int) -> list[str]:
    return [f"c{number}" for number in range(count)]


def test_figures_are_those_of_scikit_learn() -> None:
    scores, truth = guesses(600)
    found = evaluate(zip(predictions(scores, 5), ((int(n),) for n in truth), strict=True), names(8))
    best = scores.argmax(axis=1)
    assert (found.top1.right, found.top1.total) == (int((best == truth).sum()), 600)
    assert found.top5 is not None
    assert found.top5.value == pytest.approx(metrics.top_k_accuracy_score(truth, scores, k=5, labels=range(8)))
    occurring = sorted(set(truth.tolist()))
    recalls = metrics.recall_score(truth, best, labels=occurring, average=None)
    assert found.balanced_accuracy == pytest.approx(recalls.mean())
    assert found.macro_f1 == pytest.approx(metrics.f1_score(truth, best, labels=occurring, average="macro"))
    expected = metrics.precision_recall_fscore_support(truth, best, labels=occurring)
    ours = [(one.precision, one.recall, one.f1, one.images) for one in found.classes]
    assert np.array(ours) == pytest.approx(np.array(expected).T)
    matrix = metrics.confusion_matrix(truth, best, labels=range(8))
    assert found.confusions == {(int(t), int(g)): matrix[t, g] for t, g in zip(*matrix.nonzero(), strict=True)}
    wrong = np.flatnonzero(best != truth)
    worst = wrong[np.argsort(-scores[wrong].max(axis=1))][:20]
    assert [one.path for one in found.mistakes] == [f"{number}.jpg" for number in worst]


def test_figures_of_many_labels_are_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(1)
    truth = generator.random((300, 6)) < 0.3
    truth[:, 5] = False  # a label that never occurs
    scores = np.round((generator.random((300, 6)) + truth * 0.4) / 1.4, 2)  # with many that are equal
    answers = zip(predictions(scores, 6), (tuple(np.flatnonzero(row).tolist()) for row in truth), strict=True)
    found = evaluate(answers, names(6), multi_label=True)
    assert found.multi_label is not None
    expected = metrics.average_precision_score(truth[:, :5], scores[:, :5], average="macro")
    assert found.multi_label.mean_average_precision == pytest.approx(expected)
    assert found.multi_label.micro_f1 == pytest.approx(metrics.f1_score(truth, scores >= 0.5, average="micro"))
    assert found.multi_label.exact.value == pytest.approx(metrics.accuracy_score(truth, scores >= 0.5))
    assert found.macro_f1 == pytest.approx(metrics.f1_score(truth[:, :5], scores[:, :5] >= 0.5, average="macro"))
    assert found.top1.right == sum(truth[np.arange(300), scores.argmax(axis=1)])
    assert found.balanced_accuracy is None
    bins = np.clip(np.ceil(scores * 15).astype(int) - 1, 0, 14)
    errors = [abs((scores - truth)[bins == n].mean()) * (bins == n).mean() for n in range(15) if (bins == n).any()]
    assert found.calibration_error == pytest.approx(sum(errors))


def test_many_labels_need_all_scores() -> None:
    scores, truth = guesses(3)
    answers = zip(predictions(scores, 5), ((int(n),) for n in truth), strict=True)
    with pytest.raises(UsageError, match="5 of 8 scores: of many labels all are needed, --top-k 8"):
        evaluate(answers, names(8), multi_label=True)


def test_calibration_is_the_distance_of_scores_from_what_is_right() -> None:
    def error(score: float, right: int, of: int) -> float:
        rows = predictions(np.array([[score, 1 - score]] * of), 1)
        return evaluate(zip(rows, [(0,)] * right + [(1,)] * (of - right), strict=True), names(2)).calibration_error

    assert error(0.8, 8, 10) == pytest.approx(0)
    assert error(1.0, 10, 10) == pytest.approx(0)
    assert error(0.9, 5, 10) == pytest.approx(0.4)
    scores, truth = guesses(500)
    found = evaluate(zip(predictions(scores, 1), ((int(n),) for n in truth), strict=True), names(8))
    best, right = scores.max(axis=1), scores.argmax(axis=1) == truth
    expected = 0.0
    for number in range(15):  # as Guo et al. (2017) define it
        here = (best > number / 15) & (best <= (number + 1) / 15)
        if here.any():
            expected += here.mean() * abs(right[here].mean() - best[here].mean())
    assert found.calibration_error == pytest.approx(expected)
    assert sum(one.count for one in found.bins) == 500


@pytest.mark.parametrize(  # Newcombe (1998), table I, method 3
    ("right", "total", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_intervals_are_those_of_the_literature(right: int, total: int, low: float, high: float) -> None:
    assert list(wilson(right, total)) == pytest.approx([low, high], abs=5e-5)


def test_the_interval_of_balanced_accuracy_holds_it_and_narrows() -> None:
    scores, truth = guesses(20)
    few = zip(predictions(scores, 1), ((int(n),) for n in truth), strict=True)
    assert evaluate(few, names(8)).balanced_interval is None  # three images a class tell too little
    widths = []
    for count in (100, 2500):
        scores, truth = guesses(count)
        rows = list(zip(predictions(scores, 1), ((int(n),) for n in truth), strict=True))
        found = evaluate(rows, names(8))
        assert found.balanced_interval is not None
        assert found.balanced_accuracy is not None
        low, high = found.balanced_interval
        assert low < found.balanced_accuracy < high
        assert evaluate(rows, names(8)).balanced_interval == found.balanced_interval
        widths.append(high - low)
    assert widths[0] > 3 * widths[1]  # with 25 times as many images a fifth


@pytest.mark.parametrize("seed", range(8))
def test_the_suggested_threshold_keeps_most_images_of_all_that_do(seed: int) -> None:
    scores, truth = guesses(80, seed=seed)
    scores = np.round(scores, 2 if seed % 2 else 6)  # also with scores that are equal
    found = evaluate(
        zip(predictions(scores, 1), ((int(n),) for n in truth), strict=True), names(8), target_precision=0.9
    )
    best, right = scores.max(axis=1), scores.argmax(axis=1) == truth
    kept = {threshold: best >= threshold for threshold in best}
    good = [reached.sum() for reached in kept.values() if right[reached].mean() >= 0.9]
    assert found.suggested is not None
    reached = best >= found.suggested.threshold
    assert reached.sum() == max(good)
    assert right[reached].mean() >= 0.9
    assert found.suggested.coverage == pytest.approx(reached.mean())
    assert (found.suggested.precision.right, found.suggested.precision.total) == (right[reached].sum(), reached.sum())


def test_thresholds_are_exact_and_0_where_all_may_stay() -> None:
    close = np.array([[0.9999993, 0], [0.9999991, 0]])
    found = evaluate(zip(predictions(close, 1), [(0,), (1,)], strict=True), names(2), target_precision=1)
    assert found.suggested is not None
    assert close[1, 0] < float(str(found.suggested.threshold)) <= close[0, 0]
    found = evaluate(zip(predictions(close, 1), [(0,), (0,)], strict=True), names(2), target_precision=0.9)
    assert found.suggested is not None
    assert found.suggested.threshold == 0


def test_there_may_be_no_threshold_and_no_image() -> None:
    rows = predictions(np.array([[0.9, 0.1]] * 3), 1)
    assert evaluate(zip(rows, [(1,)] * 3, strict=True), names(2), target_precision=0.5).suggested is None
    failed = Prediction("x.jpg", "failed", failure=Failure("not_image", "it is none"))
    found = evaluate([(failed, (0,))], names(2), target_precision=0.5)
    assert (found.failed, found.top1.total, found.suggested) == (1, 0, None)
    assert math.isnan(found.macro_f1)


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("tench, Tinca tinca", 0),
        ("TENCH, TINCA_TINCA", 0),
        ("tench", 0),
        ("n01440764", 0),
        ("0", 0),
        ("great_white_shark", 2),
        ("n02012849", 134),
        ("517", 517),
        ("Egyptian_cat", 285),
    ],
)
def test_classes_are_known_by_all_their_names(name: str, index: int) -> None:
    assert match_classes([name], imagenet_labels(), "x") == {name: index}


def test_names_that_mean_two_classes_or_none_are_refused() -> None:
    with pytest.raises(UsageError, match="crane is the name of classes 134 and 517 of x: write an index, or a WordNet"):
        match_classes(["crane"], imagenet_labels(), "x")
    with pytest.raises(UsageError, match="unicorn, 1000 are not among the 1,000 classes of x"):
        match_classes(["tench", "unicorn", "1000"], imagenet_labels(), "x")
    with pytest.raises(UsageError, match="n01440764 is not among the 2 classes of x"):
        match_classes(["n01440764"], ["cat", "dog"], "x")
    assert match_classes(["dog", "bird"], ["Dog", "dog"], "x", all_known=False) == {"dog": 1}
    assert match_classes(["cat"], ["Cat, cat"], "x") == {"cat": 0}
    with pytest.raises(UsageError, match="0 is not among the 2 classes of x"):  # labels are numbers here
        match_classes(["0", "1"], ["1", "2"], "x")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, with the sample images in folders named after what is in them."""
    monkeypatch.chdir(tmp_path)
    for name, wnid in SAMPLES.items():
        Path("test", wnid).mkdir(parents=True)
        shutil.copy(PHOTOS / name, Path("test", wnid))
    return tmp_path


@pytest.fixture
def invoke(capfd: pytest.CaptureFixture[str]) -> Invoke:
    """Run a command in this process: (exit code, stdout, stderr)."""

    def call(command: str, *arguments: str | Path) -> tuple[int, str, str]:
        code = run([command, *map(str, arguments)])
        return (code, *capfd.readouterr())

    return call


def test_folders_named_by_wordnet_id_go_with_imagenet_models(here: Path, invoke: Invoke) -> None:
    code, out, err = invoke("evaluate", "test", "-m", "builtin", "--runtime", "torch")
    assert code == 0
    lines = [line.split("\t") for line in out.splitlines()]
    assert lines[0] == ["figure", "value", "95 %", "of"]
    assert lines[1] == ["top-1", "1.0000", "0.5655 to 1.0000", "5 of 5"]
    assert lines[2] == ["top-5", "1.0000", "0.5655 to 1.0000", "5 of 5"]
    assert ["true \\ predicted", "Egyptian cat", "missile", "moped", "tripod", "espresso"] in lines
    assert "5 images: 5 ok in" in err


@pytest.mark.parametrize("made", ["csv", "jsonl", "parquet", "db"])
@pytest.mark.parametrize("ranks", [1, 5])
def test_rows_of_predict_give_the_figures_of_the_model(
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
    for figure in ("top1", "balanced_accuracy", "balanced_interval", "macro_f1", "failed", "classes", "confusions"):
        assert from_model[figure] == figures[figure]


def test_classes_as_csv(here: Path, invoke: Invoke) -> None:
    code, out, _ = invoke("evaluate", "test", "-m", "builtin", "--runtime", "torch", "--csv", "-q")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0
    assert list(rows[0]) == ["label", "index", "images", "predicted", "precision", "recall", "f1"]
    assert [row["index"] for row in rows] == ["285", "657", "665", "872", "967"]
    assert {row["f1"] for row in rows} == {"1.0"}


def test_images_that_fail_are_counted_apart(here: Path, tiny: str, invoke: Invoke) -> None:
    (here / "t.csv").write_text("path,label\ntest/n02124075/chelsea.jpg,0\ngone.jpg,goldfish\n")
    code, out, err = invoke("evaluate", "--labels-from", "t.csv", "-m", tiny)
    assert code == 3
    assert "2 images: 1 ok, 1 failed (1 vanished)" in err
    assert " of 1\n" in out


def test_a_table_of_labels_reaches_no_other_scheme(
    here: Path, tiny: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "dinoclassify.storage.remote.object_store._open", lambda url, *_: pytest.fail(f"connects to {url}")
    )
    (here / "t.csv").write_text("path,label\ntest/n02124075/chelsea.jpg,0\nftp://127.0.0.1/a.jpg,goldfish\n")
    code, _, err = invoke("evaluate", "--labels-from", "t.csv", "-m", tiny)
    assert code == 3
    assert "2 images: 1 ok, 1 failed (1 unreadable)" in err


def test_the_suggested_threshold_does_what_it_says(here: Path, tiny: str, invoke: Invoke) -> None:
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
    assert ": 100.00% of the labels are right (43.85% to 100.00%), 60.00% of the images get one." in line
    threshold = line.split(":")[0].split()[1]
    invoke("predict", PHOTOS, *model, "--threshold", threshold, "-o", "sure.csv", "-q")
    sure = pd.read_csv("sure.csv")
    assert sorted(sure[sure.status == "ok"].path) == sorted(rows.path[2:])


def test_many_labels_an_image(here: Path, tiny: str, invoke: Invoke, tmp_path: Path) -> None:
    shutil.copytree(tiny, "model")
    config = json.loads(Path("model/config.json").read_text())
    Path("model/config.json").write_text(json.dumps(config | {"problem_type": "multi_label_classification"}))
    (here / "t.csv").write_text(
        "path,label\ntest/n02124075/chelsea.jpg,goldfish;stingray\ntest/n04485082/camera.jpg,\n"
        "test/n07920052/coffee.jpg,tench\n"
    )
    table = ("--labels-from", "t.csv", "--multi-label")
    code, out, _ = invoke("evaluate", *table, "-m", "./model", "--runtime", "torch", "-q")
    assert code == 0
    figures = [line.split("\t")[0] for line in out.splitlines()]
    assert figures[1:8] == [
        "best label is right",
        "one of the best five is right",
        "all labels are right",
        "mean average precision",
        "F1 of all answers",
        "mean F1 of classes",
        "expected calibration error",
    ]
    invoke("predict", "test", "-m", "./model", "--runtime", "torch", "-k", 7, "-o", "labels.jsonl", "-q")
    by_file = invoke("evaluate", *table, "--predictions", "labels.jsonl", "-q")[1]
    assert by_file.splitlines()[:8] == out.splitlines()[:8]
    assert invoke("evaluate", *table, "-m", tiny) == (
        2,
        "",
        f"dinoclassify: {tiny} gives one label an image: leave out --multi-label\n",
    )


@pytest.mark.parametrize("plot_format", ["png", "svg"])
def test_plots(here: Path, tiny: str, invoke: Invoke, plot_format: str) -> None:
    table = "\n".join(f"test/{wnid}/{name},{n}" for n, (name, wnid) in enumerate(SAMPLES.items()))
    Path("t.csv").write_text(f"path,label\n{table}\n")
    made = []
    for folder in ("plots", "deep/again"):
        arguments = ("--labels-from", "t.csv", "-m", tiny, "--plots", folder, "--plot-format", plot_format)
        code, _, err = invoke("evaluate", *arguments, "--target-precision", "0.1")
        assert code == 0
        assert err.endswith(f" -> {folder}\n")
        made.append({path.name: path.read_bytes() for path in Path(folder).iterdir()})
    assert set(made[0]) == {f"{name}.{plot_format}" for name in ("confusion", "reliability", "threshold")}
    for name, content in made[0].items():
        if plot_format == "png":
            with Image.open(io.BytesIO(content)) as image:
                assert len(image.convert("RGB").getcolors(1 << 24) or []) > 10, name
        else:
            assert ET.fromstring(content).tag.endswith("svg")
        assert content == made[1][name]


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
        ("test --json --csv", 2, "--json and --csv are two forms of the same"),
        ("test --predictions labels.csv -m builtin", 2, "--predictions runs no model: leave out --model"),
        ("test --predictions labels.csv --exact", 2, "--predictions runs no model: leave out --exact"),
        ("test --plot-format svg", 2, "nothing is drawn without --plots: leave out --plot-format"),
        ("test --predictions labels.csv", 2, "labels.csv is not there: "),
        ("test --predictions t.csv", 2, "t.csv is not what predict writes"),
        ("test --target-precision 95", 2, "--target-precision: 95 is not a share from 0 to 1, such as 0.4 or 40%"),
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
def test_wrong_usage_is_one_line(here: Path, invoke: Invoke, arguments: str, code: int, message: str) -> None:
    Path("t.csv").write_text("a,b\n1,2\n")
    row = {"path": "x.jpg", "status": "ok", "label": "a", "score": 0.5, "index": 0}
    absent = dict.fromkeys(["error_code", "error", "size", "mtime_ns"])
    Path("other.jsonl").write_text(json.dumps(row | absent) + "\n")
    shutil.copytree("test/n02124075", "unknown/unicorn")
    found, out, err = invoke("evaluate", *arguments.split())
    assert (found, out) == (code, "")
    assert message in err
    assert sum(": preparing " not in line for line in err.splitlines()) == 1  # the first use of a model is announced


def test_what_is_not_installed_is_named(here: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.delitem(sys.modules, "dinoclassify.results.evaluation.plots", raising=False)
    code, out, err = invoke("evaluate", "test", "--plots", "plots")
    assert (code, out) == (2, "")
    assert err == "dinoclassify: plots need matplotlib: pip install 'dinoclassify[plots]'\n"


def test_rows_and_images_that_do_not_meet_are_told(here: Path, invoke: Invoke) -> None:
    header = "path,status,label,score,index,error_code,error,size,mtime_ns"
    Path("labels.csv").write_text(f"{header}\na.jpg,ok,cat,0.9,0,,,1,1\nb.jpg,ok,dog,0.9,1,,,1,1\n")
    Path("t.csv").write_text("path,label\n./a.jpg,CAT\nc.jpg,unicorn\n")
    code, out, err = invoke("evaluate", "--labels-from", "t.csv", "--predictions", "labels.csv", "--json")
    assert code == 0
    top1 = json.loads(out)["top1"]
    assert top1.pop("interval") == pytest.approx([0.2065, 1], abs=1e-4)
    assert top1 == {"value": 1.0, "right": 1, "total": 1}
    assert "1 images have no row in labels.csv" in err
    assert "1 rows of labels.csv are of other images and left out" in err
    assert "never predicted in labels.csv: unicorn" in err


def test_classes_that_are_numbers_are_never_taken_for_indices(here: Path, invoke: Invoke) -> None:
    def row(number: int, label: str, index: int) -> str:
        return f"{number}.jpg,ok,{label},0.9,{index},,,1,1"

    header = "path,status,label,score,index,error_code,error,size,mtime_ns"
    guesses = [("1", 0), ("3", 2), ("3", 2), ("4", 3), ("5", 4)]  # never 2
    Path("labels.csv").write_text("\n".join([header, *(row(n, *guess) for n, guess in enumerate(guesses)), ""]))
    Path("t.csv").write_text("path,label\n0.jpg,1\n1.jpg,2\n2.jpg,3\n3.jpg,4\n4.jpg,2\n")
    code, out, err = invoke("evaluate", "--labels-from", "t.csv", "--predictions", "labels.csv", "--json")
    assert code == 0
    assert "never predicted in labels.csv: 2" in err
    assert json.loads(out)["top1"]["right"] == 3
    Path("cats.csv").write_text("\n".join([header, row(0, "cat", 0), row(1, "dog", 1), ""]))
    Path("t.csv").write_text("path,label\n0.jpg,0\n1.jpg,7\n")
    figures = json.loads(invoke("evaluate", "--labels-from", "t.csv", "--predictions", "cats.csv", "--json")[1])
    assert [(one["index"], one["label"]) for one in figures["classes"]] == [(0, "cat"), (7, "7")]


def test_a_word_of_a_label_is_not_taken_for_another_class(here: Path, invoke: Invoke) -> None:
    header = "path,status,label,score,index,error_code,error,size,mtime_ns"
    Path("labels.csv").write_text(f'{header}\n0.jpg,ok,"cat, wild",0.9,1,,,1,1\n')
    Path("t.csv").write_text("path,label\n0.jpg,cat\n")
    out = invoke("evaluate", "--labels-from", "t.csv", "--predictions", "labels.csv", "--json")[1]
    assert json.loads(out)["top1"]["right"] == 0


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


def test_nothing_that_can_be_used_is_told_and_not_drawn(here: Path, tiny: str, invoke: Invoke) -> None:
    Path("t.csv").write_text("path,label\ngone.jpg,goldfish\n")
    table = ("--labels-from", "t.csv", "-m", tiny)
    code, out, err = invoke("evaluate", *table, "--plots", "plots", "--csv")
    assert (code, out) == (3, "label,index,images,predicted,precision,recall,f1\n")
    assert "1 image: 1 failed (1 vanished)" in err
    code, out, _ = invoke("evaluate", *table, "--json")
    assert (code, json.loads(out)["balanced_accuracy"]) == (3, None)


def test_names_from_outside_do_not_steer_the_terminal(here: Path, tiny: str, invoke: Invoke) -> None:
    shutil.copy(PHOTOS / "rocket.jpg", "a\x1b[2Jb\t.jpg")
    Path("t.csv").write_text("path,label\na\x1b[2Jb\t.jpg,goldfish\n")
    for label in LABELS[1:3]:
        Path("t.csv").write_text(f"path,label\na\x1b[2Jb\t.jpg,{label}\n")
        out = invoke("evaluate", "--labels-from", "t.csv", "-m", tiny, "--runtime", "torch")[1]
        assert "\x1b" not in out
    assert "a\\x1b[2Jb\\t.jpg\t" in out


def test_links_to_folders_are_classes(here: Path, invoke: Invoke) -> None:
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
