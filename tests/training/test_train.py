"""`train`: labelled images become a model that transformers loads, and bad data is named."""

import json
import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
import transformers as hf
from PIL import Image

from dinoclassify import Classifier, Encoder
from dinoclassify.cli import run
from tests.helpers.checkpoints import FAMILIES
from tests.helpers.colours import COLOURS, paint
from tests.helpers.invoke import Invoke
from tests.helpers.trained import as_pipeline, weights


def test_labelled_images_become_a_model(here: Path, train: Invoke, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = train("labelled", "-o", "my-model/")
    assert code == 0
    lines = [line.split("\t") for line in out.splitlines()]
    assert lines[0] == ["held out", "accuracy", "95 %", "mean F1", "only head", "only this", "p"]
    assert lines[1][:2] == ["linear head", "1.0000"]
    assert [line[0] for line in lines[2:6]] == ["nearest class mean", "5 nearest images", "most common class", ""]
    assert lines[6][0] == "trained on"
    assert [line[0] for line in lines[7:]] == ["6 images (25%)", "10 images (50%)", "19 images (100%)"]
    assert "all held-out images are right: more images like these cannot show a gain" in err
    assert "24 images: 24 ok in" in err
    assert "trained on 24 images of 3 classes -> my-model" in err
    assert sorted(os.listdir("my-model")) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]
    assert {path.name for path in here.iterdir()} == {"cache", "labelled", "my-model"}
    config = json.loads(Path("my-model/config.json").read_text())
    assert config["id2label"] == {"0": "blue", "1": "green", "2": "red"}
    assert config["label2id"] == {"blue": 0, "green": 1, "red": 2}
    assert config["problem_type"] == "single_label_classification"
    paint(Path("new/unseen.png"), COLOURS["green"], 99)
    assert run(["predict", "new", "-m", "./my-model"]) == 0
    assert "new/unseen.png,ok,green," in capfd.readouterr().out


@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_loads_every_family(
    here: Path, family: str, checkpoints: Callable[[str], Path], train: Invoke
) -> None:
    assert train("labelled", "-m", checkpoints(family), "-o", "model", "-q")[0] == 0
    module = hf.AutoModelForImageClassification.from_pretrained("model")
    assert module.config.id2label == {0: "blue", 1: "green", 2: "red"}
    assert hf.AutoImageProcessor.from_pretrained("model") is not None
    paths = sorted(str(path) for path in Path("labelled").rglob("*.png"))[::3]
    ours = Classifier("./model", runtime="torch", precision="fp32").predict(paths, top_k=3, exact=True)
    for answer, prediction in zip(as_pipeline("model", paths), ours, strict=True):
        assert {label.label: label.score for label in prediction.top} == pytest.approx(answer, abs=1e-4)


def test_backbone_without_a_head_gets_one(here: Path, train: Invoke) -> None:
    torch.manual_seed(0)
    config = hf.Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14)
    hf.Dinov2Model(config).save_pretrained("bare")
    hf.BitImageProcessorPil(size={"shortest_edge": 64}, crop_size=56).save_pretrained("bare")
    Path("bare/README.md").write_text("---\ntags:\n- x\nlicense: cc-by-4.0\n---\n# Bare\n")
    assert train("labelled", "-m", "./bare", "-o", "model", "-q")[0] == 0
    predictions = Classifier("./model").predict(["labelled"])
    assert all(prediction.label == Path(prediction.path).parent.name for prediction in predictions)
    card = Path("model/README.md").read_text()
    assert 'license: "cc-by-4.0"' in card
    assert "| blue | 8 |" in card
    assert "| linear head | 100.00% | 86.20% to 100.00% | 24 | 1.0000 |  |  |" in card
    assert "24 images of `labelled`. None had to be left out." in card


def test_same_input_gives_the_same_head(here: Path, train: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    train("labelled", "-o", "one")
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "another-cache"))
    train("labelled", "-o", "two")
    assert weights("one") == weights("two")
    assert Path("one/README.md").read_text() == Path("two/README.md").read_text()


