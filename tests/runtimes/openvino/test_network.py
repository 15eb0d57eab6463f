"""The converted network: kept, checked, made again when it must be, and what cannot be converted."""

import logging
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from dinoclassify import Classifier, ModelError
from dinoclassify.cli.runs.signals import Stopped
from dinoclassify.models.open import open_model
from dinoclassify.runtimes.base import UnconvertibleError
from dinoclassify.types.preprocessing import Preprocessing
from tests.conftest import PHOTOS

pytest.importorskip("openvino", reason="the extra openvino is not installed")

import openvino as ov

from dinoclassify.runtimes.openvino.conversion import _relative_difference
from dinoclassify.runtimes.openvino.network import converted
from dinoclassify.runtimes.openvino.runtime import OpenVINORuntime


@pytest.mark.parametrize("spoil", ["cut", "overwritten", "gone", "stale"])
def test_damaged_or_stale_network_is_converted_again(
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
        monkeypatch.setattr("dinoclassify.runtimes.openvino.network.__version__", "9.9")
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


def test_slow_conversion_is_announced_once(
    tiny: str, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "dinoclassify")
    Classifier(tiny, runtime="openvino")
    assert [message for message in caplog.messages if message.startswith("preparing")] == []  # it is ready in a moment
    monkeypatch.setattr("dinoclassify.runtimes.openvino.conversion._SLOW_FROM", 1)
    shutil.rmtree(cache)
    for _ in range(2):
        Classifier(tiny, runtime="openvino")
    said = [message for message in caplog.messages if message.startswith("prepar")]
    assert said[1:-1] == [f"preparing {tiny} for OpenVINO, once on this machine: about 20 s"]
    assert re.fullmatch(rf"prepared {tiny} in [\d.]+ s", said[-1])


def test_other_weights_give_another_network(tiny: str, tmp_path: Path, cache: Path) -> None:
    from safetensors.torch import load_file, save_file

    copy = Path(shutil.copytree(tiny, tmp_path / "model"))
    first = converted(open_model(str(copy)))
    weights = load_file(copy / "model.safetensors")
    weights["classifier.bias"] += 1
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    assert converted(open_model(str(copy))) != first


@pytest.mark.slow
def test_two_processes_convert_once(tiny: str, cache: Path) -> None:
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


def test_unwritable_cache_still_gives_answers(tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert [row.status for row in Classifier(tiny, runtime="openvino").predict(PHOTOS)] == ["ok"] * 5


def test_unconvertible_model_runs_in_pytorch(
    tiny: str, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("dinoclassify.runtimes.openvino.conversion.TOLERANCE", 0.0)
    for _ in range(2):
        caplog.clear()
        assert Classifier(tiny, device="cpu").runtime == "torch"
        (said,) = caplog.messages
        assert re.fullmatch(
            r"OpenVINO cannot convert \S+ \(its outputs differ from those of PyTorch by \S+\): going on with torch",
            said,
        )
    with pytest.raises(ModelError, match="outputs differ"):
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


def test_unconvertible_model_is_tried_once(tiny: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("No conversion rule found for operations: aten::svd")

    tried = counting_conversions(monkeypatch, fail)
    for name in (tiny, f"{tiny}/."):
        with pytest.raises(UnconvertibleError) as caught:
            converted(replace(open_model(tiny), name=name))
        reason = "No conversion rule found for operations: aten::svd"
        assert str(caught.value) == f"OpenVINO cannot convert {name} ({reason})", "by the name it has in this run"
    assert len(tried) == 1
    monkeypatch.setattr("dinoclassify.runtimes.openvino.network.__version__", "9.9")
    with pytest.raises(UnconvertibleError):
        converted(open_model(tiny))
    assert len(tried) == 2, "another version tries again"


@pytest.mark.parametrize("trouble", ["MemoryError", "bad_alloc", "OSError", "in tracing", "threads", "package"])
def test_temporary_trouble_is_tried_again(
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
def test_interrupted_conversion_is_tried_again(
    trouble: BaseException, tiny: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        fail_in_conversions(patch, trouble)
        with pytest.raises(UnconvertibleError, match=rf"{type(trouble).__name__}: [^/]*\)$"):
            converted(open_model(tiny))
    assert (converted(open_model(tiny)) / "network.xml").exists()


def test_failed_conversion_leaves_logging_unchanged(tiny: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    before = root.level, root.filters.copy(), root.handlers.copy()
    fail_in_conversions(monkeypatch, ValueError())
    with pytest.raises(UnconvertibleError, match="ValueError"):
        converted(open_model(tiny))
    assert (root.level, root.filters, root.handlers) == before


def test_model_of_variable_input_size_is_left_to_pytorch_at_once(tiny: str) -> None:
    classifier = open_model(tiny)
    assert isinstance(classifier.preprocessing, Preprocessing)
    sizeless = replace(classifier, preprocessing=replace(classifier.preprocessing, resize=None, crop=None))
    with pytest.raises(UnconvertibleError, match="takes many"):
        OpenVINORuntime(replace(sizeless, digest=lambda: pytest.fail("all weights are read for that")))


def test_outputs_that_are_all_zero_agree() -> None:
    zeros, ones = np.zeros((2, 3), np.float32), np.ones((2, 3), np.float32)
    assert _relative_difference(zeros, zeros) == 0
    assert _relative_difference(ones, zeros) == np.inf
    assert _relative_difference(ones * 1.5, ones) == 0.5
    assert np.isnan(_relative_difference(zeros * np.nan, ones))


def test_a_model_of_zeros_is_converted(tiny: str, cache: Path) -> None:
    classifier = open_model(tiny)

    def load() -> nn.Module:
        module = classifier.load()
        for parameter in module.parameters():
            nn.init.zeros_(parameter)
        return module

    converted(replace(classifier, load=load, revision="zeros"))
