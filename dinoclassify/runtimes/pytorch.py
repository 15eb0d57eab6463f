"""The PyTorch runtime, for CUDA, MPS and CPUs."""

import itertools
import logging
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from dinoclassify.decoding.batch import Pixels, together
from dinoclassify.errors import ModelError
from dinoclassify.messages import first_line
from dinoclassify.models.image_model import Activation, ImageModel
from dinoclassify.runtimes.base import Outputs, PendingOutput, Runtime, finite_rows
from dinoclassify.runtimes.staging import Staging, empty_pinned
from dinoclassify.runtimes.torch_devices import (
    TooLargeError,
    has_bf16,
    has_no_engine,
    is_out_of_memory,
    may_be_out_of_memory,
    without_tf32,
)
from dinoclassify.system.environment import available_cpus
from dinoclassify.system.processor import cpu_has_bf16
from dinoclassify.types.compute import Precision, RequestedPrecision

log = logging.getLogger(__name__)

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

JUDGED_FROM = 64  # images to observe before deciding whether to leave fp16
MOST_OVERFLOWS = 0.05  # share of images whose outputs are computed twice; above it another precision is faster


def open_model(
    model: ImageModel, devices: Sequence[str], precision: RequestedPrecision, *, compiled: bool = False
) -> Runtime:
    """The model on each of the devices; see `TorchRuntime`."""
    if torch.get_num_threads() > available_cpus():  # torch does not know the limits of control groups
        torch.set_num_threads(available_cpus())
    replicas = [TorchRuntime(model, torch.device(device), precision, compiled=compiled) for device in devices]
    return replicas[0] if len(replicas) == 1 else Replicas(replicas)


class Replicas:
    """One model on several devices, which take the batches in turn: one stream in, one out."""

    def __init__(self, replicas: Sequence[Runtime]) -> None:
        self._first = replicas[0]
        self.name = self._first.name
        self.device = ",".join(replica.device for replica in replicas)
        self.outputs = self._first.outputs
        self.batch_size = self._first.batch_size
        self.ahead = sum(replica.ahead + 1 for replica in replicas) - 1
        self._turns = itertools.cycle(replicas)

    @property
    def precision(self) -> Precision:
        """The precision of the first replica now. Each judges by its own images, which are of the same kind."""
        return self._first.precision

    def load(self) -> None:
        """Do nothing: each replica has loaded its model from the start."""

    def __call__(self, parts: Sequence[Pixels]) -> PendingOutput:
        """Start to compute a batch on the next device."""
        return next(self._turns)(parts)