def test_multi_label_model(here: Path, train: Invoke, capfd: pytest.CaptureFixture[str]) -> None:
    rows = []
    for number in range(40):
        marks = [name for bit, name in enumerate(("red", "green", "blue")) if number >> bit & 1]
        colour = tuple(200 if name in marks else 20 for name in ("red", "green", "blue"))
        paint(Path(f"many/{number}.png"), cast(tuple[int, int, int], colour), number)
        rows.append({"path": f"many/{number}.png", "label": ";".join(marks)})
    pd.DataFrame(rows).to_csv("table.csv", index=False)
    code, out, err = train("--labels-from", "table.csv", "--multi-label", "-o", "model")
    assert code == 0, err
    assert out.splitlines()[1].startswith("linear head\t1.0000")
    config = json.loads(Path("model/config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    assert config["id2label"] == {"0": "blue", "1": "green", "2": "red"}
    paths = [row["path"] for row in rows]
    for row, answer, prediction in zip(
        rows,
        as_pipeline("model", paths),
        Classifier("./model", runtime="torch", precision="fp32").predict(paths, top_k=3, threshold=0, exact=True),
        strict=True,
    ):
        assert ";".join(name for name in ("red", "green", "blue") if answer[name] > 0.5) == row["label"]
        assert {label.label: label.score for label in prediction.top} == pytest.approx(answer, abs=1e-4)
    code, _, err = train("--labels-from", "table.csv", "-o", "other")
    assert "some labels in table.csv contain a semicolon: if they are several labels, use --multi-label" in err


@pytest.mark.parametrize(
    ("spoil", "arguments", "code", "message"),
    [
        ("rm -r labelled/red labelled/blue", "", 2, "all images are of one class, green"),
        (
            "true",
            "--min-images 9",
            2,
            "too few classes are left: blue (8), green (8), red (8) have fewer than 9 images",
        ),
        ("true", "--min-images 1", 2, "--min-images 1: must be at least 2"),
        (
            "true",
            "--holdout 0.01",
            2,
            "--holdout 0.01 holds no image back: choose a larger share, or label more images",
        ),
        ("true", "--holdout 0.2 --test labelled", 2, "--test and --holdout exclude each other: leave one out"),
        ("true", "--holdout 100%", 2, "--holdout 1: choose a share between 0 and 1, such as 0.2 or 20%"),
        ("true", "--holdout 0", 2, "--holdout 0: choose a share between 0 and 1, such as 0.2 or 20%"),
        ("true", "--holdout 20", 2, "--holdout 20 is not a share from 0 to 1"),
        ("true", "--test nothing", 4, "nothing is not there: "),
        ("true", "--test labelled", 2, "the test has no images of its own: name others with --test"),
        (
            "mkdir -p test/pink && cp labelled/red/1.png test/pink",
            "--test test",
            2,
            "pink is not among the 3 classes of labelled: name classes by label, index",
        ),
        ("true", "--group-column series", 2, "--group-column goes with --labels-from and a table"),
        (
            "printf 'path,label\\nred/1.png,a\\n' > t.csv",
            "--labels-from t.csv --group-column series",
            2,
            "t.csv has no column series; choose one with --group-column: path, label",
        ),
        (
            "cp labelled/red/1.png labelled/blue/copy.png",
            "",
            2,
            "labelled/blue/copy.png and labelled/red/1.png are the same image with different labels, blue and red: ",
        ),
        (
            "for file in labelled/red/*; do echo x > $file; done",
            "",
            2,
            "no image of these classes can be read: red (8): ",
        ),
        ("rm -r labelled", "", 4, "labelled is not there: "),
        ("rm -r labelled && touch labelled", "", 2, "labelled is not a folder"),
        ("rm -r labelled/*", "", 2, "labelled has no folders in it"),
        (
            "rm labelled/*/*.png",
            "",
            4,
            "dinoclassify: no images in the folders of labelled: put the images of each class into its folder",
        ),
        (
            "printf 'path,label\na,x\n./a,y\n' > t.csv",
            "--labels-from t.csv",
            2,
            "two rows for labelled/./a with different labels, x and y: leave one",
        ),
        (
            "printf 'path,label\\nred/1.png,\\n' > t.csv",
            "--labels-from t.csv --multi-label",
            2,
            "no image has a label",
        ),
        ("printf 'path,label\\nx\\0y,a\\n' > t.csv", "--labels-from t.csv", 2, "t.csv has a path with a NUL in it"),
        ("true", "-o ''", 2, "--output is empty: give it a value"),
        (
            "echo path,label > t.csv",
            "--labels-from t.csv",
            4,
            "dinoclassify: t.csv has no images with labels: fill in its columns path and label",
        ),
        ("echo path,class > t.csv", "--labels-from t.csv", 2, "no column label; choose one with --label-column: path"),
        ("touch t.txt", "--labels-from t.txt", 2, "t.txt is not a table: its name must end in .csv or .parquet"),
        ("true", "--labels-from t.csv", 2, "t.csv is not there: "),
        ("true", "--column file", 2, "--column and --label-column go with --labels-from"),
        ("true", "-m ./nothing", 5, "there is no folder ./nothing"),
        (
            "echo path,label > t.csv; for n in 1 2 3 4; do echo red/$n.png,red >> t.csv; done",
            "--labels-from t.csv --multi-label",
            2,
            "at least 2 images must lack the label red: add some, or leave that label out",
        ),
    ],
)
def test_bad_data_is_reported(here: Path, train: Invoke, spoil: str, arguments: str, code: int, message: str) -> None:
    subprocess.run(["bash", "-c", spoil], check=True)
    found, out, err = train("labelled", "-o", "model", *shlex.split(arguments))
    assert (found, out) == (code, "")
    assert message in err.splitlines()[-1]
    assert not Path("model").exists()


def digits(folder: Path) -> tuple[list[str], npt.NDArray[np.intp]]:
    """scikit-learn's 1,797 digits as images in folders; their paths and what they are."""
    from sklearn.datasets import load_digits

    data = cast(Any, load_digits())
    paths = []
    for number, (image, digit) in enumerate(zip(data.images, data.target, strict=True)):
        path = folder / str(digit) / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 255 / 16).astype(np.uint8)).resize((224, 224), Image.Resampling.BICUBIC).save(path)
        paths.append(str(path))
    return paths, data.target


