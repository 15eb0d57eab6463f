"""`--groups`: probabilities of classes, added up."""

import csv
import json
from collections import Counter
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from dinoclassify import Classifier
from dinoclassify.cli import run
from dinoclassify.errors import UsageError
from dinoclassify.labels.groups import fold_ranks, group_classes, group_finder, match_groups, read_groups
from dinoclassify.labels.imagenet import imagenet_ids, imagenet_labels
from dinoclassify.pipeline import fold_into_groups
from dinoclassify.types.prediction import Label, Prediction
from tests.conftest import PHOTOS


def groups_file(*rows: str, head: str = "label,group") -> str:
    Path("groups.csv").write_text("\n".join([head, *rows]))
    return "groups.csv"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_class_of_imagenet_is_in_exactly_one_everyday_group() -> None:
    text = resources.files("dinoclassify.labels").joinpath("everyday_groups.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    assert [row["wnid"] for row in rows] == list(imagenet_ids(imagenet_labels()))
    assert [row["label"] for row in rows] == list(imagenet_labels())
    counts = Counter(row["group"] for row in rows)
    assert len(counts) == 22
    assert min(counts.values()) >= 3
    assert counts["dog"] == 118, "the breeds"
    assert counts["cat"] == 5


@pytest.mark.parametrize(
    ("label", "group"),
    [
        ("tench", "fish"),
        ("great white shark", "fish"),
        ("134", "bird"),
        ("517", "tool"),
        ("timber wolf", "mammal"),
        ("killer whale", "mammal"),
        ("Siamese cat", "cat"),
        ("tarantula", "insect or spider"),
        ("starfish", "sea animal"),
        ("volcano", "landscape"),
        ("espresso", "food"),
        ("espresso maker", "kitchen"),
        ("fire engine", "vehicle"),
        ("scuba diver", "person"),
        ("Egyptian cat", "cat"),
        ("laptop", "electronics"),
        ("sunglasses", "clothing"),
        ("daisy", "plant"),
    ],
)
def test_everyday_groups_are_what_people_expect(label: str, group: str) -> None:
    groups = read_groups("everyday")
    found = match_groups([label], groups, imagenet_labels(), "a model")
    assert groups.names[found[label]] == group


def test_the_score_of_a_group_is_the_sum_of_its_classes(here: Path) -> None:
    photo = str(PHOTOS / "chelsea.jpg")
    (classes,) = Classifier("builtin").predict(photo, top_k=1000)
    classifier = Classifier("builtin", groups="everyday")
    (groups,) = classifier.predict(photo, top_k=22)
    assert classifier.group_of is not None
    sums: Counter[str] = Counter()
    for rank in classes.top:
        sums[classifier.labels[classifier.group_of[rank.index]]] += rank.score  # type: ignore[assignment]  # counts floats
    assert {rank.label: rank.score for rank in groups.top} == pytest.approx(dict(sums), abs=1e-5)
    assert [rank.score for rank in groups.top] == sorted((rank.score for rank in groups.top), reverse=True)
    assert sum(rank.score for rank in groups.top) == pytest.approx(1, abs=1e-4)
    assert groups.label == "cat"
    assert groups.score is not None
    assert classes.score is not None
    assert groups.score > classes.score + 0.3, "four cats share what one has alone"


def test_classes_without_a_group_become_other(here: Path) -> None:
    name = groups_file("tabby,cat", "Egyptian cat,cat")
    classifier = Classifier("builtin", groups=name)
    assert classifier.labels == ("cat", "other")
    labels = [row.label for row in classifier.predict([PHOTOS / "chelsea.jpg", PHOTOS / "coffee.jpg"])]
    assert labels == ["cat", "other"]


@pytest.mark.parametrize(
    ("head", "rows"),
    [
        ("label,group", ["espresso,drink", "tripod,thing"]),
        ("group,index", ["drink,967", "thing,872"]),
        ("wnid,label,group", ["n07920052,whatever,drink", "n04485082,,thing"]),
    ],
)
def test_groups_name_classes_by_label_index_or_wordnet_id(head: str, rows: list[str], here: Path) -> None:
    found = Classifier("builtin", groups=groups_file(*rows, head=head)).predict(
        [PHOTOS / "coffee.jpg", PHOTOS / "camera.jpg"]
    )
    assert [row.label for row in found] == ["drink", "thing"]


def test_a_group_of_a_multi_label_model_has_its_best_score() -> None:
    probabilities = np.array([[0.9, 0.8, 0.1], [0.1, 0.2, 0.3]], np.float32)
    members = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    best = fold_into_groups(probabilities, members=members, multi_label=True)
    np.testing.assert_allclose(best, [[0.9, 0.1], [0.2, 0.3]], rtol=1.3e-6, atol=1e-5)
    sums = fold_into_groups(probabilities, members=members, multi_label=False)
    np.testing.assert_allclose(sums, [[1.0, 0.1], [0.3, 0.3]], rtol=1.3e-6, atol=1e-5)


def test_more_ranks_than_groups_give_fewer_columns(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("bad.jpg").touch()
    name = groups_file("espresso,drink")
    assert run(["predict", "bad.jpg", str(PHOTOS / "coffee.jpg"), "-m", "builtin", "--groups", name, "-k", "9"]) == 3
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].startswith("path,status,label,score,index,label_2,score_2,index_2,error_code")
    assert ",ok,drink,0.9" in lines[2]


def test_a_run_with_other_groups_is_not_resumed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["predict", str(PHOTOS / "coffee.jpg"), "-m", "builtin", "-o", "labels.csv", "--resume", "--groups"]
    assert run([*command, groups_file("espresso,drink", "tripod,thing")]) == 0
    assert run([*command, "groups.csv"]) == 0
    assert run([*command, groups_file("tripod,drink", "espresso,thing")]) == 2
    assert "was made with other --groups: use the same --groups as before, " in capsys.readouterr().err
    assert run(command[:-1]) == 2
    assert "was made with --groups: use the same --groups as before, " in capsys.readouterr().err
    assert json.loads(Path("labels.csv.meta.json").read_text())["model"]["labels"] == 3
    assert run(["predict", str(PHOTOS / "coffee.jpg"), "-m", "builtin", "-o", "plain.csv"]) == 0
    capsys.readouterr()
    assert run([*command[:4], "-o", "plain.csv", "--resume", "--groups", "groups.csv"]) == 2
    said = "plain.csv was made without --groups: leave out --groups, name another -o, or start over with --fresh"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rows", "head", "message"),
    [
        (["nothing,x"], "label,group", "nothing is not among the 1,000 classes of builtin, which groups.csv groups"),
        (["tench,x", "tench,y"], "label,group", "puts tench into x and into y"),
        (["tench,"], "label,group", ": line 2 lacks a class or its group: add it"),
        (["tench"], "label,group", ": line 2 lacks a class or its group: add it"),
        (["tench,x"], "class,group", "needs a column group, and a column wnid, index or label for the class"),
        (["crane,x"], "label,group", "crane is the name of classes 134 and 517"),
        (["tench,x", "TENCH,y"], "label,group", "puts TENCH, class 0 of builtin, into x and into y"),
        (
            ["tench,goldfish", "goldfish,fish"],
            "label,group",
            "goldfish is a group, and also a class in the group fish: rename one",
        ),
    ],
)
def test_contradictory_groups_are_refused(rows: list[str], head: str, message: str, here: Path) -> None:
    with pytest.raises(UsageError, match=message):
        Classifier("builtin", groups=groups_file(*rows, head=head))


