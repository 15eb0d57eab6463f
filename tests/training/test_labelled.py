"""Labelled images in folders and tables."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from dinoclassify.cli import run
from dinoclassify.discovery.labelled import Labelled, LabelTable, read_folders, read_table
from tests.helpers.colours import COLOURS, paint
from tests.helpers.invoke import Invoke
from tests.helpers.trained import weights


def test_unusual_class_names(here: Path, train: Invoke, capfd: pytest.CaptureFixture[str]) -> None:
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


def test_table_of_labels_gives_the_same_model_as_folders(here: Path, train: Invoke) -> None:
    table = pd.DataFrame(
        [{"file": f"{name}/{number}.png", "colour": name} for name in COLOURS for number in range(8)]
        + [{"file": "red/1.png", "colour": "red"}, {"file": "red/9.png", "colour": ""}]
    )
    for name in ("table.csv", "table.parquet"):
        getattr(table, f"to_{name.split('.')[1]}")(name, index=False)
        columns = ["--column", "file", "--label-column", "colour"]
        code, _, err = train("labelled", "--labels-from", name, *columns, "-o", name.replace(".", "-"))
        assert code == 0, err
        assert "1 row of table" in err
        assert "24 images: 24 ok" in err
    train("labelled", "-o", "folders")
    assert weights("table-csv") == weights("table-parquet") == weights("folders")


def test_unusable_images_are_reported_and_left_out(here: Path, train: Invoke) -> None:
    Path("labelled/red/text.png").write_text("no image")
    paint(Path("labelled/loose.png"), COLOURS["red"], 1)
    code, _, err = train("labelled", "-o", "model")
    assert code == 0
    assert "1 image lies in labelled itself, not in the folder of a class: left out" in err
    assert "labelled/red/text.png is left out: it is not an image" in err or "text.png is left out: " in err
    assert "25 images: 24 ok, 1 failed (1 not_image)" in err
    assert "1 could not be used and were left out (1 not_image)." in Path("model/README.md").read_text()
    listed = [f"labelled/{name}/{number}.png,{name}" for name in COLOURS for number in range(9)]
    Path("table.csv").write_text("\n".join(["path,label", *listed]))
    code, _, err = train("--labels-from", "table.csv", "-o", "other")
    assert code == 0
    assert "27 images: 24 ok, 3 failed (3 vanished)" in err
    assert "labelled/blue/8.png is left out: " in err


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
