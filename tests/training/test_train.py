"""`train`: what it learns, what it writes, and what it says of bad data."""

import json
import os
import shlex
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
import transformers as hf
from PIL import Image
from safetensors import SafetensorError

from dinoclassify import Classifier, Encoder
from dinoclassify.cli import run
from dinoclassify.cli.runs.signals import Stopped
from dinoclassify.discovery.labelled import Labelled, LabelTable, read_folders, read_table
from dinoclassify.models.image_model import ImageEncoder
from dinoclassify.storage.rename import exchange, replacing_folder
from dinoclassify.training.head import Head, Trained, train_head, train_multi, train_single
from dinoclassify.training.model_card import TrainingData, licence, write_card
from dinoclassify.types.run_options import RunOptions
from tests.helpers.checkpoints import FAMILIES

Invoke = Callable[..., tuple[int, str, str]]
COLOURS = {"blue": (30, 40, 200), "green": (20, 190, 60), "red": (210, 30, 40)}


def paint(path: Path, colour: tuple[int, int, int], number: int) -> None:
    """An image of about that colour, each another."""
    noise = np.random.default_rng(number).integers(-30, 31, (60, 80, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(path)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, with images of three colours, and a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, colour in COLOURS.items():
        for number in range(8):
            paint(Path(f"labelled/{name}/{number}.png"), colour, number)
    return tmp_path


@pytest.fixture
def train(tiny: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run the command in this process: (exit code, stdout, stderr)."""
    monkeypatch.setattr(
        "dinoclassify.training.head.STRENGTHS", (0.01, 0.1, 1.0)
    )  # all of them are tried by `train_head`

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        code = run(["train", "-m", tiny, "--runtime", "torch", *map(str, arguments)])
        return (code, *capfd.readouterr())

    return call


def weights(folder: str) -> bytes:
    return Path(folder, "model.safetensors").read_bytes()


def as_pipeline(folder: str, paths: list[str]) -> list[dict[str, float]]:
    """What transformers' pipeline makes of images: label -> score."""
    pipe = hf.pipeline("image-classification", model=folder, device="cpu", dtype=torch.float32)
    return [{one["label"]: one["score"] for one in answer} for answer in pipe(paths, top_k=None)]


def test_labelled_images_become_a_model(here: Path, train: Invoke, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = train("labelled", "-o", "my-model/")
    assert code == 0
    assert out.splitlines()[0] == "held out\taccuracy\t95 %\tmean F1"
    assert out.splitlines()[1].startswith("linear head\t1.0000\t")
    assert [line.split("\t")[0] for line in out.splitlines()[2:]] == ["nearest class mean", "5 nearest"]
    assert "24 images: 24 ok in" in err
    assert "3 classes -> my-model" in err
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
def test_every_family_is_what_transformers_loads(
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


def test_a_backbone_gets_a_head(here: Path, train: Invoke) -> None:
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
    assert "| linear head | 100.00% | 24 | 1.0000 |" in card
    assert "24 images of `labelled`. None had to be left out." in card


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("license: cc-by-4.0", "cc-by-4.0"),
        ("license: 'MIT'", "mit"),
        ("license: mit](https://evil.example)", "unknown"),
        ("license: <img/src=x>", "unknown"),
        ("license: `x`", "unknown"),
        ("license: -" + "a" * 70, "unknown"),
        ("license: " + "a" * 70, "unknown"),
        ("license:\n- mit", "unknown"),
        ("license_name: mit", "unknown"),
    ],
)
def test_the_licence_of_a_base_model_is_one_plain_name(tmp_path: Path, line: str, found: str) -> None:
    (tmp_path / "README.md").write_text(f"---\n{line}\n---\n# Base\n")
    assert licence(cast(ImageEncoder, SimpleNamespace(name="./x", folder=str(tmp_path), revision=None))) == found


def test_names_in_a_card_stay_code() -> None:
    base = SimpleNamespace(name="./`<img src=x>`\n# y", folder=None, revision="main")
    trained = SimpleNamespace(strengths=[1.0], holdout=[], warning=None)
    data = TrainingData("photos`]", 1, {"a": 1}, {})
    card = write_card(cast(ImageEncoder, base), data, cast(Trained, trained), settings={}, multi_label=False)
    assert "# 1 class on `` ./`<img src=x>`\\n# y ``\n" in card
    assert "1 image of `` photos`] ``." in card


def test_the_same_input_gives_the_same_head(here: Path, train: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    train("labelled", "-o", "one")
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "another-cache"))
    train("labelled", "-o", "two")
    assert weights("one") == weights("two")
    assert Path("one/README.md").read_text() == Path("two/README.md").read_text()


def test_features_are_made_once(here: Path, train: Invoke, tiny: str) -> None:
    train("labelled", "-o", "one")
    paint(Path("labelled/red/0.png"), COLOURS["red"], 1234)
    paint(Path("labelled/red/new.png"), COLOURS["red"], 5)
    code, _, err = train("labelled", "-o", "one", "--force")
    assert code == 0
    assert "25 images: 25 ok; 23 kept" in err
    train("labelled", "-o", "two", "--exact")  # other features
    assert "24 kept" not in err
    assert len(list((here / "cache" / "dinoclassify").glob("features-*.sqlite"))) == 2
    fresh = weights("one")
    shutil.rmtree(here / "cache")
    train("labelled", "-o", "one", "--force")
    kept, anew = (
        torch.frombuffer(bytearray(content[-4 * 64 * 3 :]), dtype=torch.float32) for content in (fresh, weights("one"))
    )
    assert torch.allclose(kept, anew, atol=1e-4)


def test_a_cache_that_cannot_be_written_is_no_obstacle(
    here: Path, train: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "file"))
    code, _, err = train("labelled", "-o", "model")
    assert code == 0
    assert "features cannot be kept in" in err


@pytest.mark.slow
def test_a_cache_that_is_damaged_or_full_is_no_obstacle(
    here: Path, train: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    train("labelled", "-o", "model")
    expected = weights("model")
    (database,) = (here / "cache" / "dinoclassify").glob("features-*.sqlite")
    content = bytearray(database.read_bytes())
    content[4096:] = b"x" * (len(content) - 4096)
    database.write_bytes(content)
    code, _, err = train("labelled", "-o", "model", "--force")
    assert (code, err.count("features cannot be kept in")) == (0, 1)
    assert "malformed" in err
    assert weights("model") == expected

    database.unlink()
    train("labelled", "-o", "model", "--force")
    with sqlite3.connect(database) as connection:
        for number, blob in enumerate((b"", b"abcd", b"\xff" * 256, None)):  # the third is NaN
            connection.execute("UPDATE features SET features = ? WHERE rowid % 4 = ?", (blob, number))
    connection.close()
    code, _, err = train("labelled", "-o", "model", "--force")
    assert (code, "Traceback" in err) == (0, False)
    assert weights("model") == expected

    class Full(sqlite3.Connection):
        def executemany(self, *_: object) -> sqlite3.Cursor:
            raise sqlite3.OperationalError("database or disk is full")

    database.unlink()
    connect = sqlite3.connect
    monkeypatch.setattr("sqlite3.connect", lambda *arguments, **named: connect(*arguments, **named, factory=Full))
    code, _, err = train("labelled", "-o", "model", "--force")
    assert (code, err.count("features cannot be kept in")) == (0, 1)
    assert "disk is full" in err
    assert "Traceback" not in err


def test_kept_features_go_with_what_they_were_made_with(here: Path, train: Invoke) -> None:
    train("labelled", "-o", "model")
    code, _, err = train("labelled", "-o", "model", "--force", "--max-pixels", "100")
    assert code == 2
    assert "too few has blue (0), green (0), red (0)" in err


def test_class_names_of_any_kind(here: Path, train: Invoke, capfd: pytest.CaptureFixture[str]) -> None:
    wild = [b"caf\xe9", b"<b>|`x`\n# y", "赤".encode()]
    for name, colour in zip(wild, COLOURS, strict=True):
        os.rename(f"labelled/{colour}".encode(), b"labelled/" + name)
    code, _, err = train("labelled", "-o", "model")
    assert code == 0, err
    labels = json.loads(Path("model/config.json").read_text())["id2label"]
    assert sorted(labels.values()) == sorted(["caf\\xe9", "<b>|`x`\n# y", "赤"])
    card = Path("model/README.md").read_text()
    assert "| &lt;b>&#124;`x`\\n# y | 8 |" in card.replace("&gt;", ">")
    assert run(["evaluate", "labelled", "-m", "./model", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["top1"]["right"] == 24


def test_a_table_of_labels(here: Path, train: Invoke) -> None:
    table = pd.DataFrame(
        [{"file": f"{name}/{number}.png", "colour": name} for name in COLOURS for number in range(8)]
        + [{"file": "red/1.png", "colour": "red"}, {"file": "red/9.png", "colour": ""}]
    )
    for name in ("table.csv", "table.parquet"):
        getattr(table, f"to_{name.split('.')[1]}")(name, index=False)
        columns = ["--column", "file", "--label-column", "colour"]
        code, _, err = train("labelled", "--labels-from", name, *columns, "-o", name.replace(".", "-"))
        assert code == 0, err
        assert "1 rows of table" in err
        assert "24 images: 24 ok" in err
    train("labelled", "-o", "folders")
    assert weights("table-csv") == weights("table-parquet") == weights("folders")


def test_images_that_cannot_be_used_are_named_and_left_out(here: Path, train: Invoke) -> None:
    Path("labelled/red/text.png").write_text("no image")
    paint(Path("labelled/loose.png"), COLOURS["red"], 1)
    code, _, err = train("labelled", "-o", "model")
    assert code == 0
    assert "1 images lie in labelled itself, not in the folder of a class, and are left out" in err
    assert "labelled/red/text.png is left out: it is not an image" in err or "text.png is left out: " in err
    assert "25 images: 24 ok, 1 failed (1 not_image)" in err
    assert "1 could not be used and were left out (1 not_image)." in Path("model/README.md").read_text()
    listed = [f"labelled/{name}/{number}.png,{name}" for name in COLOURS for number in range(9)]
    Path("table.csv").write_text("\n".join(["path,label", *listed]))
    code, _, err = train("--labels-from", "table.csv", "-o", "other")
    assert code == 0
    assert "27 images: 24 ok, 3 failed (3 vanished)" in err
    assert "labelled/blue/8.png is left out: " in err


def test_many_labels_an_image(here: Path, train: Invoke, capfd: pytest.CaptureFixture[str]) -> None:
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
        Classifier("./model", runtime="torch", precision="fp32").predict(paths, top_k=3, exact=True),
        strict=True,
    ):
        assert ";".join(name for name in ("red", "green", "blue") if answer[name] > 0.5) == row["label"]
        assert {label.label: label.score for label in prediction.top} == pytest.approx(answer, abs=1e-4)
    code, _, err = train("--labels-from", "table.csv", "-o", "other")
    assert "some labels of table.csv have a semicolon in them: --multi-label takes them apart" in err


def test_a_model_is_replaced_on_demand_and_anything_else_never(here: Path, train: Invoke) -> None:
    train("labelled", "-o", "model")
    before = weights("model")
    assert train("labelled", "-o", "model") == (2, "", "dinoclassify: model is there already: --force replaces it\n")
    assert weights("model") == before
    assert train("labelled", "-o", "model", "--force", "-q") == (0, "", "")
    Path("model/src").mkdir()
    code, _, err = train("labelled", "-o", "model", "--force")
    assert (code, err) == (2, "dinoclassify: model holds src beside a model: move that away, or choose another name\n")
    Path("model/src").rmdir()
    Path("empty").mkdir()
    assert train("labelled", "-o", "empty", "-q")[0] == 0
    Path("labelled/config.json").touch()
    for name in ("labelled", "labelled/red", "labelled/new"):
        code, _, err = train("labelled", "-o", name, "--force")
        assert (code, err) == (
            2,
            f"dinoclassify: {name} would lie among the images of labelled: choose another place\n",
        )
    assert len(list(Path("labelled").rglob("*.png"))) == 24
    for name in ("model/README.md", "."):
        code, _, err = train("labelled", "-o", name, "--force")
        assert (code, err) == (2, f"dinoclassify: {name} is there, and is not a model: choose another name\n")
    assert train("labelled", "-o", "no/model")[0] == 6


def test_a_write_that_fails_leaves_the_old_model(here: Path, train: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    train("labelled", "-o", "model")
    before = {path.name: path.read_bytes() for path in Path("model").iterdir()}

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def fail_to_write(*_: object, **__: object) -> None:
        raise SafetensorError("I/O error: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("transformers.PreTrainedModel.save_pretrained", fail_to_write)
        code, _, err = train("labelled", "-o", "model", "--force", "--seed", "1")
    assert (code, err) == (6, "dinoclassify: cannot write model: I/O error: No space left on device\n")
    for broken in (
        "dinoclassify.training.save._save_processor",
        "dinoclassify.storage.rename.fsync_path",
        "os.rename",
    ):
        with monkeypatch.context() as patch:
            patch.setattr(broken, fail)
            if broken == "os.rename":  # where two names cannot be exchanged at once
                patch.setattr("dinoclassify.storage.rename.exchange", lambda *_: False)
            code, _, err = train("labelled", "-o", "model", "--force", "--seed", "1")
        assert (code, err) == (6, "dinoclassify: cannot write model: No space left on device\n")
        assert {path.name: path.read_bytes() for path in Path("model").iterdir()} == before
        assert {path.name for path in here.iterdir()} == {"cache", "labelled", "model"}


@pytest.mark.parametrize("moment", [1, 2, 3])
def test_a_model_that_is_replaced_is_never_lost(here: Path, monkeypatch: pytest.MonkeyPatch, moment: int) -> None:
    """Where two names cannot be exchanged at once: an end, and a kill, before each of the renames."""
    monkeypatch.setattr("dinoclassify.storage.rename.exchange", lambda *_: False)
    rename = os.rename

    def write(content: str) -> None:
        with replacing_folder("model") as made:
            Path(made, "content").write_text(content)

    class Killed(BaseException):
        pass

    def stop(*names: str) -> None:
        calls.append(names)
        if len(calls) == moment:
            raise Stopped(15)
        rename(*names)

    write("old")
    calls: list[tuple[str, ...]] = []
    with monkeypatch.context() as patch:
        patch.setattr("os.rename", stop)
        with pytest.raises(Stopped):
            write("new")
    left = Path("model/content").read_text() if Path("model").exists() else "aside"
    assert left == {1: "old", 2: "old", 3: "new"}[moment]

    def die(*names: str) -> None:
        calls.append(names)
        if len(calls) >= moment:
            raise Killed
        rename(*names)

    calls.clear()
    shutil.rmtree("model")
    shutil.rmtree(".model.dinoclassify.old", ignore_errors=True)
    write("old")
    with monkeypatch.context() as patch:
        patch.setattr("os.rename", die)
        patch.setattr("shutil.rmtree", lambda *_, **__: None)
        with pytest.raises(Killed):
            write("new")
    kept = [path.read_text() for path in here.glob("*/content")] + [p.read_text() for p in here.glob(".*/content")]
    assert "old" in kept or Path("model/content").read_text() == "new"
    with pytest.raises(KeyError), replacing_folder("model"):
        raise KeyError
    assert Path("model/content").read_text() == ("new" if moment == 3 else "old")
    write("newest")
    assert set(os.listdir()) - {"cache"} == {"labelled", "model"}
    assert Path("model/content").read_text() == "newest"


def test_files_of_others_are_left_alone(here: Path, train: Invoke) -> None:
    others = [".model.new/x", ".model.new.old/x", "model.lock"]
    for name in others:
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("precious")
    assert train("labelled", "-o", "model")[0] == 0
    assert [Path(name).read_text() for name in others] == ["precious"] * 3


def test_names_are_exchanged_at_once(here: Path) -> None:
    for name in ("one", "two"):
        Path(name).mkdir()
        Path(name, name).touch()
    if not exchange("one", "two"):
        pytest.skip("this system cannot exchange two names at once")
    assert [os.listdir(name) for name in ("one", "two")] == [["two"], ["one"]]


@pytest.mark.parametrize(
    ("spoil", "arguments", "code", "message"),
    [
        ("rm -r labelled/red labelled/blue", "", 2, "all images are of one class, green"),
        ("mkdir labelled/empty", "", 2, "too few has empty (0)"),
        ("mkdir labelled/one && cp labelled/red/1.png labelled/one", "", 2, "too few has one (1)"),
        ("for file in labelled/red/*; do echo x > $file; done", "", 2, "too few has red (0)"),
        ("rm -r labelled", "", 4, "labelled is not there: "),
        ("rm -r labelled && touch labelled", "", 2, "labelled is not a folder"),
        ("rm -r labelled/*", "", 2, "labelled has no folders in it"),
        ("rm labelled/*/*.png", "", 4, "no images found in the folders of labelled"),
        ("printf 'path,label\na,x\n./a,y\n' > t.csv", "--labels-from t.csv", 2, "two things of labelled/./a, x and y"),
        (
            "printf 'path,label\\nred/1.png,\\n' > t.csv",
            "--labels-from t.csv --multi-label",
            2,
            "no image has a label",
        ),
        ("printf 'path,label\\nx\\0y,a\\n' > t.csv", "--labels-from t.csv", 2, "t.csv has a path with a NUL in it"),
        ("true", "-o ''", 2, "name a folder with --output"),
        ("echo path,label > t.csv", "--labels-from t.csv", 4, "t.csv has no images with labels"),
        ("echo path,class > t.csv", "--labels-from t.csv", 2, "no column label; choose one with --label-column: path"),
        ("touch t.txt", "--labels-from t.txt", 2, "t.txt is not a table: its name must end in .csv or .parquet"),
        ("true", "--labels-from t.csv", 2, "cannot read the list t.csv: it is not there: "),
        ("true", "--column file", 2, "--column and --label-column go with --labels-from"),
        ("true", "-m ./nothing", 5, "there is no folder ./nothing"),
        (
            "echo path,label > t.csv; for n in 1 2 3 4; do echo red/$n.png,red >> t.csv; done",
            "--labels-from t.csv --multi-label",
            2,
            "2 images must be without the label red",
        ),
    ],
)
def test_bad_data_is_named(here: Path, train: Invoke, spoil: str, arguments: str, code: int, message: str) -> None:
    subprocess.run(["bash", "-c", spoil], check=True)
    found, out, err = train("labelled", "-o", "model", *shlex.split(arguments))
    assert (found, out) == (code, "")
    assert message in err.splitlines()[-1]
    assert not Path("model").exists()


def test_a_run_that_is_stopped_goes_on(here: Path, tiny: str) -> None:
    """Stopped after some batches: the features of those are kept."""
    from dinoclassify.training.feature_cache import embed_once

    paths = sorted(str(path) for path in Path("labelled").rglob("*.png"))
    encoder = Encoder(tiny, runtime="torch")
    seen: list[int] = []
    options = RunOptions(batch_size=4, stop=lambda: len(seen) >= 8)
    for number, _, kept in embed_once(encoder, paths, options):
        assert not kept
        seen.append(number)
    assert 8 <= len(seen) < len(paths)
    again = [kept for _, _, kept in embed_once(encoder, paths, RunOptions(batch_size=4))]
    assert again == [True] * len(seen) + [False] * (len(paths) - len(seen))


def test_heads_are_those_of_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    generator = np.random.default_rng(0)
    classes = np.repeat(np.arange(4), [60, 50, 40, 7])
    features = (
        generator.normal(size=(len(classes), 12)) * 3 + 5 + classes[:, None] * generator.normal(size=12)
    ).astype(np.float32)
    for some in (classes >= 0, classes < 2):  # many classes, and two
        trained = train_single(features[some], classes[some])
        scaled = StandardScaler().fit_transform(features[some])
        model = LogisticRegression(C=trained.strengths[0], class_weight="balanced", max_iter=1000).fit(
            scaled, classes[some]
        )
        logits = torch.from_numpy(features[some] @ trained.head.weight.T + trained.head.bias)
        assert logits.softmax(1).numpy() == pytest.approx(model.predict_proba(scaled), abs=1e-3)
    marks = np.stack([classes % 2 == 0, classes > 1], axis=1)
    many = train_multi(features, marks, class_weight="none")
    scores = torch.from_numpy(features @ many.head.weight.T + many.head.bias).sigmoid().numpy()
    for label in range(2):
        scaled = StandardScaler().fit_transform(features)
        model = LogisticRegression(C=many.strengths[label], max_iter=1000).fit(scaled, marks[:, label])
        assert scores[:, label] == pytest.approx(model.predict_proba(scaled)[:, 1], abs=1e-3)


def test_a_head_that_neighbours_beat_is_warned_of_and_no_other() -> None:
    generator = np.random.default_rng(0)
    corners = np.repeat(
        [(0, 0), (1, 1), (0, 1), (1, 0)], 30, axis=0
    )  # two looks a class, crosswise: no line parts them
    features = (corners * 4 + generator.normal(size=corners.shape) / 4).astype(np.float32)
    crosswise, beside = np.repeat([0, 0, 1, 1], 30), corners[:, 0].astype(np.intp)
    assert train_single(features, beside).warning is None
    warning = train_single(features, crosswise).warning or ""
    assert "the 5 nearest images beat the linear head (94% against " in warning
    assert "one folder for each look" in warning
    assert train_single(features, np.arange(120) % 2).warning is None  # nobody knows these
    assert train_multi(features, np.stack([crosswise == 0, beside == 0], axis=1)).warning
    names = ("a", "b")
    assert train_head(features, [(names[index],) for index in crosswise], names).warning == warning


def test_the_warning_is_printed_and_in_the_card(here: Path, train: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dinoclassify.training.head.Trained.warning", "the neighbours are better")
    assert "dinoclassify: the neighbours are better\n" in train("labelled", "-o", "model")[2]
    assert "Beware: the neighbours are better." in Path("model/README.md").read_text()
    assert train("labelled", "-o", "model", "--force", "-q")[2] == ""


def test_rare_classes_count_as_much_as_common_ones_unless_they_shall_not() -> None:
    generator = np.random.default_rng(0)
    classes = np.repeat([0, 1], [400, 20])
    features = (generator.normal(size=(420, 4)) + classes[:, None] * 1.2).astype(np.float32)

    def recall(head: Head) -> float:
        logits = features @ head.weight.T + head.bias
        return float((logits.argmax(1) == 1)[classes == 1].mean())

    balanced, plain = (train_single(features, classes, class_weight=weight) for weight in ("balanced", "none"))
    assert recall(balanced.head) > recall(plain.head) + 0.2


def test_images_that_are_all_alike_are_learned_as_such() -> None:
    for features in (np.ones((4, 3), np.float32), np.repeat(np.eye(2, 3, dtype=np.float32), 2, axis=0)):
        trained = train_single(features, np.array([0, 0, 1, 1]))
        assert np.isfinite(trained.head.weight).all()
        assert [held.judged for held in trained.holdout] == [4, 4, 4]
    assert trained.holdout[0].right == trained.holdout[1].right == 4


def test_many_classes_of_few_images() -> None:
    generator = np.random.default_rng(0)
    classes = np.repeat(np.arange(60), 2)
    features = (np.eye(60)[classes] + generator.normal(size=(120, 60)) / 100).astype(np.float32)
    assert [held.right for held in train_single(features, classes).holdout[:2]] == [120, 120]


def test_folders_and_tables_are_read(tmp_path: Path) -> None:
    for path in ("b/1.jpg", "a/deep/2.jpg", "a/.hidden.jpg", ".c/3.jpg", "a/text.txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    root = f"{tmp_path}/"
    assert read_folders(root) == (
        [Labelled(f"{root}a/deep/2.jpg", ("a",)), Labelled(f"{root}b/1.jpg", ("b",))],
        ("a", "b"),
    )
    (tmp_path / "t.csv").write_text("path,label\n/x.jpg,b; a ;b\ny.jpg,\n")
    table = LabelTable(str(tmp_path / "t.csv"))
    assert read_table(table, "in", many=True) == [Labelled("/x.jpg", ("a", "b")), Labelled("in/y.jpg", ())]
    assert read_table(table) == [Labelled("/x.jpg", ("b; a ;b",))]
    (tmp_path / "t.csv").write_text("path,label\nx.jpg,cat \n./x.jpg, cat\ny.jpg, \n")
    assert read_table(table) == [Labelled("x.jpg", ("cat",))]


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
def test_digits(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """On a quarter held out: better than untuned and than 5 nearest neighbours, and the same by transformers."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.preprocessing import StandardScaler

    paths, classes = digits(here / "digits")
    learned, test = train_test_split(np.arange(len(paths)), test_size=0.25, random_state=0, stratify=classes)
    table = pd.DataFrame({"path": np.array(paths)[learned], "label": classes[learned]})
    table.to_csv("learned.csv", index=False)
    assert run(["train", "--labels-from", "learned.csv", "-m", "builtin", "-o", "model"]) == 0
    held_out = [paths[number] for number in test]
    predictions = list(Classifier("./model").predict(held_out))
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
    with capfd.disabled():
        print(f"\ndigits: {accuracy:.4f}; untuned {others[0]:.4f}, 5 nearest {others[1]:.4f}")
    assert accuracy >= 0.94
    assert accuracy > max(others)
    theirs = [max(answer, key=answer.__getitem__) for answer in as_pipeline("model", held_out)]
    assert [prediction.label for prediction in predictions] == theirs