def test_unreadable_group_files_are_refused(here: Path, tiny: str) -> None:
    with pytest.raises(UsageError, match=r"nothing\.csv is not there: check its name"):
        read_groups("nothing.csv")
    Path("bytes.csv").write_bytes(b"label,group\n\xff,\xfe\n")
    with pytest.raises(UsageError, match="cannot read the groups"):
        read_groups("bytes.csv")
    with pytest.raises(UsageError, match="which everyday groups"):
        Classifier(tiny, groups="everyday")


def test_rows_find_their_group_by_label_index_or_id(here: Path) -> None:
    find = group_finder(everyday := read_groups("everyday"))
    names = everyday.names
    assert names[find(Label("tench, Tinca tinca", 0, 0.5))] == "fish"
    assert names[find(Label("tench", 0, 0.5))] == "fish", "as other models call it"
    assert names[find(Label("tench", 5, 0.5))] == "other", "not a class of ImageNet"
    assert names[find(Label("vehicle", 11, 0.5))] == "vehicle"
    by_index = group_finder(groups := read_groups(groups_file("0,x", "3,y", head="index,group")))
    assert groups.names[by_index(Label("whatever", 3, 0.5))] == "y"
    assert groups.names[by_index(Label("x", 3, 0.5))] == "x", "it is a group"


