"""Classes of few images, and images that are set apart as a test."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dinoclassify import UsageError
from dinoclassify.discovery.labelled import Labelled
from dinoclassify.training.classes import common_classes, with_classes
from dinoclassify.training.dataset import Images, prepare
from tests.helpers.colours import COLOURS, paint
from tests.helpers.invoke import Invoke


def labels_of(folder: str) -> list[str]:
    """The classes of a trained model."""
    return list(json.loads(Path(folder, "config.json").read_text())["label2id"])


def test_classes_of_few_images_are_left_out_and_named(here: Path, train: Invoke) -> None:
    Path("labelled/empty").mkdir()
    for number in range(3):
        paint(Path(f"labelled/few/{number}.png"), (200, 200, 200), number)
    shutil.copytree("labelled/few", "labelled/one")
    for number in (1, 2):
        Path(f"labelled/one/{number}.png").unlink()
    shutil.rmtree("labelled/one")
    paint(Path("labelled/one/0.png"), (0, 0, 0), 7)
    code, _, err = train("labelled", "-o", "model")
    assert code == 0
    assert "classes left out: empty (0), one (1) have fewer than 2 images\n" in err
    assert err.count("left out") == 1
    assert labels_of("model") == ["blue", "few", "green", "red"]
    code, _, err = train("labelled", "-o", "model", "--force", "--min-images", "4")
    assert "classes left out: empty (0), few (3), one (1) have fewer than 4 images\n" in err
    assert labels_of("model") == ["blue", "green", "red"]


def test_copies_count_once(here: Path, train: Invoke) -> None:
    for name in ("0", "1", "2"):
        paint(Path(f"labelled/copies/{name}.png"), (200, 200, 200), 0)
    code, _, err = train("labelled", "-o", "model")
    assert code == 0
    assert "classes left out: copies (1) have fewer than 2 images that can be read; copies, and groups of " in err
    assert labels_of("model") == ["blue", "green", "red"]


def test_one_unreadable_image_of_a_small_class_leaves_the_class_out(here: Path, train: Invoke) -> None:
    paint(Path("labelled/two/0.png"), (0, 0, 0), 7)
    Path("labelled/two/1.png").write_text("no image")
    code, _, err = train("labelled", "-o", "model")
    assert code == 0
    assert "classes left out: two (1) have fewer than 2 images that can be read; copies, and groups of " in err
    card = Path("model/README.md").read_text()
    assert (
        "1 could not be used and were left out (1 not_image). Classes with too few images were left out: two." in card
    )


def test_rare_labels_of_images_with_many_are_left_out() -> None:
    images = [Labelled(f"/{number}", ("a", "b") if number % 2 else ("c",)) for number in range(7)]
    images += [Labelled("/7", ("c", "rare")), Labelled("/8", ())]
    classes = ("a", "b", "c", "rare")
    assert common_classes(images, classes, 2, multi_label=True) == ("a", "b", "c")
    assert with_classes(images, {"a"}, multi_label=True) == images
    features = np.arange(9, dtype=np.float32)[:, None]
    test = Images([Labelled("/9", ("c", "rare"))], features[:1], [9])
    split = prepare(Images(images, features, list(range(9))), classes, test=test, multi_label=True)
    assert split.counts == {"a": 3, "b": 3, "c": 5}
    assert split.train.labels[7:] == [("c",), ()]
    assert split.test is not None
    assert split.test.labels == [("c",)]
    with pytest.raises(UsageError, match="at least 2 images must lack the label c: add some"):
        prepare(Images(images[::2], features[::2], list(range(5))), ("c",), multi_label=True)


def test_held_out_share_is_taken_from_each_class_and_not_trained_on(here: Path, train: Invoke) -> None:
    code, out, _ = train("labelled", "--holdout", "25%", "-o", "model")
    assert code == 0
    lines = [line.split("\t") for line in out.splitlines()]
    (start,) = [number for number, line in enumerate(lines) if line[0] == "test: 0.25 of labelled"]
    assert lines[start + 1][:3] == ["linear head", "1.0000", "0.6097 to 1.0000"]  # 6 of 6
    card = Path("model/README.md").read_text()
    assert "18 images of `labelled`." in card
    assert "| blue | 6 |" in card
    assert "| linear head | 100.00% | 60.97% to 100.00% | 6 |" in card


def test_units_are_not_parted_by_holdout(tmp_path: Path) -> None:
    labelled = [Labelled(f"/{number}", ("ab"[number % 2],), str(number % 20)) for number in range(200)]
    features = np.arange(400, dtype=np.float32).reshape(200, 2)
    prepared = prepare(Images(labelled, features, list(range(200))), ("a", "b"), holdout=0.2)
    assert prepared.test is not None
    assert len(prepared.test.labels) == prepared.held_out == 40
    assert not set(prepared.train.units) & set(prepared.test.units)
    assert prepared.counts == {"a": 80, "b": 80}
    rows = np.concatenate([prepared.train.features, prepared.test.features])[:, 0]
    assert sorted(rows.tolist()) == features[:, 0].tolist()
    for data in (prepared.train, prepared.test):
        assert [labels[0] for labels in data.labels] == ["ab"[int(row) // 2 % 2] for row in data.features[:, 0]]


def test_images_of_a_group_that_is_trained_on_are_not_tested() -> None:
    labelled = [Labelled(f"/{number}", ("ab"[number // 4 % 2],), str(number // 4)) for number in range(40)]
    features = np.zeros((40, 2), np.float32)
    test = [Labelled("/x", ("b",), "3"), Labelled("/y", ("a",), "new"), Labelled("/z", ("b",))]
    prepared = prepare(
        Images(labelled, features, list(range(40))), ("a", "b"), test=Images(test, features[:3], [41, 42, 43])
    )
    assert prepared.test is not None
    assert len(prepared.test.labels) == 2


def test_holdout_leaves_images_with_and_without_each_label() -> None:
    """All images but two have the label a."""
    labelled = [Labelled(f"/{number}", ("a", "b") if number % 3 else ("a",)) for number in range(40)]
    labelled[:2] = [Labelled("/0", ()), Labelled("/1", ("b",))]
    images = Images(labelled, np.zeros((40, 2), np.float32), list(range(40)))
    refused = 0
    for seed in range(20):
        try:
            split = prepare(images, ("a", "b"), holdout=0.3, multi_label=True, seed=seed)
        except UsageError:
            refused += 1
        else:
            assert sum("a" not in labels for labels in split.train.labels) == 2
    assert 0 < refused < 20


def test_test_of_a_table_and_of_classes_that_are_left_out(here: Path, train: Invoke) -> None:
    for name, colour in (*COLOURS.items(), ("grey", (99, 99, 99))):
        for number in range(30, 34):
            paint(Path(f"new/{name}-{number}.png"), colour, number)
    paint(Path("labelled/grey/1.png"), (99, 99, 99), 1)
    rows = [{"path": str(path), "label": path.name.split("-")[0]} for path in Path("new").iterdir()]
    pd.DataFrame(rows).to_csv("t.csv", index=False)
    code, out, err = train("labelled", "--test", "t.csv", "-o", "model")
    assert code == 0
    assert "4 images of the test: left out with their classes" in err
    assert "linear head\t1.0000\t0.7575 to 1.0000" in out  # 12 of 12