class TorchRuntime:
    """A model on one device in one precision; see `Runtime` for the call.

    On CUDA a call only queues work: the copy to the device on a stream of its own, the forward pass, and the copy back,
    for which the pending output waits. Outputs that are not finite are computed again in fp32, if there is memory for
    another model. When memory runs out, the batch size is halved for good and the same images are tried again.

    The precision ``auto`` is the best for the device. If that is fp16 and too many outputs are not finite, the runtime
    changes to a precision with a wider range. A model ``compiled`` with `torch.compile` gets batches padded to the size
    of the largest. Raises ModelError if the model, or one image with it, does not fit the device.
    """

    name = "torch"

    def __init__(
        self, model: ImageModel, device: torch.device, precision: RequestedPrecision = "auto", *, compiled: bool = False
    ) -> None:
        module = model.load()
        self.device = str(device)
        self.precision: Precision = _choose_precision(device, module) if precision == "auto" else precision
        # On a CPU a batch should fit its caches: with DINOv2-small on 2 cores, 4 and 8 were equally fast, 16 and 32
        # slower. A GPU needs enough images to be busy. Images as large as they come might not fit in memory together.
        largest = 8 if device.type == "cpu" else 64
        self.batch_size = largest if model.preprocessing.output_size is not None else 1
        self.ahead = 2 if device.type == "cuda" else 0
        self._model = model
        self._device = device
        self._is_cuda = device.type == "cuda"
        self._may_change = precision == "auto"
        self._is_decided = self.precision != "fp16"  # whether it is decided what to do about overflows
        self._images = self._overflows = 0  # in fp16
        self._in_fp32: TorchRuntime | None = None
        self._fp32_fits = True
        self._max_batch: int | None = None
        self._padded = self.batch_size if compiled else 0
        self._staging = Staging(device, self.ahead + 2) if device.type == "cuda" else None
        self._mean = torch.tensor(model.preprocessing.mean, device=device).view(3, 1, 1)
        self._std = torch.tensor(model.preprocessing.std, device=device).view(3, 1, 1)
        # Convolutions are faster with channels last: on a CPU, ResNet-50 and EfficientNet-Lite0 were 1.3 times as fast.
        takes_it = device.type in ("cpu", "cuda") and all(weight.ndim < 5 for weight in module.parameters())
        is_faster = takes_it and not _mostly_matrices(module)
        self._layout = torch.channels_last if is_faster else torch.preserve_format
        self._module = self._to_device(module, self.precision)
        self.outputs = self._try_out()
        self._compiled = compiled
        if compiled:
            self._module = _compile(self._module)

    def load(self) -> None:
        """Do nothing: the model is loaded from the start."""

    @torch.inference_mode()
    def __call__(self, parts: Sequence[Pixels]) -> PendingOutput:
        """Start to compute a batch."""
        pixels = self._staging.fill(parts) if self._staging is not None else torch.from_numpy(together(parts))
        logits = self._logits(self._module, pixels, compiled=self._compiled)
        outputs = _activated(self._model.activation, logits)
        finish = partial(self._finish, parts=parts, precision=self.precision)
        if self._device.type != "cuda":
            return lambda: finish(outputs.cpu().numpy())
        on_host = empty_pinned(outputs.shape, outputs.dtype)
        on_host.copy_(outputs, non_blocking=True)
        copied = torch.cuda.current_stream(self._device).record_event()

        def wait() -> Outputs:
            copied.synchronize()
            return finish(on_host.numpy())

        return wait

    def _finish(self, outputs: Outputs, *, parts: Sequence[Pixels], precision: Precision) -> Outputs:
        overflowed = ~finite_rows(outputs)
        if precision != "fp32" and overflowed.any():
            in_fp32 = self._again_in_fp32(together(parts)[overflowed], precision)
            if in_fp32 is not None:
                outputs[overflowed] = in_fp32
        if not self._is_decided:
            self._judge(overflows=int(overflowed.sum()), images=len(overflowed))
        return outputs

    def _judge(self, *, overflows: int, images: int) -> None:
        """Leave fp16 once enough images show that it costs more than it gains."""
        self._images += images
        self._overflows += overflows
        if self._images >= JUDGED_FROM and self._overflows > MOST_OVERFLOWS * self._images:
            self._is_decided = True
            self._leave_fp16()

    def _again_in_fp32(self, pixels: Pixels, precision: Precision) -> Outputs | None:
        """The outputs in fp32; None if there is no memory for that, which is tried and reported once."""
        if not self._fp32_fits:
            return None
        try:
            if self._in_fp32 is None:
                self._in_fp32 = TorchRuntime(self._model, self._device, "fp32")
                log.warning("some outputs in %s are not finite and are computed again in fp32", precision)
            return self._in_fp32([pixels])()
        except (ModelError, RuntimeError) as error:
            if not may_be_out_of_memory(error):
                raise
            self._in_fp32, self._fp32_fits = None, False
            cure = "--precision bf16" if precision == "fp16" else "a smaller --model"
            failed = f"some outputs in {precision} are not finite, and their images fail"
            log.warning("%s: %s has no memory to compute them again in fp32; try %s", failed, self._device, cure)
            return None

    def _leave_fp16(self) -> None:
        """Change to a precision with a wider range; only advise it, if the user chose fp16."""
        wider: Precision = "bf16" if has_bf16(self._device) else "fp32"
        share = f"{100 * self._overflows / self._images:.0f} % of the outputs in fp16 are not finite"
        if not self._may_change:
            log.warning("%s: --precision %s is the better choice", share, wider)
            return
        try:
            if wider == "fp32" and self._in_fp32 is not None:
                module = self._in_fp32._module
            else:
                module = self._to_device(self._model.load(), wider)
        except TooLargeError:
            lack = f"{self._device} has no memory for {wider} beside it"
            log.warning("%s, and %s: try --precision %s", share, lack, wider)
            return
        self._module = _compile(module) if self._compiled else module
        self.precision = wider
        log.warning("%s: going on in %s", share, wider)

    @torch.inference_mode()
    def _try_out(self) -> int:
        """Run black images through the model before the run; returns its number of outputs."""
        height, width = self._model.preprocessing.output_size or (224, 224)
        # With channels last two: the layout of a single image hides that a `view` in the model needs the other one.
        count = 2 if self._layout == torch.channels_last else 1
        black = torch.zeros((count, 3, height, width), dtype=torch.uint8)
        try:
            return self._logits(self._module, black).shape[1]
        except ModelError:
            raise
        except Exception as error:  # whatever a model's forward may raise
            if self._layout == torch.channels_last:
                self._layout = torch.contiguous_format
                self._module = _in_layout(self._module, self._layout)
                return self._try_out()
            size = f"the {width} x {height} pixels that its image processor makes"
            raise ModelError(f"{self._model.name} does not take {size}: {first_line(error)}") from error

    def _to_device(self, module: nn.Module, precision: Precision) -> nn.Module:
        try:
            return _in_layout(module.to(self._device, DTYPES[precision]), self._layout)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise TooLargeError(self._too_large("the model")) from error
            raise

    def _logits(self, module: nn.Module, pixels: Tensor, *, compiled: bool = False) -> Tensor:
        """B x 3 x H x W -> float32 logits, B x classes, on the device; in parts, if memory is short."""
        parts: list[Tensor] = []
        start = 0
        while start < len(pixels):
            size = min(self._max_batch or len(pixels), len(pixels) - start)
            tried = max(size, self._padded) if compiled else size
            part = self._try_forward(module, pixels[start : start + size], compiled=compiled)
            if part is not None:
                parts.append(part)
                start += size
            elif tried == 1:
                raise TooLargeError(self._too_large("one image with the model"))
            else:
                self._max_batch = tried // 2
                self._padded = min(self._padded, self._max_batch)
                log.warning("out of memory on %s: going on with batches of %d", self._device, self._max_batch)
                if self._device.type == "cuda":
                    torch.cuda.empty_cache()
        return torch.cat(parts)

    def _try_forward(self, module: nn.Module, pixels: Tensor, *, compiled: bool) -> Tensor | None:
        """The logits, or None if memory ran out; the memory of the attempt is free again when this returns."""
        try:
            on_device = self._staging.to_device(pixels) if self._staging is not None else pixels.to(self._device)
            if compiled:
                self._padded = max(self._padded, len(pixels))
                padding = on_device.new_zeros((self._padded - len(pixels), *pixels.shape[1:]))
                on_device = torch.cat([on_device, padding])
            values = (on_device.float() - self._mean) / self._std
            dtype = next(module.parameters()).dtype
            with without_tf32() if self._is_cuda and dtype == torch.float32 else nullcontext():
                logits = cast(Tensor, module(pixel_values=values.to(dtype)).logits)
            return logits[: len(pixels)].float()
        except Exception as error:
            if is_out_of_memory(error) or (len(pixels) > 1 and has_no_engine(error)):
                return None
            if compiled and type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise ModelError(f"--compile does not work here, leave it out: {first_line(error)}") from error
            raise

    def _too_large(self, what: str) -> str:
        cure = "--precision fp16, a smaller --model or --device cpu"
        return f"{what} does not fit in the memory of {self._device}: try {cure}"