def test_an_unknown_imagenet_class_is_found_in_rows(here: Path) -> None:
    find = group_finder(read_groups(groups_file("tenhc,fish")))
    with pytest.raises(UsageError, match="tenhc is not among the 1,000 classes of ImageNet"):
        find(Label("tench, Tinca tinca", 0, 0.5))


def test_ranks_of_a_row_are_added_up_by_group() -> None:
    groups = read_groups("everyday")
    ranks = (
        Label("tench, Tinca tinca", 0, 0.4),
        Label("tabby, tabby cat", 281, 0.3),
        Label("tiger cat", 282, 0.2),
    )
    folded = fold_ranks(Prediction("x", "ok", ranks), groups.names, group_finder(groups))
    assert [(rank.label, rank.score) for rank in folded.top] == [("cat", 0.5), ("fish", 0.4)]
    folded = fold_ranks(Prediction("x", "ok", ranks), groups.names, group_finder(groups), multi_label=True)
    assert [(rank.label, rank.score) for rank in folded.top] == [("fish", 0.4), ("cat", 0.3)]


def test_evaluate_scores_groups(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = {
        "camera": "n04485082",
        "chelsea": "cat",
        "coffee": "espresso",
        "motorcycle_left": "665",
        "rocket": "vehicle",
    }
    Path("truth.csv").write_text(
        "\n".join(["path,label", *(f"{PHOTOS}/{name}.jpg,{label}" for name, label in truth.items())])
    )
    judge = ["evaluate", "--labels-from", "truth.csv", "--groups", "everyday", "--json"]
    assert run([*judge, "-m", "builtin"]) == 0
    by_model = json.loads(capsys.readouterr().out)
    assert (by_model["top1"]["right"], by_model["top1"]["total"]) == (4, 5), "the rocket is a missile, a tool"
    for groups in (["--groups", "everyday"], ["-k", "5"]):
        assert run(["predict", str(PHOTOS), "--exclude", "*.md", "-m", "builtin", "-o", "rows.csv", *groups]) == 0
        capsys.readouterr()
        assert run([*judge, "--predictions", "rows.csv"]) == 0
        assert json.loads(capsys.readouterr().out)["top1"]["right"] == 4
    assert run([*judge, "--multi-label"]) == 2
    Path("truth.csv").write_text(f"path,label\n{PHOTOS}/rocket.jpg,other\n")
    capsys.readouterr()
    assert run([*judge, "-m", "builtin"]) == 0
    assert json.loads(capsys.readouterr().out)["top1"]["right"] == 0


def test_groups_of_a_model_with_custom_classes(here: Path, checkpoints: Callable[[str], Path]) -> None:
    classifier = Classifier(str(checkpoints("dinov2")))
    first, second, *_ = classifier.labels
    name = groups_file(f'"{first}",a', f'"{second}",b')
    groups = read_groups(name)
    assert group_classes(groups, classifier.labels, "it")[:3] == [0, 1, 2]
    (row,) = Classifier(str(checkpoints("dinov2")), groups=name).predict(PHOTOS / "coffee.jpg", top_k=3)
    (classes,) = classifier.predict(PHOTOS / "coffee.jpg", top_k=len(classifier.labels))
    of_class = {rank.label: rank.score for rank in classes.top}
    of_group = {rank.label: rank.score for rank in row.top}
    assert of_group["a"] == pytest.approx(of_class[first], abs=1e-5)
