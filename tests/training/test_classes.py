"""Classes of few images, and images that are set apart as a test."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dinoclassify import UsageError
from dinoclassify.discovery.labelled import Labelled
from dinoclassify.training.classes import count_readable, drop_rare
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
    assert "left out, with fewer than 2 images: empty (0), one (1)\n" in err
    assert labels_of("model") == ["blue", "few", "green", "red"]
    code, _, err = train("labelled", "-o", "model", "--force", "--min-images", "4")
    assert "left out, with fewer than 4 images: empty (0), few (3), one (1)\n" in err
    assert labels_of("model") == ["blue", "green", "red"]


def test_copies_count_once(here: Path, train: Invoke) -> None:
    for name in ("0", "1", "2"):
        paint(Path(f"labelled/copies/{name}.png"), (200, 200, 200), 0)
    code, _, err = train("labelled", "-o", "model")
    assert code == 0
    assert "left out, with fewer than 2 images, where copies and groups count once: copies (1)\n" in err
    assert labels_of("model") == ["blue", "green", "red"]


def test_rare_labels_of_images_with_many_are_left_out() -> None:
    images = [Labelled(str(number), ("a", "b") if number % 2 else ("c",)) for number in range(7)]
    images += [Labelled("7", ("c", "rare")), Labelled("8", ())]
    kept, classes = drop_rare(images, ("a", "b", "c", "rare"), 2, multi_label=True)
    assert classes == ("a", "b", "c")
    assert [image.path for image in kept] == list("012345678")
    assert kept[7].labels == ("c",)
    kept, _ = drop_rare(images[::2], ("a", "b", "c", "rare"), 2, multi_label=True)
    assert [image.labels for image in kept] == [("c",)] * 4 + [()]
    assert count_readable([*kept[:4], Labelled("x", ()), Labelled("y", ())], ("c",), multi_label=True) == {"c": 4}
    with pytest.raises(UsageError, match=r"each class needs 2 readable images: add some to a \(0\)"):
        count_readable(kept, ("a", "c"), multi_label=True)


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
    assert len(prepared.test.labels) == 40
    assert not set(prepared.known.units) & set(prepared.test.units)
    assert prepared.counts == {"a": 80, "b": 80}
    rows = np.concatenate([prepared.known.features, prepared.test.features])[:, 0]
    assert sorted(rows.tolist()) == features[:, 0].tolist()
    for data in (prepared.known, prepared.test):
        assert [labels[0] for labels in data.labels] == ["ab"[int(row) // 2 % 2] for row in data.features[:, 0]]


def test_test_of_a_table_and_of_classes_that_are_left_out(here: Path, train: Invoke) -> None:
    for name, colour in (*COLOURS.items(), ("grey", (99, 99, 99))):
        for number in range(30, 34):
            paint(Path(f"new/{name}-{number}.png"), colour, number)
    paint(Path("labelled/grey/1.png"), (99, 99, 99), 1)
    rows = [{"path": str(path), "label": path.name.split("-")[0]} for path in Path("new").iterdir()]
    pd.DataFrame(rows).to_csv("t.csv", index=False)
    code, out, err = train("labelled", "--test", "t.csv", "-o", "model")
    assert code == 0
    assert "4 images of the test are of classes that are left out" in err
    assert "linear head\t1.0000\t0.7575 to 1.0000" in out  # 12 of 12
