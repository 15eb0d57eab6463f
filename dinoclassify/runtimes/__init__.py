"""Runtimes: pixels in, a model's outputs out. One file each, one line in `open_runtime`."""

import logging
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Literal, Protocol

import torch
from torch import Tensor

from dinoclassify.errors import ModelError, UsageError
from dinoclassify.models.open import ImageClassifier, ImageModel
from dinoclassify.system.environment import available_cpus, few_processes

log = logging.getLogger(__name__)

Precision = Literal["fp32", "bf16", "fp16", "int8"]
RuntimeName = Literal["auto", "torch", "openvino"]
PendingOutput = Callable[[], Tensor]  # waits for what the model outputs: float32, B x outputs, on the CPU


class UnconvertibleError(ModelError):
    """A runtime other than PyTorch cannot run this model, or not on this machine."""


class Runtime(Protocol):
    """An engine with a model in it.

    A call takes B x 3 x H x W pixels, uint8 or float32 of an `OpaqueProcessor`, and starts on them. It gives a
    `PendingOutput`: its call waits for what `ImageModel.postprocess` makes of the outputs. A row is all NaN where these
    are not finite.
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
        """How many images a batch pay best."""

    @property
    def outputs(self) -> int:
        """How many numbers the model gives an image."""

    @property
    def ahead(self) -> int:
        """How many further batches to start before an answer is asked for."""

    def __call__(self, pixels: Tensor) -> PendingOutput:
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
    model: ImageModel,
    runtime: RuntimeName,
    devices: Sequence[torch.device],
    precision: Precision | Literal["auto"] = "auto",
    *,
    compiled: bool = False,
) -> Runtime:
    """The runtime that is asked for; ``auto`` is OpenVINO on a CPU where it is installed, else PyTorch.

    No runtime computes in more threads than there are processors to use: more would wait for one another.

    Raises:
        UsageError: what is asked for is not installed.
        ModelError: the model cannot be loaded, does not fit the device, has other classes than labels, or is nothing
            for the runtime asked for.
    """
    if torch.get_num_threads() > available_cpus():  # torch does not know the limits of control groups
        torch.set_num_threads(available_cpus())
    opened = _open(model, runtime, devices, precision, compiled=compiled)
    if isinstance(model, ImageClassifier) and opened.outputs != len(model.labels):
        classes = f"names {len(model.labels)} classes and has {opened.outputs}"
        raise ModelError(f"{model.name} {classes}: mend id2label in its config.json")
    return opened


def _open(
    model: ImageModel,
    runtime: RuntimeName,
    devices: Sequence[torch.device],
    precision: Precision | Literal["auto"],
    *,
    compiled: bool,
) -> Runtime:
    wants_openvino = runtime == "openvino" or precision == "int8"
    may_use_it = runtime == "auto" and devices[0].type == "cpu" and not compiled and precision != "fp16"
    if may_use_it and few_processes():  # where OpenVINO waits for ever for a thread that cannot be started
        log.warning("few processes may be started (ulimit -u, or the limit of the container): going on with torch")
        may_use_it = False
    if wants_openvino or (may_use_it and find_spec("openvino") is not None):
        try:
            from dinoclassify.runtimes.int8 import Int8Runtime
            from dinoclassify.runtimes.openvino import OpenVINORuntime

            return Int8Runtime(model) if precision == "int8" else OpenVINORuntime(model, precision)
        except ImportError as error:
            if wants_openvino:
                raise UsageError("OpenVINO needs: pip install 'dinoclassify[openvino]'") from error
            log.warning("OpenVINO cannot be imported (%s): going on with torch", error)
        except UnconvertibleError as error:
            if precision == "int8":
                raise
            if wants_openvino:
                raise UnconvertibleError(f"{error}; or use --runtime torch") from error
            log.warning("%s: going on with torch", error)
    from dinoclassify.runtimes.pytorch import open_torch

    return open_torch(model, devices, precision, compiled=compiled)


def cpu_has_bf16() -> bool:
    """Whether the processor has instructions that multiply matrices in bf16."""
    if not hasattr(torch.cpu, "get_capabilities"):  # before torch 2.10
        return bool(torch.cpu._is_avx512_bf16_supported())
    flags = torch.cpu.get_capabilities()
    return any(flags.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))  # the last on ARM


def to_outputs(model: ImageModel, logits: Tensor) -> Tensor:
    """float32 logits, B x outputs -> what they say; a row with a logit that is not finite becomes NaN."""
    outputs = model.postprocess(logits)
    outputs[~finite_rows(logits)] = torch.nan
    return outputs


def finite_rows(logits: Tensor) -> Tensor:
    """Which rows are finite throughout: B x outputs -> bool, B."""
    return logits.isfinite().all(dim=1)
