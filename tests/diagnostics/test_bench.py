"""`bench`: all contestants, on the same images, and figures that follow from one another."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dinoclassify import UsageError
from dinoclassify.cli import run
from dinoclassify.diagnostics import core_time
from dinoclassify.diagnostics.bench import _decodable
from dinoclassify.diagnostics.contestants import Contestant, runtimes_of
from dinoclassify.diagnostics.core_time import CoreTime
from dinoclassify.diagnostics.ratios import int8_pays, ratios_of, start_ratios
from dinoclassify.diagnostics.report import Conditions, Figure, Report
from dinoclassify.diagnostics.rounds import Speed
from dinoclassify.diagnostics.start import Start
from dinoclassify.diagnostics.synthetic import make_images, save_random
from dinoclassify.models.open import open_model
from tests.conftest import PHOTOS


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bench takes less time, in this process."""
    monkeypatch.setattr(core_time, "SECONDS", 0.1)


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_bench_measures_everything_side_by_side(tiny: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    inputs = [str(PHOTOS), str(tmp_path / "broken.jpg")]
    assert run(["bench", *inputs, "-m", tiny, "--device", "cpu", "--rounds", "1", "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
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
    conditions = report["conditions"]
    assert (conditions["model"], conditions["images"], conditions["device"]) == (tiny, 5, "cpu")
    starts = {(start["name"], start["cache"]): start for start in report["starts"]}
    assert {("transformers pipeline", "warm"), ("dinoclassify, torch", "warm")} < set(starts)
    assert [cache for name, cache in starts if name != "transformers pipeline"][:2] == ["cold", "warm"]
    for figure in starts.values():
        assert 0.1 < figure["least"] <= figure["seconds"] <= figure["most"]
        assert 0.1 < figure["core_seconds"] < 100
        assert 50 < figure["megabytes"] < 5000
    ratio = starts["dinoclassify, torch", "warm"]["seconds"] / starts["transformers pipeline", "warm"]["seconds"]
    assert report["ratios"]["one image to the pipeline, time, torch"] == pytest.approx(ratio, abs=0.001)
    core = report["core_ms"]
    assert core["outside_model"] == pytest.approx(core["whole_run"] - core["model"], abs=0.02)
    assert min(core["decode_only"], core["without_model"]) > 0


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_bench_makes_images_prints_tables_and_compares_them(
    tiny: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["bench", "-m", tiny, "--random-weights", "--rounds", "1", "--limit", "4", "--megapixels", "0.05"]
    assert run([*command, "--json"]) == 0
    (tmp_path / "old.json").write_text(capfd.readouterr().out)
    assert run([*command, "--against", str(tmp_path / "old.json")]) == 0
    said = capfd.readouterr().out
    tables = said.split("\n\n")
    lines = tables[0].splitlines()
    assert lines[0] == "name\timages/s (median)\timages/s (least)\timages/s (most)"
    assert len(lines) > 6
    assert tables[1].startswith("start with one image\tcache\ts\ts (least)\ts (most)\tcore s\tMB (peak)\n")
    assert "4 images of 0.1 megapixels" in said or "4 images of 0.0 megapixels" in said
    assert "most of it in" in said
    assert "core time: " in said
    compared = tables[-1].splitlines()
    assert compared[:2] == [f"compared with {tmp_path}/old.json", "name\tunit\told\tnew\tnew/old"]
    assert any(line.startswith("start of transformers pipeline, warm\tMB\t") for line in compared)
    assert "differ" not in tables[-1]


def nothing(least: float) -> Speed:
    """A round that is not run."""
    pytest.fail("nothing is measured here")


CONDITIONS = Conditions("small", 64, 0.2, 1000, 1, "cpu", 2, "a processor", {"dinoclassify": "0.1"})


def test_bench_says_its_ratios_in_words() -> None:
    runtime: Any = SimpleNamespace(name="torch", precision="fp32")
    kinds: dict[Any, float] = {"pipeline": 1.0, "end to end": 6.3, "live": 6.3, "forward": 10.0}
    contestants = [Contestant(f"{kind} torch", kind, "fp32", nothing, [rate]) for kind, rate in kinds.items()]
    contestants += [Contestant("decode only", "limit", "-", nothing, [9.0])]
    contestants += [Contestant("matrix products", "limit", "fp32", nothing, [20.0])]
    for precision, rate in (("bf16", 10.0), ("int8", 20.0)):
        contestants.append(Contestant("x", "end to end", precision, nothing, [rate]))
    contestants.append(Contestant("x", "pipeline", "bf16", nothing, [2.0]))
    contestants.append(Contestant("stopped before", "forward", "bf16", nothing))
    ratios = ratios_of(contestants, runtime)
    figures = [Figure("x", 1.0, 1.0, 1.0)]
    report = Report("a machine", "images", CONDITIONS, 1, figures, ratios, {"decode": 1.0}, "decode", "")
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


def test_bench_says_what_one_image_takes_and_what_the_program_adds_to_the_model() -> None:
    starts = [
        Start("dinoclassify, openvino", "cold", 9.0, 9.0, 9.0, 9.0, 900.0, 3),
        Start("dinoclassify, openvino", "warm", 1.0, 0.9, 1.1, 1.0, 300.0, 3),
        Start("transformers pipeline", "warm", 5.0, 4.0, 6.0, 5.0, 600.0, 3),
    ]
    report = Report(
        "a machine", "images", CONDITIONS, 1, [], start_ratios(starts), {}, None, "", starts,
        CoreTime(38.0, 31.0, 7.0, 6.5, 3.7),
    )  # fmt: skip
    assert report.lines() == [
        "a machine",
        "images",
        "a warm run on one image with openvino takes 20 % of the time of the transformers pipeline",
        "a warm run on one image with openvino takes 50 % of the memory of the transformers pipeline",
        "core time: 7.0 ms an image outside the model (38.0 ms in the whole run, 31.0 ms in the model alone); "
        "a run without the model takes 6.5 ms, decoding alone 3.7 ms",
    ]
    assert start_ratios(starts[:2]) == [], "without the pipeline there is nothing to compare with"


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


def test_images_that_pillow_alone_cannot_open_are_left_out(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our workers decode HEIC, but the transformers pipeline would stop at it."""
    heif = pytest.importorskip("pillow_heif", reason="the extra heif is not installed")
    photo, heic = str(PHOTOS / "coffee.jpg"), str(tmp_path / "x.heic")
    with Image.open(photo) as image:
        heif.from_pillow(image).save(heic)
        area = image.width * image.height / 1e6
    Image.init()
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name != "HEIF"])  # as another test may leave it
    notes: list[str] = []
    files, megapixels, pixels = _decodable(open_model(tiny), [heic, photo, photo], notes)
    assert (files, megapixels, len(pixels)) == ([photo, photo], area, 2)
    assert notes == ["1 of 3 files cannot be decoded and were left out"]


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
    contestants = [Contestant(name, "end to end", name, nothing, [rate]) for name, rate in rates.items()]
    assert int8_pays(contestants) == pays


def test_int8_is_measured_on_the_bench_images_and_stores_no_verdict(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nncf", reason="the extra openvino is not installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    pixels = np.random.default_rng(0).integers(0, 256, (130, 3, 56, 56), np.uint8)
    for count, measured in [(130, True), (127, False)]:
        notes: list[str] = []
        runtimes = list(runtimes_of(open_model(tiny), ["cpu"], pixels[:count], notes))
        assert ("int8" in [runtime.precision for runtime in runtimes]) == measured
        said = (
            r"int8 gives the label of \w+ for \d+ of the 66 images it was checked on; "
            r"predict checks int8 on its own images"
        )
        assert re.fullmatch(
            said if measured else "int8 is not measured: it needs 128 images, use --limit 128", notes[0]
        )
    assert not [path for path in (tmp_path / "dinoclassify").iterdir() if path.name.startswith("int8")]
