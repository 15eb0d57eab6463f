"""`bench`: all contestants, on the same images, and figures that follow from one another."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from dinoclassify import UsageError
from dinoclassify.cli import run
from dinoclassify.diagnostics.bench import Figure, Report, _int8_pays, _ratios
from dinoclassify.diagnostics.contestants import Contestant, runtimes_of
from dinoclassify.diagnostics.synthetic import make_images, save_random
from dinoclassify.models.open import open_model
from tests.conftest import PHOTOS, Cli


@pytest.mark.slow
def test_bench_measures_everything_side_by_side(cli: Cli, tiny: str, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    done = cli("bench", PHOTOS, tmp_path / "broken.jpg", "-m", tiny, "--device", "cpu", "--rounds", "2", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    names = [figure["name"] for figure in report["figures"]]
    assert names[:2] == ["transformers pipeline, fp32, batch 1", "transformers pipeline, fp32, batch 8"]
    assert report["ratios"]["a list on stdin to a folder"] > 0
    assert {"torch fp32", "forward only, torch fp32", "matrix products in fp32"} <= set(names)
    assert sum(name.startswith("decode only") for name in names) == 1
    for figure in report["figures"]:
        assert 0 < figure["least"] <= figure["median"] <= figure["most"]
    assert sum(report["stages"].values()) == pytest.approx(1, abs=0.001)
    assert report["bottleneck"] == max(report["stages"], key=report["stages"].__getitem__)
    by_name = {figure["name"]: figure["median"] for figure in report["figures"]}
    pipelines = max(by_name[names[0]], by_name[names[1]])
    ours = max(rate for name, rate in by_name.items() if name.startswith("torch"))
    rounded = pytest.approx(ours / pipelines, rel=0.02, abs=0.0005)  # it has three decimals
    assert report["ratios"]["torch to the pipeline in fp32"] == rounded
    assert "1 of 6 files cannot be decoded and were left out" in report["notes"]
    assert any("int8" in note for note in report["notes"]), "what is not measured has its reason"


@pytest.mark.slow
def test_bench_makes_images_and_prints_a_table(cli: Cli, tiny: str) -> None:
    done = cli("bench", "-m", tiny, "--random-weights", "--rounds", "1", "--limit", "4", "--megapixels", "0.05")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    assert lines[0] == "name\timages/s (median)\timages/s (least)\timages/s (most)"
    assert len(lines) > 6
    said = done.stdout.decode()
    assert "4 images of 0.1 megapixels" in said or "4 images of 0.0 megapixels" in said
    assert "most of it in" in said


def test_bench_says_its_ratios_in_words() -> None:
    runtime: Any = SimpleNamespace(name="torch", precision="fp32")
    kinds: dict[Any, float] = {"pipeline": 1.0, "end to end": 6.3, "live": 6.3, "forward": 10.0}
    contestants = [Contestant(f"{kind} torch", kind, "fp32", float, [rate]) for kind, rate in kinds.items()]
    contestants += [Contestant("decode only", "limit", "-", float, [9.0])]
    contestants += [Contestant("matrix products", "limit", "fp32", float, [20.0])]
    for precision, rate in (("bf16", 10.0), ("int8", 20.0)):
        contestants.append(Contestant("x", "end to end", precision, float, [rate]))
    contestants.append(Contestant("x", "pipeline", "bf16", float, [2.0]))
    ratios = _ratios(contestants, runtime)
    figures = [Figure("x", 1.0, 1.0, 1.0)]
    report = Report("a machine", "images", figures, ratios, {"decode": 1.0}, "decode", "", [])
    assert report.as_json()["ratios"] == {
        "to the pipeline in fp32": 6.3,
        "to the pipeline in bf16": 3.15,
        "a list on stdin to a folder": 1.0,
        "end to end to forward only": 0.63,
        "end to end to the lesser of forward and decode only": 0.7,
        "forward only to matrix products": 0.5,
        "torch to the pipeline in fp32": 6.3,
        "int8 to bf16, end to end": 2.0,
    }
    assert report.lines()[2:-1] == [
        "the whole run is 6.30 times as fast as the transformers pipeline in fp32",
        "the whole run is 3.15 times as fast as the transformers pipeline in bf16",
        "a list on stdin reaches 100 % of the speed of a folder",
        "the whole run reaches 63 % of the model alone (forward only)",
        "the whole run reaches 70 % of its slower half, the model or the decoding alone",
        "the model alone (forward only) reaches 50 % of its matrix products alone",
        "the whole run with torch is 6.30 times as fast as the transformers pipeline in fp32",
        "the whole run in int8 is 2.00 times as fast as that in bf16",
    ]


def test_bench_without_images_is_refused(tiny: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    assert run(["bench", str(tmp_path / "broken.jpg"), "-m", tiny]) == 4
    capfd.readouterr()
    assert run(["bench", str(tmp_path / "*.png"), "-m", "some/model"]) == 4, "before the model is opened"
    assert capfd.readouterr().err == f"dinoclassify: nothing matches {tmp_path}/*.png: check the pattern\n"
    (tmp_path / "empty").mkdir()
    assert run(["bench", str(tmp_path / "empty"), "-m", tiny]) == 4
    cure = "name others, or none to measure on images that bench makes"
    assert capfd.readouterr().err.endswith(f"dinoclassify: no images in {tmp_path}/empty: {cure}\n")
    assert run(["bench", "-m", "some/model", "--random-weights"]) == 2
    assert "--random-weights goes with small" in capfd.readouterr().err


def test_synthetic_images_have_the_requested_size(tmp_path: Path) -> None:
    (path,) = make_images(str(tmp_path), 1, 0.3)
    with Image.open(path) as image:
        assert image.width * image.height == pytest.approx(300_000, rel=0.01)


def test_random_weights_are_the_same_every_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_random("small-reg", str(tmp_path / name))
    one, two = (open_model(str(tmp_path / name)) for name in ("one", "two"))
    assert one.digest() == two.digest()
    assert len(one.labels) == 1000
    assert sum(parameter.numel() for parameter in one.load().parameters()) == pytest.approx(22.8e6, rel=0.02)
    assert one.preprocessing.output_size == (224, 224)


def test_random_weights_need_an_architecture(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="goes with small"):
        save_random("builtin", str(tmp_path))


@pytest.mark.parametrize(("rate", "pays"), [(20.0, True), (10.5, False), (None, False)])
def test_int8_is_recommended_where_it_was_measured_to_be_faster(rate: float | None, pays: bool) -> None:
    rates = {"bf16": 10.0, "fp32": 5.0} | ({"int8": rate} if rate else {})
    contestants = [Contestant(name, "end to end", name, float, [rate]) for name, rate in rates.items()]
    assert _int8_pays(contestants) == pays


def test_int8_is_measured_on_the_bench_images_and_stores_no_verdict(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nncf", reason="the extra openvino is not installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    pixels = torch.randint(0, 256, (130, 3, 56, 56), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    for count, measured in [(130, True), (127, False)]:
        notes: list[str] = []
        runtimes = list(runtimes_of(open_model(tiny), [torch.device("cpu")], pixels[:count], notes))
        assert ("int8" in [runtime.precision for runtime in runtimes]) == measured
        said = (
            r"int8 gives the label of \w+ for \d+ of the 66 images it was checked on; "
            r"predict checks int8 on its own images"
        )
        assert re.fullmatch(
            said if measured else "int8 is not measured: it needs 128 images, use --limit 128", notes[0]
        )
    assert not [path for path in (tmp_path / "dinoclassify").iterdir() if path.name.startswith("int8")]
