"""OpenVINO: the answers of PyTorch, and a converted network that is kept, checked and made again when it must be."""

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import comb
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dinoclassify import Classifier, ModelError, UsageError
from dinoclassify.cli import run
from dinoclassify.cli.runs.signals import Stopped
from dinoclassify.models.image_model import ImageClassifier
from dinoclassify.models.open import open_model
from dinoclassify.runtimes import open_runtime
from dinoclassify.runtimes.base import Runtime, UnconvertibleError
from dinoclassify.runtimes.devices import cpu_has_bf16
from dinoclassify.types.compute import RuntimeName
from dinoclassify.types.preprocessing import Preprocessing
from tests.conftest import PHOTOS

pytest.importorskip("openvino", reason="the extra openvino is not installed")

import openvino as ov

from dinoclassify.runtimes import int8
from dinoclassify.runtimes.int8 import CHECK, Int8Runtime, Verdict, measure_speed
from dinoclassify.runtimes.openvino import OpenVINORuntime
from dinoclassify.runtimes.openvino_network import converted, core, mostly_matrices, read_network

FAMILIES = ["dinov2", "dinov2_with_registers", "vit", "swin", "convnext", "efficientnet", "siglip", "clip", "mobilevit"]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "dinoclassify"


def random_images(classifier: ImageClassifier, count: int) -> Tensor:
    size = classifier.preprocessing.output_size
    assert size is not None
    shades = torch.randint(0, 200, (count, 3, 1, 1), generator=torch.Generator().manual_seed(2))
    noise = torch.randint(0, 56, (count, 3, *size), generator=torch.Generator().manual_seed(1))
    return (shades + noise).to(torch.uint8)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_answers_as_in_torch(family: str, checkpoints: Callable[[str], Path]) -> None:
    name = str(checkpoints(family))
    ours = list(Classifier(name, runtime="openvino", precision="fp32").predict(PHOTOS, top_k=7))
    theirs = list(Classifier(name, runtime="torch", precision="fp32").predict(PHOTOS, top_k=7))
    assert [row.label for row in ours] == [row.label for row in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert [rank.score for rank in one.top] == pytest.approx([rank.score for rank in other.top], abs=1e-4)


def test_auto_is_openvino_on_a_cpu_and_half_precision_where_it_pays(
    tiny: str, checkpoints: Callable[[str], Path]
) -> None:
    classifier = Classifier(tiny, device="cpu")
    assert (classifier.runtime, classifier.precision) == ("openvino", "bf16" if cpu_has_bf16() else "fp32")
    assert Classifier(str(checkpoints("efficientnet")), device="cpu").precision == "fp32"
    assert Classifier(tiny, device="cpu", precision="fp16").runtime == "torch"


def test_matrices_are_told_from_convolutions(checkpoints: Callable[[str], Path]) -> None:
    found = {
        family: mostly_matrices(read_network(converted(open_model(str(checkpoints(family))))))
        for family in ("dinov2", "swin", "efficientnet")
    }
    assert found == {"dinov2": True, "swin": True, "efficientnet": False}


def test_many_batches_under_way_keep_their_answers(tiny: str) -> None:
    classifier = open_model(tiny)
    runtime, pixels = OpenVINORuntime(classifier, "fp32"), random_images(classifier, 40)
    answers = [runtime(batch) for batch in pixels.split(3)]
    together = torch.cat([answer() for answer in reversed(answers)][::-1])
    torch.testing.assert_close(together, torch.cat([runtime(pixel[None])() for pixel in pixels]), rtol=0, atol=1e-5)
    assert together.argmax(dim=1).unique().numel() > 1


@pytest.mark.parametrize("limited", [True, False])
def test_openvino_takes_no_more_threads_than_there_are_processors_to_use(
    limited: bool, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told so only where it takes more by itself: it may bind threads that were asked for otherwise."""
    asked: list[dict[str, str]] = []
    real = core()

    def compile_model(network: object, device: str, hints: dict[str, str]) -> SimpleNamespace:
        asked.append(dict(hints))
        compiled = real.compile_model(network, device, hints)
        found = {"INFERENCE_NUM_THREADS": int(hints.get("INFERENCE_NUM_THREADS", 4))}
        return SimpleNamespace(get_property=lambda name: found.get(name, 1), output=compiled.output)

    stand_in = SimpleNamespace(read_model=real.read_model, compile_model=compile_model)
    converted(open_model(tiny))
    monkeypatch.setattr("dinoclassify.runtimes.openvino.core", lambda: stand_in)
    monkeypatch.setattr("dinoclassify.runtimes.openvino.available_cpus", lambda: 3 if limited else 4)
    OpenVINORuntime(open_model(tiny))
    assert [hints.get("INFERENCE_NUM_THREADS") for hints in asked] == ([None, "3"] if limited else [None])


def test_openvino_keeps_to_the_threads_that_it_is_told(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dinoclassify.runtimes.openvino.available_cpus", lambda: 1)
    runtime = OpenVINORuntime(open_model(tiny))
    assert runtime._compiled.get_property("INFERENCE_NUM_THREADS") == 1
    assert runtime(random_images(open_model(tiny), 3))().isfinite().all()


@pytest.mark.parametrize("spoil", ["cut", "overwritten", "gone", "stale"])
def test_a_kept_network_that_is_not_as_it_was_is_made_again(
    spoil: str, tiny: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = open_model(tiny)
    folder = converted(classifier)
    weights = folder / "network.bin"
    good = weights.read_bytes()
    if spoil == "cut":
        weights.write_bytes(good[: len(good) // 2])
    elif spoil == "overwritten":
        weights.write_bytes(good[:1000] + b"damaged!" + good[1008:])
    elif spoil == "gone":
        weights.unlink()
    else:
        monkeypatch.setattr("dinoclassify.runtimes.openvino_network.__version__", "9.9")
        weights.write_bytes(b"")
    loads = []

    def load() -> nn.Module:
        loads.append(1)
        return classifier.load()

    watched = replace(classifier, load=load)
    again = converted(watched)
    assert (again == folder) == (spoil != "stale"), "other versions keep their own"
    assert (again / "network.bin").read_bytes() == good
    converted(watched)
    assert loads == [1], "made again once"


def test_a_preparation_that_takes_long_is_announced_once(
    tiny: str, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "dinoclassify")
    Classifier(tiny, runtime="openvino")
    assert [message for message in caplog.messages if message.startswith("preparing")] == []  # it is ready in a moment
    monkeypatch.setattr("dinoclassify.runtimes.openvino_network._SLOW_FROM", 1)
    shutil.rmtree(cache)
    for _ in range(2):
        Classifier(tiny, runtime="openvino")
    said = [message for message in caplog.messages if message.startswith("prepar")]
    assert said[1:-1] == [f"preparing {tiny} for OpenVINO, once on this machine: some 20 s"]
    assert re.fullmatch(rf"prepared {tiny} in [\d.]+ s", said[-1])


def test_other_weights_are_another_network(tiny: str, tmp_path: Path, cache: Path) -> None:
    from safetensors.torch import load_file, save_file

    copy = Path(shutil.copytree(tiny, tmp_path / "model"))
    first = converted(open_model(str(copy)))
    weights = load_file(copy / "model.safetensors")
    weights["classifier.bias"] += 1
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    assert converted(open_model(str(copy))) != first


@pytest.mark.slow
def test_two_processes_at_once_convert_once(tiny: str, cache: Path) -> None:
    code = (
        "import sys; from dinoclassify import Classifier\n"
        "print(*(row.score for row in Classifier(sys.argv[1], runtime='openvino').predict(sys.argv[2])))"
    )

    def run(_: int) -> str:
        command = [sys.executable, "-c", code, tiny, str(PHOTOS)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    with ThreadPoolExecutor() as pool:
        first, second = pool.map(run, range(2))
    assert first == second
    assert len(first.split()) == 5
    assert not [path for path in cache.iterdir() if path.suffix == ".new"], "nothing is left over"


def test_a_cache_that_cannot_be_written_costs_no_answer(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert [row.status for row in Classifier(tiny, runtime="openvino").predict(PHOTOS)] == ["ok"] * 5


def test_what_openvino_cannot_convert_runs_in_torch(
    tiny: str, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("dinoclassify.runtimes.openvino_network.TOLERANCE", 0.0)
    for _ in range(2):
        caplog.clear()
        assert Classifier(tiny, device="cpu").runtime == "torch"
        (said,) = caplog.messages
        assert re.fullmatch(r"OpenVINO cannot convert \S+ \(it answers otherwise, by \S+\): going on with torch", said)
    with pytest.raises(ModelError, match="answers otherwise"):
        Classifier(tiny, runtime="openvino")


def counting_conversions(monkeypatch: pytest.MonkeyPatch, fail: Callable[[], None]) -> list[int]:
    """Have conversions begin with ``fail``; gives a list that grows with each."""
    tried: list[int] = []
    convert_model = ov.convert_model

    def convert(*arguments: object, **options: object) -> object:
        tried.append(1)
        fail()
        return convert_model(*arguments, **options)

    monkeypatch.setattr(ov, "convert_model", convert)
    return tried


def test_that_a_model_cannot_be_converted_is_found_out_once(
    tiny: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("No conversion rule found for operations: aten::svd")

    tried = counting_conversions(monkeypatch, fail)
    for name in (tiny, f"{tiny}/."):
        with pytest.raises(UnconvertibleError) as caught:
            converted(replace(open_model(tiny), name=name))
        reason = "No conversion rule found for operations: aten::svd"
        assert str(caught.value) == f"OpenVINO cannot convert {name} ({reason})", "by the name it has in this run"
    assert len(tried) == 1
    monkeypatch.setattr("dinoclassify.runtimes.openvino_network.__version__", "9.9")
    with pytest.raises(UnconvertibleError):
        converted(open_model(tiny))
    assert len(tried) == 2, "another version tries again"


@pytest.mark.parametrize("trouble", ["MemoryError", "bad_alloc", "OSError", "in tracing", "threads", "package"])
def test_trouble_that_may_pass_is_no_verdict_on_a_model(
    trouble: str, tiny: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = False

    def fail() -> None:
        if passed:
            return
        if trouble == "in tracing":
            raise RuntimeError("Couldn't get TorchScript module by tracing") from MemoryError()
        raise {
            "MemoryError": MemoryError(),
            "bad_alloc": RuntimeError("std::bad_alloc"),
            "OSError": OSError(28, "No space left on device"),
            "threads": RuntimeError("can't start new thread"),
            "package": ModuleNotFoundError("No module named 'timm'"),
        }[trouble]

    tried = counting_conversions(monkeypatch, fail)
    for _ in range(2):
        with pytest.raises(UnconvertibleError, match="OpenVINO cannot convert"):
            converted(open_model(tiny))
    assert len(tried) == 2
    passed = True
    assert (converted(open_model(tiny)) / "network.xml").exists()


def fail_in_conversions(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Raise this in what OpenVINO calls while it converts; what it says then is the text of an error of its own."""

    def fail(*_: object) -> None:
        raise error

    for name in ("get_schema", "mark_node"):
        monkeypatch.setattr(f"openvino.frontend.pytorch.ts_decoder.TorchScriptPythonDecoder.{name}", fail)


@pytest.mark.parametrize(
    "trouble", [Stopped(signal.SIGINT), KeyboardInterrupt(), MemoryError(), OSError(24, "Too many open files")]
)
def test_what_stops_a_conversion_is_no_verdict_on_a_model(
    trouble: BaseException, tiny: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        fail_in_conversions(patch, trouble)
        with pytest.raises(UnconvertibleError, match=rf"{type(trouble).__name__}: [^/]*\)$"):
            converted(open_model(tiny))
    assert (converted(open_model(tiny)) / "network.xml").exists()


def test_a_conversion_that_fails_leaves_the_logging_of_a_program_alone(
    tiny: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.getLogger()
    before = root.level, root.filters.copy(), root.handlers.copy()
    fail_in_conversions(monkeypatch, ValueError())
    with pytest.raises(UnconvertibleError, match="ValueError"):
        converted(open_model(tiny))
    assert (root.level, root.filters, root.handlers) == before


def test_a_model_of_many_input_sizes_is_for_torch_and_costs_no_look_at_its_weights(tiny: str) -> None:
    classifier = open_model(tiny)
    assert isinstance(classifier.preprocessing, Preprocessing)
    sizeless = replace(classifier, preprocessing=replace(classifier.preprocessing, resize=None, crop=None))
    with pytest.raises(UnconvertibleError, match="takes many"):
        OpenVINORuntime(replace(sizeless, digest=lambda: pytest.fail("all weights are read for that")))


def test_answers_that_are_no_numbers_are_computed_again_in_fp32(tiny: str, caplog: pytest.LogCaptureFixture) -> None:
    classifier = open_model(tiny)
    broken, pixels = OpenVINORuntime(classifier, "bf16"), random_images(classifier, 2)
    if broken.precision == "fp32":
        pytest.skip("this CPU has no bf16")

    expected = OpenVINORuntime(classifier, "fp32")(pixels)()
    network = read_network(converted(classifier))
    (result,) = network.get_results()
    spoilt = ov.opset14.multiply(result.input_value(0), np.float32(np.inf))
    result.input(0).replace_source_output(spoilt.output(0))
    broken._compiled = broken._compile(network, "fp32")
    torch.testing.assert_close(broken(pixels)(), expected)
    assert caplog.messages == ["some outputs in bf16 are not finite and are computed again in fp32"]


@pytest.mark.parametrize(
    "options",
    [
        {"runtime": "openvino", "device": "mps"},
        {"runtime": "openvino", "precision": "fp16"},
        {"runtime": "openvino", "compiled": True},
        {"runtime": "torch", "precision": "int8"},
        {"precision": "int8", "compiled": True},
    ],
)
def test_options_that_do_not_go_together(tiny: str, options: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        Classifier(tiny, **options)  # type: ignore[arg-type]  # each is of the right type, by its name


def test_a_missing_package_is_named(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dinoclassify.runtimes.openvino", None)
    monkeypatch.delitem(sys.modules, "dinoclassify.runtimes.int8", raising=False)
    with pytest.raises(UsageError, match=r"pip install 'dinoclassify\[openvino\]'"):
        Classifier(tiny, runtime="openvino")


def test_a_warm_start_imports_no_transformers(tiny: str) -> None:
    code = (
        "import sys; from dinoclassify.cli import run; run(sys.argv[1:]); "
        "sys.exit('transformers' in sys.modules or 'nncf' in sys.modules)"
    )
    arguments = ["predict", str(PHOTOS / "coffee.jpg"), "-m", tiny, "--runtime", "openvino"]
    assert run(arguments) == 0
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)


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
    """Whatever processor the tests run on, and though tiny models gain nothing."""
    monkeypatch.setattr(int8, "measure_speed", lambda *_: 1.5)


def run_through(runtime: Int8Runtime, pixels: Tensor) -> list[str]:
    """The precision before each batch of 4."""
    found: list[str] = []
    for batch in pixels.split(4):
        found.append(runtime.precision)
        runtime(batch)()
    return found


@pytest.mark.parametrize("accepted", [True, False])
def test_int8_is_checked_on_a_sample_and_the_verdict_is_kept(
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
    assert said[0] == f"int8 is not ready: a run answers in {before} until it has seen some {few} images"
    assert said[1] == f"quantising {tiny} to int8 on 8 images, once: some 20 s"
    assert len(said) == 3
    said.clear()
    again = Int8Runtime(classifier)
    assert (again.precision, again.verdict) == (runtime.precision, runtime.verdict)
    assert len(said) == 1, "the verdict is said again, and nothing is quantised"
    assert said[0].startswith(f"int8 gave the label of {before} for ")
    assert said[0].endswith("checked on" if accepted else f"it is refused, going on in {before}")
    torch.testing.assert_close(again(pixels)(), runtime(pixels)())
    if accepted:
        same = (again(pixels)().argmax(1) == OpenVINORuntime(classifier, "fp32")(pixels)().argmax(1)).float().mean()
        assert same > 0.5


def test_the_sample_of_int8_is_spread_and_the_same_in_every_run(
    tiny: str, cache: Path, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images are numbered by their shade, and all get one label."""
    pytest.importorskip("nncf")
    classifier = open_model(tiny)
    numbered = torch.arange(200, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 56, 56).contiguous()
    samples = []
    for _ in range(2):
        shutil.rmtree(cache, ignore_errors=True)
        quantised: list[int] = []
        checked: list[int] = []

        def quantise(model: ImageClassifier, images: Tensor, folder: Path, quantised: list[int] = quantised) -> None:
            quantised += images[:, 0, 0, 0].tolist()
            shutil.copytree(converted(model), folder, dirs_exist_ok=True)

        def look(pixels: Tensor, checked: list[int] = checked) -> Callable[[], Tensor]:
            checked += pixels[:, 0, 0, 0].tolist()
            return lambda: torch.zeros(len(pixels), 7)

        monkeypatch.setattr(int8, "quantise", quantise)
        runtime = Int8Runtime(classifier)
        monkeypatch.setattr(runtime, "_runtime", lambda pixels: lambda: torch.zeros(len(pixels), 7))
        runtime._runtime.precision = "bf16"
        monkeypatch.setattr(runtime, "_in_int8", lambda network, look=look: look)
        for batch in numbered.split(2):
            runtime(batch)()
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


def test_the_check_of_int8_tells_good_networks_from_bad_ones() -> None:
    """The lower end of the interval decides, of so many images that chance has little say."""

    def passes(share: float) -> float:
        allowed = [miss for miss in range(CHECK + 1) if Verdict(CHECK - miss, CHECK, "bf16").accepted]
        return sum(comb(CHECK, miss) * (1 - share) ** miss * share ** (CHECK - miss) for miss in allowed)

    assert Verdict(989, 1000, "bf16").accepted
    assert not Verdict(988, 1000, "bf16").accepted
    assert not Verdict(100, 100, "bf16").accepted, "of a hundred, all may well be the same by chance"
    assert passes(0.992) > 0.85
    assert passes(0.98) < 0.025
    assert passes(0.97) < 0.0001


def test_a_bad_network_in_int8_is_refused_as_soon_as_that_is_certain(
    tiny: str, cache: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nncf")
    runtime = Int8Runtime(open_model(tiny))
    monkeypatch.setattr(runtime, "_candidate", lambda pixels: lambda: torch.ones(len(pixels), 7).cumsum(dim=1))
    monkeypatch.setattr(runtime, "_runtime", lambda pixels: lambda: torch.zeros(len(pixels), 7))
    runtime._runtime.precision = "bf16"
    for _ in range(200):
        runtime(torch.zeros(1, 3, 56, 56, dtype=torch.uint8))()
    assert runtime.verdict == Verdict(0, 12, "bf16"), "with 12 others of 1000 it cannot pass"
    doubt = "(0.0 to 24.2 % of all, at 95 % confidence, where 98 % are asked)"
    refused = f"int8 gave the label of bf16 for 0 of the 12 images it was checked on {doubt}"
    assert said[1:] == [f"{refused}: it is refused, going on in bf16"]


def test_int8_is_not_checked_where_it_is_no_faster(
    tiny: str, cache: Path, few: int, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nncf")
    timed: list[int] = []

    def measure(_: object, __: object, pixels: Tensor) -> float:
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


def test_a_verdict_on_int8_is_one_on_the_processor(
    tiny: str, cache: Path, few: int, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A home may be that of many machines."""
    pytest.importorskip("nncf")
    classifier = open_model(tiny)
    run_through(Int8Runtime(classifier), random_images(classifier, 3 * few))
    assert Int8Runtime(classifier).verdict is not None
    with monkeypatch.context() as patch:
        patch.setattr(int8, "processor", lambda: "another")
        assert Int8Runtime(classifier).verdict is None
    monkeypatch.setattr(int8, "available_cpus", lambda: 1000)
    assert Int8Runtime(classifier).verdict is None


def test_rows_of_int8_go_on_after_its_verdict(
    tiny: str, cache: Path, few: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which comes in the middle of a run: the next one begins in int8."""
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


def test_the_speed_of_int8_is_that_of_pairs_of_runs() -> None:
    class Paced:
        def __init__(self, seconds: float) -> None:
            self.seconds = seconds

        def __call__(self, pixels: Tensor) -> Callable[[], Tensor]:
            def answer() -> Tensor:
                time.sleep(self.seconds)
                return pixels

            return answer

    slow, fast = cast(Runtime, Paced(0.01)), cast(Runtime, Paced(0.0))
    assert measure_speed(fast, slow, torch.zeros(2)) > 2
    assert measure_speed(slow, fast, torch.zeros(2)) < 0.5


def test_a_verdict_on_int8_is_one_on_its_network(tiny: str, cache: Path, few: int, said: list[str]) -> None:
    """A run that ends before the verdict leaves the network; a verdict without its network counts for nothing."""
    pytest.importorskip("nncf")
    classifier = open_model(tiny)
    pixels = random_images(classifier, 3 * few)
    first = Int8Runtime(classifier)
    while first._candidate is None:
        first(pixels[:4])()
    said.clear()
    run_through(Int8Runtime(classifier), pixels)
    assert re.search("some 80 images$", said[0]), "it goes on with the check"
    assert len(said) == 2
    assert said[1].endswith("checked on")
    (network,) = (path for path in cache.iterdir() if re.fullmatch(r"int8-[0-9a-f]{32}-[0-9a-f]{8}", path.name))
    shutil.rmtree(network)
    said.clear()
    run_through(Int8Runtime(classifier), pixels.flip(0))
    assert [text.split(" ")[0] for text in said] == ["int8", "quantising", "int8"], "all is made anew"
    verdicts = [path for path in cache.iterdir() if re.fullmatch(r"int8-verdict-[0-9a-f]{32}-[0-9a-f]{8}", path.name)]
    assert len(verdicts) == 2, "one on each network"


def test_nothing_is_reported_to_anybody(tiny: str, cache: Path, tmp_path: Path) -> None:
    """OpenVINO's telemetry keeps an identity in the home folder, before it sends anything."""
    code = "import sys; from dinoclassify import Classifier; Classifier(sys.argv[1], runtime='openvino')"
    environment = {key: value for key, value in os.environ.items() if key not in {"CI", "NNCF_CI"}}
    subprocess.run([sys.executable, "-c", code, tiny], check=True, env=environment | {"HOME": str(tmp_path / "home")})
    assert not (tmp_path / "home" / "intel").exists()


@pytest.mark.parametrize("name", ["openvino", "torch"])
def test_labels_that_do_not_fit_the_network_are_refused(tiny: str, name: RuntimeName) -> None:
    with pytest.raises(ModelError, match="names 2 classes and has 7: mend id2label"):
        open_runtime(replace(open_model(tiny), labels=("too", "few")), name, [torch.device("cpu")])
