"""Copies of an image, and groups of images, in `train`."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dinoclassify import UsageError
from dinoclassify.discovery.labelled import Labelled
from dinoclassify.training.copies import as_units, check_labels, find_copies
from tests.helpers.colours import COLOURS, paint
from tests.helpers.invoke import Invoke


def test_copies_are_found_by_content(tmp_path: Path) -> None:
    contents = [b"one", b"two", b"one", b"three", b"two", b"one"]
    for number, content in enumerate(contents):
        (tmp_path / str(number)).write_bytes(content)
    paths = [str(tmp_path / str(number)) for number in range(6)]
    assert find_copies(paths, [len(content) for content in contents]).tolist() == [0, 1, 0, 3, 1, 0]
    assert find_copies(paths, [None] * 6).tolist() == [0, 1, 2, 3, 4, 5]
    (tmp_path / "3").unlink()  # the only one of its size: it is not read
    (tmp_path / "2").unlink()  # gone since it was embedded
    assert find_copies(paths, [len(content) for content in contents]).tolist() == [0, 1, 2, 3, 1, 0]


def test_copies_with_different_labels_are_refused() -> None:
    images = [Labelled("a.jpg", ("cat",)), Labelled("b.jpg", ("dog",)), Labelled("c.jpg", ("cat",))]
    check_labels(images, np.array([0, 1, 0]))
    with pytest.raises(UsageError, match=r"a.jpg and b.jpg are the same image with different labels, cat and dog: "):
        check_labels(images, np.array([0, 0, 2]))
    with pytest.raises(UsageError, match="cat;dog and nothing: leave one out"):
        check_labels([Labelled("a", ("cat", "dog")), Labelled("b", ())], np.array([0, 0]))


def test_copies_and_groups_make_one_unit_directly_or_through_others() -> None:
    groups = ["x", "", "x", "y", "", "y", ""]
    images = [Labelled(str(number), ("a",), group) for number, group in enumerate(groups)]
    units = as_units(images, np.array([0, 0, 2, 2, 4, 5, 6])).tolist()  # 1 is a copy of 0, and 3 of 2
    assert len({units[number] for number in (0, 1, 2, 3, 5)}) == 1
    assert len(set(units)) == 3


def test_copies_do_not_flatter_the_head(here: Path, train: Invoke) -> None:
    """Labels at random: only copies across folds could be known."""
    generator = np.random.default_rng(0)
    for number in range(30):
        red, green, blue = generator.integers(0, 255, 3).tolist()
        for copy in range(4):
            paint(Path(f"noise/{'ab'[number % 2]}/{number}-{copy}.png"), (red, green, blue), number)
    code, out, err = train("noise", "-o", "model")
    assert code == 0
    assert "90 images are copies of others: copies stay in one fold" in err
    head = out.splitlines()[1].split("\t")
    assert float(head[1]) < 0.75
    assert "these images do not show that the linear head is better than always naming the most common class" in err


def test_groups_of_a_table_are_never_in_two_folds(here: Path, train: Invoke) -> None:
    """Each series has a colour of its own: a head knows it only if one of its images is in the training."""
    rows = []
    for series in range(12):
        red, green, blue = np.random.default_rng(series).integers(0, 255, 3).tolist()
        for number in range(6):
            paint(Path(f"series/{series}-{number}.png"), (red, green, blue), 100 * series + number)
            rows.append({"path": f"series/{series}-{number}.png", "label": "ab"[series % 2], "series": series})
    pd.DataFrame(rows).to_csv("t.csv", index=False)
    accuracies = []
    for extra in ((), ("--group-column", "series")):
        code, out, _ = train("--labels-from", "t.csv", "-o", "model", "--force", *extra)
        assert code == 0
        accuracies.append(float(out.splitlines()[1].split("\t")[1]))
    assert accuracies[0] > 0.95
    assert accuracies[1] < 0.8


def test_copies_of_training_images_are_not_tested(here: Path, train: Invoke) -> None:
    for name, colour in COLOURS.items():
        paint(Path(f"test/{name}/0.png"), colour, 0)  # as in labelled
        for number in range(20, 25):
            paint(Path(f"test/{name}/{number}.png"), colour, number)
    code, out, err = train("labelled", "--test", "test", "-o", "model")
    assert code == 0
    assert "3 images of the test are copies, or of groups, of images to train on: left out" in err
    lines = [line.split("\t") for line in out.splitlines()]
    (start,) = [number for number, line in enumerate(lines) if line[0] == "test: test"]
    assert lines[start + 1][:3] == ["linear head", "1.0000", "0.7961 to 1.0000"]  # 15 of 15
    assert "The test is `test`. This head has not seen its images." in Path("model/README.md").read_text()
