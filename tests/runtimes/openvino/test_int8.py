"""int8: checked against the precision before, kept with its verdict, and refused where it is no gain."""

import json
import re
import shutil
import time
from collections.abc import Sequence
from math import comb
from pathlib import Path
from typing import cast
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from dinoclassify.cli import run
from dinoclassify.decoding.batch import Pixels
from dinoclassify.models.image_model import ImageClassifier
from dinoclassify.models.open import open_model
from dinoclassify.runtimes.base import Outputs, PendingOutput, Runtime
from dinoclassify.system.processor import cpu_has_bf16
from tests.conftest import PHOTOS

pytest.importorskip("openvino", reason="the extra openvino is not installed")

from dinoclassify.runtimes.openvino import int8
from dinoclassify.runtimes.openvino.int8 import CHECK, Int8Runtime, Verdict, measure_speed
from dinoclassify.runtimes.openvino.network import converted
from dinoclassify.runtimes.openvino.runtime import OpenVINORuntime
from tests.helpers.networks import random_images
from tests.helpers.toy import in_batches


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What int8 says; NNCF changes the handlers of logs."""
    said: list[str] = []
    monkeypatch.setattr(int8.log, "warning", lambda text, *words: said.append(text % words))
    return said


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """Have int8 make do with few images, and give how many it waits for, about."""
    for name, number in [("CALIBRATION", 8), ("CALIBRATION_EVERY", 4), ("CHECK", 40), ("CHECK_EVERY", 2)]:
        monkeypatch.setattr(int8, name, number)
    monkeypatch.setattr(int8, "AGREEMENT", 0.5)
    return 8 * 4 + 40 * 2


@pytest.fixture(autouse=True)
def _int8_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """int8 counts as faster, whatever the processor and though tiny models gain nothing."""
    monkeypatch.setattr(int8, "measure_speed", lambda *_: 1.5)


def run_through(runtime: Int8Runtime, pixels: Pixels) -> list[str]:
    """The precision before each batch of 4."""
    found: list[str] = []
    for batch in in_batches(pixels, 4):
        found.append(runtime.precision)
        runtime([batch])()
    return found


def zeros(parts: Sequence[Pixels]) -> PendingOutput:
    return lambda: np.zeros((sum(map(len, parts)), 7), np.float32)


@pytest.mark.parametrize("accepted", [True, False])
def test_sample_is_checked_and_the_verdict_kept(
    accepted: bool, tiny: str, cache: Path, few: int, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nncf")
    monkeypatch.setattr(int8, "AGREEMENT", 0.5 if accepted else 1.01)
    classifier = open_model(tiny)
    runtime, pixels = Int8Runtime(classifier), random_images(classifier, 3 * few)
    before = "bf16" if cpu_has_bf16() else "fp32"
    found = run_through(runtime, pixels)
    assert runtime.precision == ("int8" if accepted else before)
    if accepted:
        assert few / 2 < 4 * found.index("int8") < 2 * few
    assert said[0] == f"int8 is not ready: a run answers in {before} until it has seen about {few} images"
    assert said[1] == f"quantising {tiny} to int8 on 8 images, once: about 20 s"
    assert len(said) == 3
    said.clear()
    again = Int8Runtime(classifier)
    assert (again.precision, again.verdict) == (runtime.precision, runtime.verdict)
    assert len(said) == 1, "the verdict is said again, and nothing is quantised"
    assert said[0].startswith(f"int8 gives the label of {before} for ")
    assert said[0].endswith("checked on" if accepted else f"going on in {before} (dinoclassify guide speed)")
    torch.testing.assert_close(again([pixels])(), runtime([pixels])())
    if accepted:
        reference = OpenVINORuntime(classifier, "fp32")([pixels])()
        same = (again([pixels])().argmax(1) == reference.argmax(1)).mean()
        assert same > 0.5


def test_sample_is_spread_and_the_same_in_every_run(
    tiny: str, cache: Path, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images are numbered by their shade, and all get one label."""
    pytest.importorskip("nncf")
    classifier = open_model(tiny)
    numbered = np.arange(200, dtype=np.uint8).reshape(-1, 1, 1, 1).repeat(3, 1).repeat(56, 2).repeat(56, 3)
    samples = []
    for _ in range(2):
        shutil.rmtree(cache, ignore_errors=True)
        quantised: list[int] = []
        checked: list[int] = []

        def quantise(model: ImageClassifier, images: Pixels, folder: Path, quantised: list[int] = quantised) -> None:
            quantised += images[:, 0, 0, 0].tolist()
            shutil.copytree(converted(model), folder, dirs_exist_ok=True)

        def look(parts: Sequence[Pixels], checked: list[int] = checked) -> PendingOutput:
            checked.extend(shade for part in parts for shade in part[:, 0, 0, 0].tolist())
            return zeros(parts)

        monkeypatch.setattr(int8, "quantise", quantise)
        runtime = Int8Runtime(classifier)
        monkeypatch.setattr(runtime, "_runtime", lambda parts: zeros(parts))
        runtime._runtime.precision = "bf16"
        monkeypatch.setattr(runtime, "_in_int8", lambda network, look=look: Mock(side_effect=look))
        for batch in in_batches(numbered, 2):
            runtime([batch])()
        assert runtime.verdict is not None
        assert runtime.verdict.same == runtime.verdict.of
        checked = checked[: runtime.verdict.of]  # and from then on all are answered so
        samples.append((quantised, checked))
    assert samples[0] == samples[1]
    assert len(quantised) == int8.CALIBRATION
    assert max(quantised) - min(quantised) > 2 * int8.CALIBRATION
    assert len(checked) >= int8.CHECK
    assert max(checked) - min(checked) > 1.5 * int8.CHECK
    assert not set(quantised) & set(checked), "it is checked on others"


