"""`evaluate --plots`."""

import io
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dinoclassify.results.evaluation.plots import _thinned, make_folder, write_plots
from dinoclassify.results.evaluation.thresholds import trace
from tests.helpers.guesses import SAMPLES, judge_many, tags
from tests.helpers.invoke import Invoke


@pytest.mark.parametrize("plot_format", ["png", "svg"])
def test_plots_are_drawn_and_reproducible(here: Path, tiny: str, invoke: Invoke, plot_format: str) -> None:
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


def test_missing_matplotlib_is_named(here: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.delitem(sys.modules, "dinoclassify.results.evaluation.plots", raising=False)
    code, out, err = invoke("evaluate", "test", "--plots", "plots")
    assert (code, out) == (2, "")
    assert err == "dinoclassify: plots need matplotlib: pip install 'dinoclassify[plots]'\n"


def test_plots_of_many_labels_have_no_matrix(tmp_path: Path) -> None:
    scores, truths = tags(40)
    found = judge_many(scores, truths, target=0.5)
    write_plots(str(tmp_path), found, "svg")
    assert {path.name for path in tmp_path.iterdir()} == {"reliability.svg", "threshold.svg"}
    lacking = replace(found, calibration=None)
    make_folder(str(tmp_path / "few"))
    write_plots(str(tmp_path / "few"), lacking, "svg")
    assert [path.name for path in (tmp_path / "few").iterdir()] == ["threshold.svg"]


def test_a_long_curve_is_drawn_with_its_ends() -> None:
    scores = np.linspace(1, 0, 20_000)
    thin = _thinned(trace(scores, scores > 0.5))
    assert len(thin.scores) == 5000
    assert (thin.scores[0], thin.scores[-1], thin.coverage[-1], thin.accuracy[-1]) == (1, 0, 1, 0.5)
