"""Precisions: fp16 that overflows, fp32 that is not TF32, and what `auto` chooses."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from dinoclassify.runtimes.pytorch import JUDGED_FROM, Replicas, TorchRuntime
from dinoclassify.system.processor import cpu_has_bf16
from dinoclassify.types.compute import Precision
from tests.helpers.toy import Toy, bright, expected, random_pixels, runtime


def test_non_finite_answers_are_computed_again_in_fp32(caplog: pytest.LogCaptureFixture) -> None:
    """A weight of 7e4 is infinite in fp16 but fine in fp32, if it is read from the checkpoint again."""
    module, pixels = Toy(weight=7e4), random_pixels(4)
    run = runtime(module, "fp16")
    torch.testing.assert_close(run([pixels])(), expected(module, pixels))
    run([pixels])()
    assert caplog.messages == ["some outputs in fp16 are not finite and are computed again in fp32"], "said once"


@pytest.mark.parametrize("wider", ["bf16", "fp32"])
@pytest.mark.usefixtures("overflowing")
def test_overflowing_model_continues_in_a_wider_precision(
    wider: Precision, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("dinoclassify.runtimes.pytorch.has_bf16", lambda *_: wider == "bf16")
    module, pixels = Toy(), bright(JUDGED_FROM, *range(0, JUDGED_FROM, 10))
    run = runtime(module, "auto")
    replicas = Replicas([run])
    answers = [run([pixels]) for _ in range(2)]  # the second is under way in fp16 when the first is judged
    assert replicas.precision == "fp16"
    for answer in answers:
        torch.testing.assert_close(answer(), expected(module, pixels), rtol=0, atol=2e-3)
    assert (run.precision, replicas.precision) == (wider, wider)
    module.sizes.clear()
    torch.testing.assert_close(run([pixels])(), expected(module, pixels), rtol=0, atol=2e-2)
    assert module.sizes == [JUDGED_FROM], "nothing is computed twice"
    assert caplog.messages == [
        "some outputs in fp16 are not finite and are computed again in fp32",
        f"11 % of the outputs in fp16 are not finite: going on in {wider}",
    ]


@pytest.mark.usefixtures("overflowing")
def test_requested_fp16_stays_and_bf16_is_suggested_once(caplog: pytest.LogCaptureFixture) -> None:
    run = runtime(Toy(), "fp16")
    for _ in range(3):
        assert np.isfinite(run([bright(JUDGED_FROM)])()).all()
    assert run.precision == "fp16"
    assert caplog.messages[1:] == ["100 % of the outputs in fp16 are not finite: --precision bf16 is the better choice"]


@pytest.mark.usefixtures("overflowing")
def test_a_few_overflows_do_not_change_the_precision() -> None:
    run = runtime(Toy(), "auto")
    assert np.isfinite(run([bright(1)])()).all(), "all of them, but too few to judge by"
    for _ in range(3):
        assert np.isfinite(run([bright(JUDGED_FROM, 0, 1)])()).all()
    assert run.precision == "fp16"


@pytest.mark.usefixtures("overflowing")
def test_fp16_stays_without_memory_for_another_model(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = runtime(Toy(), "auto")
    to = Toy.to

    def move(self: Toy, *arguments: Any, **options: Any) -> Toy:
        if torch.bfloat16 in arguments:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return to(self, *arguments, **options)

    monkeypatch.setattr(Toy, "to", move)
    for _ in range(2):
        assert np.isfinite(run([bright(JUDGED_FROM)])()).all()
    assert run.precision == "fp16"
    assert caplog.messages[1:] == [
        "100 % of the outputs in fp16 are not finite, and cpu has no memory for bf16 beside it: try --precision bf16"
    ]


@pytest.mark.usefixtures("overflowing")
def test_compiled_model_is_compiled_again_in_the_wider_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[torch.dtype] = []

    def note(module: Toy, dynamic: bool) -> Toy:
        compiled.append(module.head.weight.dtype)
        return module

    monkeypatch.setattr(torch, "compile", note)
    run = runtime(Toy(), "auto", compiled=True)
    run([bright(JUDGED_FROM)])()
    assert run.precision == "bf16"
    assert compiled == [torch.float16, torch.bfloat16]


def tf32_settings() -> tuple[object, ...]:
    if hasattr(torch.backends.cudnn, "conv"):
        return torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_fp32_is_not_tf32_and_settings_are_restored(precision: Precision, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program has asked for TF32; with fp16 the second try is in fp32."""
    seen: dict[torch.dtype, tuple[object, ...]] = {}
    forward = Toy.forward

    def look(self: Toy, pixel_values: Tensor) -> SimpleNamespace:
        seen[pixel_values.dtype] = tf32_settings()
        if len(pixel_values) > 3:
            raise ValueError("too many")
        return forward(self, pixel_values)

    monkeypatch.setattr(Toy, "forward", look)
    torch.set_float32_matmul_precision("high")
    try:
        before = tf32_settings()
        monkeypatch.setattr(TorchRuntime, "_is_cuda", property(lambda _: True, lambda *_: None), raising=False)
        run = runtime(Toy(weight=7e4 if precision == "fp16" else 1), precision)
        run([random_pixels(3)])()
        with pytest.raises(ValueError, match="too many"):
            run([random_pixels(4)])()
        assert tf32_settings() == before
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
    off = ("ieee", "ieee") if "ieee" in seen[torch.float32] else (False, False)
    assert seen[torch.float32] == off
    assert before != off
    assert seen.get(torch.float16, before) == before, "half precision is none of its business"


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="before torch 2.9 no setting is inherited")
def test_cudnn_wide_settings_are_still_inherited_after_fp32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(TorchRuntime, "_is_cuda", property(lambda _: True, lambda *_: None), raising=False)
    cudnn = cast(Any, torch.backends.cudnn)
    conv, parent = cudnn.conv.fp32_precision, cudnn.fp32_precision
    try:
        cudnn.conv.fp32_precision, cudnn.fp32_precision = "none", "tf32"
        runtime(Toy())([random_pixels(3)])()
        assert cudnn.conv.fp32_precision == "tf32"
        cudnn.fp32_precision = "ieee"
        assert cudnn.conv.fp32_precision == "ieee"
    finally:
        cudnn.conv.fp32_precision, cudnn.fp32_precision = conv, parent


def test_auto_precision_is_bf16_on_a_cpu_that_supports_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for fast, chosen in [(True, "bf16"), (False, "fp32")]:
        monkeypatch.setattr("dinoclassify.runtimes.pytorch.cpu_has_bf16", lambda value=fast: value)
        assert runtime(Toy(), "auto").precision == chosen
    assert isinstance(cpu_has_bf16(), bool)
