"""OpenVINO: the answers of PyTorch, its threads, and options that do not go together."""

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dinoclassify import Classifier, ModelError, UsageError
from dinoclassify.cli import run
from dinoclassify.models.open import open_model
from dinoclassify.runtimes import open_runtime
from dinoclassify.system.processor import cpu_has_bf16
from dinoclassify.types.compute import RuntimeName
from tests.conftest import PHOTOS

pytest.importorskip("openvino", reason="the extra openvino is not installed")

import openvino as ov

from dinoclassify.runtimes.openvino.api import core, mostly_matrices, read_network
from dinoclassify.runtimes.openvino.compiled import Loaded
from dinoclassify.runtimes.openvino.network import converted
from dinoclassify.runtimes.openvino.runtime import OpenVINORuntime
from tests.helpers import prepared
from tests.helpers.networks import random_images
from tests.helpers.toy import in_batches

FAMILIES = ["dinov2", "dinov2_with_registers", "vit", "swin", "convnext", "efficientnet", "siglip", "clip", "mobilevit"]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_answers_as_in_pytorch(family: str, checkpoints: Callable[[str], Path]) -> None:
    name = str(checkpoints(family))
    ours = list(Classifier(name, runtime="openvino", precision="fp32").predict(PHOTOS, top_k=7))
    theirs = list(Classifier(name, runtime="torch", precision="fp32").predict(PHOTOS, top_k=7))
    assert [row.label for row in ours] == [row.label for row in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert [rank.score for rank in one.top] == pytest.approx([rank.score for rank in other.top], abs=1e-4)


def test_auto_chooses_openvino_and_half_precision_on_a_cpu(tiny: str, checkpoints: Callable[[str], Path]) -> None:
    classifier = Classifier(tiny, device="cpu")
    assert (classifier.runtime, classifier.precision) == ("openvino", "bf16" if cpu_has_bf16() else "fp32")
    assert Classifier(str(checkpoints("efficientnet")), device="cpu").precision == "fp32"
    assert Classifier(tiny, device="cpu", precision="fp16").runtime == "torch"


def test_matrix_models_are_told_from_convolutional_ones(checkpoints: Callable[[str], Path]) -> None:
    found = {
        family: mostly_matrices(read_network(converted(open_model(str(checkpoints(family))))))
        for family in ("dinov2", "swin", "efficientnet")
    }
    assert found == {"dinov2": True, "swin": True, "efficientnet": False}


def test_batches_in_parallel_keep_their_answers(tiny: str) -> None:
    classifier = open_model(tiny)
    runtime, pixels = OpenVINORuntime(classifier, "fp32"), random_images(classifier, 40)
    answers = [runtime([batch]) for batch in in_batches(pixels, 3)]
    together = np.concatenate([answer() for answer in reversed(answers)][::-1])
    alone = np.concatenate([runtime([pixel[None]])() for pixel in pixels])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    assert len(set(together.argmax(axis=1))) > 1


@pytest.mark.parametrize("limited", [True, False])
def test_no_more_threads_than_available_processors(
    limited: bool, tiny: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenVINO is given a number only if it would take more: it may bind threads that were asked for."""
    asked: list[dict[str, str]] = []
    real = core()

    def compile_model(network: object, device: str, hints: dict[str, str]) -> SimpleNamespace:
        asked.append(dict(hints))
        compiled = real.compile_model(network, device, hints)
        found = {"INFERENCE_NUM_THREADS": int(hints.get("INFERENCE_NUM_THREADS", 4))}
        return SimpleNamespace(get_property=lambda name: found.get(name, 1), export_model=compiled.export_model)

    stand_in = SimpleNamespace(read_model=real.read_model, compile_model=compile_model)
    converted(open_model(tiny))
    monkeypatch.setattr("dinoclassify.runtimes.openvino.api.core", lambda: stand_in)
    monkeypatch.setattr("dinoclassify.runtimes.openvino.runtime.available_cpus", lambda: 3 if limited else 4)
    OpenVINORuntime(open_model(tiny))
    assert [hints.get("INFERENCE_NUM_THREADS") for hints in asked] == ([None, "3"] if limited else [None])


def test_number_of_threads_is_kept(tiny: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("runtime", "compiled"):
        monkeypatch.setattr(f"dinoclassify.runtimes.openvino.{module}.available_cpus", lambda: 1)
    for _ in range(2):  # as compiled, and as kept
        runtime = OpenVINORuntime(open_model(tiny))
        assert runtime._load().model.get_property("INFERENCE_NUM_THREADS") == 1
        assert np.isfinite(runtime([random_images(open_model(tiny), 3)])()).all()


def test_non_finite_answers_are_computed_again_in_fp32(tiny: str, caplog: pytest.LogCaptureFixture) -> None:
    classifier = open_model(tiny)
    broken, pixels = OpenVINORuntime(classifier, "bf16"), random_images(classifier, 2)
    if broken.precision == "fp32":
        pytest.skip("this CPU has no bf16")
    expected = OpenVINORuntime(classifier, "fp32")([pixels])()
    network = read_network(converted(classifier))
    (result,) = network.get_results()
    spoilt = ov.opset14.multiply(result.input_value(0), np.float32(np.inf))
    result.input(0).replace_source_output(spoilt.output(0))
    broken._loaded = Loaded(broken._compile(network, {}))
    torch.testing.assert_close(broken([pixels])(), expected)
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
def test_incompatible_options_are_refused(tiny: str, options: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        Classifier(tiny, **options)  # type: ignore[arg-type]  # each is of the right type, by its name


def test_missing_openvino_is_named(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dinoclassify.runtimes.openvino", None)
    monkeypatch.delitem(sys.modules, "dinoclassify.runtimes.openvino.int8", raising=False)
    with pytest.raises(UsageError, match=r"pip install 'dinoclassify\[openvino\]'"):
        Classifier(tiny, runtime="openvino")


def test_warm_start_imports_no_transformers(tiny: str) -> None:
    code = (
        "import sys; from dinoclassify.cli import run; run(sys.argv[1:]); "
        "sys.exit('transformers' in sys.modules or 'nncf' in sys.modules)"
    )
    arguments = ["predict", str(PHOTOS / "coffee.jpg"), "-m", tiny, "--runtime", "openvino"]
    assert run(arguments) == 0
    assert prepared.run([sys.executable, "-c", code, *arguments]).returncode == 0


def test_no_telemetry(tiny: str, cache: Path, tmp_path: Path) -> None:
    """OpenVINO's telemetry keeps an identity in the home folder, before it sends anything."""
    code = "import sys; from dinoclassify import Classifier; Classifier(sys.argv[1], runtime='openvino')"
    environment = {key: value for key, value in os.environ.items() if key not in {"CI", "NNCF_CI"}}
    environment["HOME"] = str(tmp_path / "home")
    assert prepared.run([sys.executable, "-c", code, tiny], env=environment).returncode == 0
    assert not (tmp_path / "home" / "intel").exists()


@pytest.mark.parametrize("name", ["openvino", "torch"])
def test_wrong_number_of_labels_is_refused(tiny: str, name: RuntimeName) -> None:
    with pytest.raises(ModelError, match="names 2 classes and has 7: mend id2label"):
        open_runtime(replace(open_model(tiny), labels=("too", "few")), name, ["cpu"])