@pytest.mark.slow
def test_digits_are_learned_better_than_by_the_usual_methods(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A quarter is held out: better than an untuned head and 5 nearest neighbours, and the same by transformers."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.model_selection import train_test_split
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.preprocessing import StandardScaler

    paths, classes = digits(here / "digits")
    learned, test = train_test_split(np.arange(len(paths)), test_size=0.25, random_state=0, stratify=classes)
    table = pd.DataFrame({"path": np.array(paths)[learned], "label": classes[learned]})
    table.to_csv("learned.csv", index=False)
    assert run(["train", "--labels-from", "learned.csv", "-m", "builtin", "-o", "model"]) == 0
    held_out = [paths[number] for number in test]
    predictions = list(Classifier("./model").predict(held_out, top_k=10))
    accuracy = np.mean(
        [prediction.label == str(classes[number]) for prediction, number in zip(predictions, test, strict=True)]
    )

    features = np.array([row.features for row in Encoder("builtin").embed(paths)])
    scaler = StandardScaler().fit(features[learned])
    untuned = LogisticRegression(max_iter=1000).fit(scaler.transform(features[learned]), classes[learned])
    neighbours = KNeighborsClassifier(5).fit(features[learned], classes[learned])
    others = [
        untuned.score(scaler.transform(features[test]), classes[test]),
        neighbours.score(features[test], classes[test]),
    ]
    scores = np.zeros((len(test), 10))
    for row, prediction in zip(scores, predictions, strict=True):
        row[[label.index for label in prediction.top]] = [label.score for label in prediction.top]
    scores /= scores.sum(axis=1, keepdims=True)  # they add up to 1 but for rounding
    loss = log_loss(classes[test], scores)
    unfloored = log_loss(classes[test], untuned.predict_proba(scaler.transform(features[test])))
    with capfd.disabled():
        print(f"\ndigits: {accuracy:.4f}; untuned {others[0]:.4f}, 5 nearest {others[1]:.4f}")
        print(f"log loss {loss:.4f}; untuned {unfloored:.4f}")
    assert accuracy >= 0.94
    assert accuracy > max(others)
    assert loss < min(0.16, unfloored)
    theirs = [max(answer, key=answer.__getitem__) for answer in as_pipeline("model", held_out)]
    assert [prediction.label for prediction in predictions] == theirs


@pytest.mark.slow
def test_photographs_are_not_all_certain_digits(here: Path, shared_data: Path) -> None:
    """Features that hardly vary among digits vary among photographs: without a floor, all scored over 0.999."""
    paths, classes = digits(here / "digits")
    some = slice(None, None, 3)  # enough to show it
    pd.DataFrame({"path": paths[some], "label": classes[some]}).to_csv("digits.csv", index=False)
    assert run(["train", "--labels-from", "digits.csv", "-m", "builtin", "-o", "model", "-q"]) == 0
    predictions = list(Classifier("./model").predict([shared_data / "photos"]))
    assert len(predictions) == 200
    certain = np.mean([(prediction.score or 0) > 0.999 for prediction in predictions])
    assert certain < 0.4