def _choose_precision(device: torch.device, module: nn.Module) -> Precision:
    """fp16 on an accelerator; on a CPU with bf16 instructions bf16, if the model is mostly matrices; else fp32.

    Measured on such a CPU: bf16 is 1.8 times as fast for DINOv2-small. For EfficientNet-Lite0, which consists of small
    convolutions, it gains less and moves the best score by 0.008 on average, 15 times as much as scaled decoding does
    in fp32.
    """
    if device.type != "cpu":
        return "fp16"
    return "bf16" if cpu_has_bf16() and _mostly_matrices(module) else "fp32"


def _mostly_matrices(module: nn.Module) -> bool:
    """Whether most weights are those of matrix products, as in a transformer, and not of convolutions."""
    matrices = sum(layer.weight.numel() for layer in module.modules() if isinstance(layer, nn.Linear))
    return 2 * matrices > sum(parameter.numel() for parameter in module.parameters())


def _in_layout(module: nn.Module, layout: torch.memory_format) -> nn.Module:
    return module.to(memory_format=layout)  # type: ignore[no-any-return,call-overload]  # it lacks this overload


def _activated(activation: Activation, logits: Tensor) -> Tensor:
    """The model's outputs, on the device; a row with a logit that is not finite becomes NaN."""
    outputs = logits.softmax(dim=1) if activation == "softmax" else logits
    outputs = logits.sigmoid() if activation == "sigmoid" else outputs
    return outputs.masked_fill(~logits.isfinite().all(dim=1, keepdim=True), torch.nan)


def _compile(module: nn.Module) -> nn.Module:
    return cast(nn.Module, torch.compile(module, dynamic=False))
