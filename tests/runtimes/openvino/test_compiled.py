"""Networks as OpenVINO compiled them: kept, loaded by the next run, and made again when they must be."""

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest

pytest.importorskip("openvino", reason="the extra openvino is not installed")

import openvino as ov

from dinoclassify.errors import ModelError
from dinoclassify.models.image_model import ImageClassifier
from dinoclassify.models.open import open_model
from dinoclassify.runtimes.base import Outputs
from dinoclassify.runtimes.openvino import compiled, runtime
from dinoclassify.runtimes.openvino.api import read_network
from dinoclassify.runtimes.openvino.compiled import find_compiled
from dinoclassify.runtimes.openvino.network import converted, versions
from dinoclassify.runtimes.openvino.runtime import OpenVINORuntime
from dinoclassify.storage.cache.manifest import read_stamp, seal
from dinoclassify.types.compute import RequestedPrecision
from tests.helpers.networks import random_images


@pytest.fixture
def model(tiny: str, cache: Path) -> ImageClassifier:
    """A model of which nothing is kept yet."""
    return open_model(tiny)


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows with each compilation."""
    compilations: list[int] = []
    compile_network = OpenVINORuntime._compile

    def count(self: OpenVINORuntime, network: ov.Model, hints: dict[str, str]) -> ov.CompiledModel:
        compilations.append(1)
        return compile_network(self, network, hints)

    monkeypatch.setattr(OpenVINORuntime, "_compile", count)
    return compilations


def answers(model: ImageClassifier, precision: RequestedPrecision = "auto") -> Outputs:
    return OpenVINORuntime(model, precision)([random_images(model, 5)])()


def kept(model: ImageClassifier, precision: RequestedPrecision = "auto") -> Path:
    folder = find_compiled(converted(model), precision)
    assert folder is not None
    return folder


def failing(error: Exception) -> Callable[..., None]:
    """A function that always fails so."""

    def fail(*_: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("precision", ["auto", "fp32", "bf16"])
def test_the_next_run_loads_what_was_compiled(
    precision: RequestedPrecision, model: ImageClassifier, compilations: list[int]
) -> None:
    first, second = (OpenVINORuntime(model, precision) for _ in range(2))
    assert len(compilations) == 1
    for name in ("precision", "outputs", "ahead", "batch_size"):
        assert getattr(first, name) == getattr(second, name), name
    pixels = random_images(model, 5)
    assert np.array_equal(first([pixels])(), second([pixels])())
    assert len(compilations) == 1, "the second does not compile when it is asked, either"


def test_a_precision_has_a_network_of_its_own(model: ImageClassifier, compilations: list[int]) -> None:
    for precision in ("fp32", "auto", "fp32", "auto"):
        OpenVINORuntime(model, precision)
    assert len(compilations) == 2


def cut(blob: Path) -> None:
    os.truncate(blob, blob.stat().st_size // 2)


def empty(blob: Path) -> None:
    os.truncate(blob, 0)


def overwrite_the_beginning(blob: Path) -> None:
    with open(blob, "r+b") as file:
        file.write(b"damaged!" * 8)


@pytest.mark.parametrize("damage", [cut, empty, overwrite_the_beginning])
@pytest.mark.parametrize("seen", [True, False])
def test_a_damaged_network_is_compiled_again(
    damage: Callable[[Path], None], seen: bool, model: ImageClassifier, compilations: list[int]
) -> None:
    """By its manifest, or, where that vouches for what was damaged before it was written, when it does not load."""
    expected = answers(model)
    folder = kept(model)
    stamp = read_stamp(str(folder))
    assert stamp is not None
    damage(folder / "network.blob")
    if not seen:
        seal(folder, stamp)
        assert kept(model) == folder
    assert np.array_equal(answers(model), expected)
    assert len(compilations) == 2
    answers(model)
    assert len(compilations) == 2, "what is kept anew is found"


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE])
def test_a_network_whose_disk_is_away_is_compiled_and_not_removed(
    number: int, model: ImageClassifier, compilations: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, folder = answers(model), kept(model)
    monkeypatch.setattr(runtime, "load_compiled", failing(OSError(number, os.strerror(number))))
    assert np.array_equal(answers(model), expected)
    assert len(compilations) == 2
    assert find_compiled(converted(model), "auto") == folder


@pytest.mark.parametrize("kind", ["mapping", "Python", "OpenVINO"])
def test_lack_of_memory_is_no_damage(kind: str, model: ImageClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = {
        "mapping": OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
        "Python": MemoryError(),
        "OpenVINO": RuntimeError("std::bad_alloc"),
    }
    answers(model)
    folder = kept(model)
    monkeypatch.setattr(runtime, "load_compiled", failing(errors[kind]))
    with pytest.raises(ModelError, match="there is not enough memory for"):
        answers(model)
    assert find_compiled(converted(model), "auto") == folder


def test_answers_are_the_same_where_nothing_can_be_kept(
    model: ImageClassifier, no_cache: Path, compilations: list[int]
) -> None:
    first = answers(model)
    assert np.array_equal(answers(model), first)
    assert len(compilations) == 2
    assert find_compiled(converted(model), "auto") is None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_is_full_costs_no_answer(
    number: int, model: ImageClassifier, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.BytesIO):
        def write(self, content: object) -> int:
            raise OSError(number, os.strerror(number))

    into = compiled._Into

    def write_to_full_disk(_: object) -> io.BytesIO:
        return into(cast(io.BufferedWriter, Full()))

    with monkeypatch.context() as patch:
        patch.setattr(compiled, "_Into", write_to_full_disk)
        first = answers(model)
    assert find_compiled(converted(model), "auto") is None
    assert not [path for path in cache.iterdir() if path.name.endswith(".new")], "nothing half-made takes room"
    assert np.array_equal(answers(model), first)
    assert kept(model)


@pytest.mark.parametrize(("name", "value"), [("cpu_identity", "another processor"), ("available_cpus", 1000)])
def test_a_network_is_for_one_kind_of_processor_and_their_number(
    name: str, value: str | int, model: ImageClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many machines may share a home folder."""
    OpenVINORuntime(model)
    assert kept(model)
    monkeypatch.setattr(compiled, name, lambda: value)
    assert find_compiled(converted(model), "auto") is None


def test_a_network_is_for_one_version_of_openvino(model: ImageClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
    OpenVINORuntime(model)
    network, now = converted(model), versions()
    monkeypatch.setattr(compiled, "versions", lambda: {**now, "openvino": "9.9"})
    assert find_compiled(network, "auto") is None


def test_outputs_of_a_kept_network_that_overflow_are_computed_again_in_fp32(
    model: ImageClassifier, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, compilations: list[int]
) -> None:
    monkeypatch.setattr(runtime, "cpu_has_bf16", lambda: True)  # without, OpenVINO computes in fp32
    expected = answers(model, "fp32")

    def spoilt(folder: Path, _: str) -> ov.Model:
        network = read_network(folder)
        (result,) = network.get_results()
        infinite = ov.opset14.multiply(result.input_value(0), np.float32(np.inf))
        result.input(0).replace_source_output(infinite.output(0))
        return network

    with monkeypatch.context() as patch:
        patch.setattr(runtime, "_read", spoilt)
        assert OpenVINORuntime(model, "bf16").precision == "bf16"
    compilations.clear()
    np.testing.assert_allclose(answers(model, "bf16"), expected, rtol=1.3e-6, atol=1e-5)
    assert len(compilations) == 1, "in fp32 alone"
    assert caplog.messages == ["some outputs in bf16 are not finite and are computed again in fp32"]
