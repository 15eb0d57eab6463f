"""Memory that runs out: the batch is halved, and no image is lost."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dinoclassify.errors import ModelError
from dinoclassify.runtimes.pytorch import TorchRuntime
from dinoclassify.runtimes.staging import empty_pinned
from tests.helpers.toy import Toy, bright, expected, random_pixels, runtime


@pytest.mark.parametrize("most", [1, 3, 4, 9])
def test_batch_is_halved_if_memory_runs_out(most: int, caplog: pytest.LogCaptureFixture) -> None:
    module, pixels = Toy(most), random_pixels(19)
    run = runtime(module)
    module.sizes.clear()
    torch.testing.assert_close(run([pixels])(), expected(module, pixels))
    assert sum(size for size in module.sizes if size <= most) == 19, "each image once"
    assert all("going on with batches of" in message for message in caplog.messages)
    module.sizes.clear()
    run([pixels])()
    assert max(module.sizes) <= most, "the smaller batch is remembered"


@pytest.mark.parametrize(
    "said",
    [
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "GET was unable to find an engine to execute this computation",
        "MPS backend out of memory (MPS allocated: 8.00 GB, other allocations: 1.00 GB, max allowed: 9.07 GB)",
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to",
    ],
)
def test_batch_is_halved_whichever_library_runs_out_of_memory(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, pixels = Toy(), random_pixels(8)
    run = runtime(module)
    forward = Toy.forward

    def run_out(self: Toy, pixel_values: Tensor) -> SimpleNamespace:
        if len(pixel_values) > 3:
            raise RuntimeError(said)
        return forward(self, pixel_values)

    monkeypatch.setattr(Toy, "forward", run_out)
    module.sizes.clear()
    torch.testing.assert_close(run([pixels])(), expected(module, pixels))
    assert module.sizes == [2] * 4


def test_impossible_convolution_is_not_a_memory_error(monkeypatch: pytest.MonkeyPatch) -> None:
    run = runtime(Toy())

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("GET was unable to find an engine to execute this computation")

    monkeypatch.setattr(Toy, "forward", fail)
    with pytest.raises(RuntimeError, match="unable to find an engine"):
        run([random_pixels(4)])()


def test_ordinary_memory_is_used_if_it_cannot_be_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = torch.empty

    def refuse(shape: torch.Size, dtype: torch.dtype, pin_memory: bool = False) -> Tensor:
        if pin_memory:
            raise RuntimeError(said)
        return empty(shape, dtype=dtype)

    monkeypatch.setattr(torch, "empty", refuse)
    said = "CUDA error: out of memory"
    assert empty_pinned((3, 4), torch.float32).shape == (3, 4)
    said = "CUDA error: an illegal memory access was encountered"
    with pytest.raises(RuntimeError, match="illegal"):
        empty_pinned((3, 4), torch.float32)


@pytest.mark.parametrize("at_first", [True, False])
def test_image_that_cannot_be_recomputed_fails_alone(at_first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """cuDNN reports this if it has no memory to try its engines in."""
    run = runtime(Toy(weight=7e4), "fp16")
    forward = Toy.forward

    def fail(self: Toy, pixel_values: Tensor) -> SimpleNamespace:
        if pixel_values.dtype == torch.float32:
            raise RuntimeError("GET was unable to find an engine to execute this computation")
        return forward(self, pixel_values)

    if not at_first:
        monkeypatch.setattr(TorchRuntime, "_try_out", lambda _: 3)
    monkeypatch.setattr(Toy, "forward", fail)
    assert np.isnan(run([random_pixels(1)])()).all()


def test_run_ends_if_one_image_does_not_fit() -> None:
    with pytest.raises(ModelError, match="one image with the model does not fit in the memory of cpu: try"):
        runtime(Toy(most=0))([random_pixels(4)])()


def test_other_errors_are_not_memory_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    run = runtime(Toy())
    monkeypatch.setattr(Toy, "forward", lambda *_, **__: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        run([random_pixels(2)])()


@pytest.mark.parametrize("where", ["its constants", "the model", "one image"])
@pytest.mark.usefixtures("overflowing")
def test_only_rows_without_memory_for_fp32_fail(
    where: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module, pixels = Toy(), bright(4, 2)
    run = runtime(module, "fp16")
    tried: list[str] = []
    to, forward, tensor = Toy.to, Toy.forward, torch.tensor

    def run_out_of_memory(name: str) -> None:
        tried.append(name)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    def make(values: object, **options: Any) -> Tensor:
        if "device" in options and where == "its constants":
            run_out_of_memory("its constants")
        return tensor(values, **options)

    def move(self: Toy, *arguments: Any, **options: Any) -> Toy:
        if torch.float32 in arguments and where == "the model":
            run_out_of_memory("the model")
        return to(self, *arguments, **options)

    def run_forward(self: Toy, pixel_values: Tensor) -> SimpleNamespace:
        if pixel_values.dtype == torch.float32:
            run_out_of_memory("one image")
        return forward(self, pixel_values)

    monkeypatch.setattr(torch, "tensor", make)
    monkeypatch.setattr(Toy, "to", move)
    monkeypatch.setattr(Toy, "forward", run_forward)
    module.sizes.clear()
    for _ in range(2):
        answer = run([pixels])()
        assert np.isnan(answer).all(axis=1).tolist() == [False, False, True, False]
        torch.testing.assert_close(answer[:2], expected(module, pixels[:2]), rtol=0, atol=2e-3)
    assert tried == [where], "it is not tried for every batch"
    assert module.sizes == [4, 4], "the batch is as large as before"
    said = "some outputs in fp16 are not finite, and their images fail: cpu has no memory to compute them again in fp32"
    assert caplog.messages == [f"{said}; try --precision bf16"]


@pytest.mark.usefixtures("overflowing")
def test_memory_that_runs_out_later_in_fp32_fails_only_later_rows(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module, pixels = Toy(), bright(3, 0)
    run = runtime(module, "fp16")
    assert np.isfinite(run([pixels])()).all()
    forward = Toy.forward

    def fill(self: Toy, pixel_values: Tensor) -> SimpleNamespace:
        if pixel_values.dtype == torch.float32:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, pixel_values)

    monkeypatch.setattr(Toy, "forward", fill)
    for _ in range(2):
        assert np.isnan(run([pixels])()).all(axis=1).tolist() == [True, False, False]
    assert [message.split(":")[0] for message in caplog.messages] == [
        "some outputs in fp16 are not finite and are computed again in fp32",
        "some outputs in fp16 are not finite, and their images fail",
    ]
