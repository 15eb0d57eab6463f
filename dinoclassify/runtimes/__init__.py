"""Runtimes: pixels in, probabilities out. One file each, one line in `open_runtime`."""

import logging
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Literal, Protocol

import torch
from torch import Tensor

from dinoclassify.errors import ModelError, UsageError
from dinoclassify.models import ImageClassifier

log = logging.getLogger(__name__)

Precision = Literal["fp32", "bf16", "fp16", "int8"]
RuntimeName = Literal["auto", "torch", "openvino"]
Answer = Callable[[], Tensor]  # waits for float32 probabilities, B x classes, on the CPU


class UnconvertibleError(ModelError):
    """A runtime other than PyTorch cannot run this model."""


class Runtime(Protocol):
    """An engine with a model in it.

    A call starts on uint8 pixels (or an `AsIs` processor's float32), B x 3 x H x W, and gives an `Answer` to call for
    the probabilities: a row is all NaN where the model gave no finite answer.
    """

    @property
    def name(self) -> str:
        """What `--runtime` calls it."""

    @property
    def device(self) -> str:
        """Where it runs, as torch names it."""

    @property
    def precision(self) -> Precision:
        """What it computes in."""

    @property
    def batch_size(self) -> int:
        """How many pictures a batch pay best."""

    @property
    def ahead(self) -> int:
        """How many further batches to start before an answer is asked for."""

    def __call__(self, pixels: Tensor) -> Answer:
        """Start to classify a batch."""


def choose_devices(
    runtime: RuntimeName, device: str, precision: Precision | Literal["auto"], *, compiled: bool
) -> list[torch.device]:
    """Where the model is to run; several devices each get a replica.

    Raises:
        UsageError: there is no such device, or the arguments do not go together.
    """
    from dinoclassify.runtimes.pytorch import find_devices

    wants_openvino = runtime == "openvino" or precision == "int8"
    if wants_openvino and (runtime == "torch" or compiled or precision == "fp16"):
        raise UsageError("fp16 and --compile go with --runtime torch, int8 with --runtime openvino")
    if wants_openvino and device not in ("auto", "cpu"):
        raise UsageError("OpenVINO runs on the CPU here: use --device cpu, or neither --runtime openvino nor int8")
    return find_devices("cpu" if wants_openvino else device)


def open_runtime(
    classifier: ImageClassifier,
    runtime: RuntimeName,
    devices: Sequence[torch.device],
    precision: Precision | Literal["auto"] = "auto",
    *,
    compiled: bool = False,
) -> Runtime:
    """The runtime that is asked for; ``auto`` is OpenVINO on a CPU where it is installed, else PyTorch.

    Raises:
        UsageError: what is asked for is not installed.
        ModelError: the model cannot be loaded, does not fit the device, or is nothing for the runtime asked for.
    """
    wants_openvino = runtime == "openvino" or precision == "int8"
    may_use_it = runtime == "auto" and devices[0].type == "cpu" and not compiled and precision != "fp16"
    if wants_openvino or (may_use_it and find_spec("openvino") is not None):
        try:
            from dinoclassify.runtimes.int8 import Int8Runtime
            from dinoclassify.runtimes.openvino import OpenVINORuntime

            return Int8Runtime(classifier) if precision == "int8" else OpenVINORuntime(classifier, precision)
        except ImportError as error:
            if wants_openvino:
                raise UsageError("OpenVINO needs: pip install 'dinoclassify[openvino]'") from error
            log.warning("OpenVINO cannot be imported (%s): going on with torch", error)
        except UnconvertibleError as error:
            if wants_openvino:
                raise
            log.warning("%s: going on with torch", error)
    from dinoclassify.runtimes.pytorch import open_torch

    return open_torch(classifier, devices, precision, compiled=compiled)


def cpu_has_bf16() -> bool:
    """Whether the processor has instructions that multiply matrices in bf16."""
    if not hasattr(torch.cpu, "get_capabilities"):  # before torch 2.10
        return bool(torch.cpu._is_avx512_bf16_supported())
    flags = torch.cpu.get_capabilities()
    return any(flags.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))  # the last on ARM


def class_mismatch(name: str, labels: int, classes: int) -> str:
    """What is wrong with a model whose config.json does not name its classes."""
    return f"{name} names {labels} classes and has {classes}: mend id2label in its config.json"


def to_probabilities(logits: Tensor, *, multi_label: bool) -> Tensor:
    """float32 logits, B x classes -> probabilities; a row with a logit that is not finite becomes NaN."""
    probabilities = logits.sigmoid() if multi_label else logits.softmax(dim=1)
    probabilities[~finite_rows(logits)] = torch.nan
    return probabilities


def finite_rows(logits: Tensor) -> Tensor:
    """Which rows are finite throughout: B x classes -> bool, B."""
    return logits.isfinite().all(dim=1)