def test_check_tells_good_networks_from_bad_ones() -> None:
    """The lower end of the confidence interval decides, on enough images to leave little to chance."""

    def passes(share: float) -> float:
        allowed = [miss for miss in range(CHECK + 1) if Verdict(CHECK - miss, CHECK, "bf16").accepted]
        return sum(comb(CHECK, miss) * (1 - share) ** miss * share ** (CHECK - miss) for miss in allowed)

    assert Verdict(989, 1000, "bf16").accepted
    assert not Verdict(988, 1000, "bf16").accepted
    assert not Verdict(100, 100, "bf16").accepted, "of a hundred, all may well be the same by chance"
    assert passes(0.992) > 0.85
    assert passes(0.98) < 0.025
    assert passes(0.97) < 0.0001


def test_bad_network_is_refused_as_soon_as_certain(
    tiny: str, cache: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nncf")
    runtime = Int8Runtime(open_model(tiny))
    monkeypatch.setattr(runtime, "_candidate", lambda parts: lambda: zeros(parts)() + np.arange(7, dtype=np.float32))
    monkeypatch.setattr(runtime, "_runtime", lambda parts: zeros(parts))
    runtime._runtime.precision = "bf16"
    for _ in range(200):
        runtime([np.zeros((1, 3, 56, 56), np.uint8)])()
    assert runtime.verdict == Verdict(0, 12, "bf16"), "with 12 others of 1000 it cannot pass"
    doubt = "(0.0 to 24.2 % of all, at 95 % confidence; 98 % are required)"
    refused = f"int8 gives the label of bf16 for 0 of the 12 images it was checked on {doubt}"
    assert said[1:] == [f"{refused}: int8 is not used, going on in bf16 (dinoclassify guide speed)"]


def test_no_check_if_int8_is_not_faster(
    tiny: str, cache: Path, few: int, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nncf")
    timed: list[int] = []

    def measure(_: object, __: object, pixels: Pixels) -> float:
        timed.append(len(pixels))
        return 0.9

    monkeypatch.setattr(int8, "measure_speed", measure)
    classifier = open_model(tiny)
    runtime = Int8Runtime(classifier)
    before = runtime.precision
    run_through(runtime, random_images(classifier, few))
    assert (runtime.precision, runtime.verdict) == (before, Verdict(0, 0, before))
    assert timed == [runtime.batch_size], "and not a batch of any size"
    assert said[2:] == [f"int8 is no faster than {before} on this machine: going on in {before}"]
    monkeypatch.setattr(int8, "measure_speed", lambda *_: 1.5)
    assert Int8Runtime(classifier).verdict == Verdict(0, 0, before), "it is kept"
    assert said[3:] == said[2:3]


def test_verdict_holds_for_one_processor(
    tiny: str, cache: Path, few: int, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many machines may share a home folder."""
    pytest.importorskip("nncf")
    classifier = open_model(tiny)
    run_through(Int8Runtime(classifier), random_images(classifier, 3 * few))
    assert Int8Runtime(classifier).verdict is not None
    with monkeypatch.context() as patch:
        patch.setattr(int8, "cpu_identity", lambda: "another")
        assert Int8Runtime(classifier).verdict is None
    monkeypatch.setattr(int8, "available_cpus", lambda: 1000)
    assert Int8Runtime(classifier).verdict is None


def test_resume_after_the_verdict_continues_in_int8(
    tiny: str, cache: Path, few: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verdict comes in the middle of a run; the next run begins in int8."""
    pytest.importorskip("nncf")
    (tmp_path / "photos").mkdir()
    output = str(tmp_path / "out.csv")
    command = ["predict", str(tmp_path / "photos"), "-m", tiny, "--precision", "int8", "--resume", "-o", output]
    for number in range(3 * few):
        shutil.copyfile(PHOTOS / "coffee.jpg", tmp_path / "photos" / f"{number:03}.jpg")
    assert run(command) == 0
    shutil.copyfile(PHOTOS / "coffee.jpg", tmp_path / "photos" / "more.jpg")
    assert run(command) == 0
    assert json.loads((tmp_path / "out.csv.meta.json").read_text())["precision"] == "int8"


def test_speed_is_measured_in_pairs_of_runs() -> None:
    class Paced:
        def __init__(self, seconds: float) -> None:
            self.seconds = seconds

        def __call__(self, parts: Sequence[Pixels]) -> PendingOutput:
            def answer() -> Outputs:
                time.sleep(self.seconds)
                return zeros(parts)()

            return answer

    two = np.zeros((2, 3, 8, 8), np.uint8)
    slow, fast = cast(Runtime, Paced(0.01)), cast(Runtime, Paced(0.0))
    assert measure_speed(fast, slow, two) > 2
    assert measure_speed(slow, fast, two) < 0.5


def test_verdict_holds_for_one_network(tiny: str, cache: Path, few: int, said: list[str]) -> None:
    """A run that ends before the verdict leaves the network; a verdict without its network counts for nothing."""
    pytest.importorskip("nncf")
    classifier = open_model(tiny)
    pixels = random_images(classifier, 3 * few)
    first = Int8Runtime(classifier)
    while first._candidate is None:
        first([pixels[:4]])()
    said.clear()
    run_through(Int8Runtime(classifier), pixels)
    assert re.search("about 80 images$", said[0]), "it goes on with the check"
    assert len(said) == 2
    assert said[1].endswith("checked on")
    (network,) = (path for path in cache.iterdir() if re.fullmatch(r"int8-[0-9a-f]{32}-[0-9a-f]{8}", path.name))
    shutil.rmtree(network)
    said.clear()
    run_through(Int8Runtime(classifier), pixels[::-1].copy())
    assert [text.split(" ")[0] for text in said] == ["int8", "quantising", "int8"], "all is made anew"
    verdicts = [path for path in cache.iterdir() if re.fullmatch(r"int8-verdict-[0-9a-f]{32}-[0-9a-f]{8}", path.name)]
    assert len(verdicts) == 2, "one on each network"
