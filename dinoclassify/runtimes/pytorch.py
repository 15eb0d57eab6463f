"""The PyTorch runtime: CUDA, MPS or CPU, in the precision that pays there."""

import itertools
import logging
from collections.abc import Sequence
from functools import cached_property
from typing import Literal, cast

import torch
from torch import Tensor, nn

from dinoclassify.errors import ModelError, UsageError, first_line, nearest
from dinoclassify.models import ImageModel
from dinoclassify.runtimes import (
    Answer,
    Precision,
    Runtime,
    cpu_has_bf16,
    finite_rows,
    to_answers,
)

log = logging.getLogger(__name__)

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def find_devices(name: str) -> list[torch.device]:
    """``auto`` -> the best of this machine; ``cpu``, ``cuda``, ``cuda:N`` or ``mps`` -> that; all GPUs of a kind.

    Raises:
        UsageError: there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in {"cpu", "cuda", "mps"} or (number and not (kind == "cuda" and number.isdecimal())):
        near = nearest("cuda" if kind == "gpu" else name, ("auto", "cpu", "cuda", "mps"))
        raise UsageError(f"--device {name}{near}: choose auto, cpu, cuda or cuda:N (NVIDIA), or mps (Apple)")
    if kind == "mps" and not _has_mps():
        raise UsageError("--device mps: this machine has no Metal device; use --device auto")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        found = f"{torch.cuda.device_count()} CUDA devices found by torch {torch.__version__}"
        raise UsageError(f"--device {name}: {found}; use --device auto")
    if name == "cuda":
        return [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    return [torch.device(name)]


def open_torch(
    model: ImageModel,
    devices: Sequence[torch.device],
    precision: Precision | Literal["auto"],
    *,
    compiled: bool = False,
) -> Runtime:
    """The model on each of the devices; see `TorchRuntime`."""
    replicas = [TorchRuntime(model, device, precision, compiled=compiled) for device in devices]
    return replicas[0] if len(replicas) == 1 else Replicas(replicas)


class Replicas:
    """One model on several devices, which take the batches in turn: one stream in, one out."""

    def __init__(self, replicas: Sequence[Runtime]) -> None:
        first = replicas[0]
        self.name = first.name
        self.device = ",".join(replica.device for replica in replicas)
        self.precision = first.precision
        self.outputs = first.outputs
        self.batch_size = first.batch_size
        self.ahead = sum(replica.ahead + 1 for replica in replicas) - 1
        self._turns = itertools.cycle(replicas)

    def __call__(self, pixels: Tensor) -> Answer:
        """Start to classify a batch on the next device."""
        return next(self._turns)(pixels)


class TorchRuntime:
    """A model on one device in one precision; see `Runtime` for the call.

    On CUDA a call only queues work: the copy to the device on a stream of its own, the forward pass, and the copy
    back, for which the answer waits. Outputs that are not finite are computed once more in fp32. When memory runs out
    the batch is halved, for good, and the same pictures are tried again.

    Args:
        model: the model.
        device: where it runs.
        precision: what it computes in; ``auto`` is what pays on the device.
        compiled: have `torch.compile` make code for it. Batches are then padded to the size of the largest.

    Raises:
        ModelError: the model, or one picture with it, does not fit the device.
    """

    name = "torch"

    def __init__(
        self,
        model: ImageModel,
        device: torch.device,
        precision: Precision | Literal["auto"] = "auto",
        *,
        compiled: bool = False,
    ) -> None:
        module = model.load()
        self.device = str(device)
        self.precision: Precision = _choose_precision(device, module) if precision == "auto" else precision
        # On a CPU a batch that stays in its caches is the fastest: 4 and 8 were level for DINOv2-small on 2 cores,
        # 16 and 32 slower. A GPU wants enough pictures to fill it.
        self.batch_size = 8 if device.type == "cpu" else 64
        self.ahead = 2 if device.type == "cuda" else 0
        self._model = model
        self._device = device
        self._max_batch: int | None = None
        self._padded = self.batch_size if compiled else 0
        self._copying = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._mean = torch.tensor(model.preprocessing.mean, device=device).view(3, 1, 1)
        self._std = torch.tensor(model.preprocessing.std, device=device).view(3, 1, 1)
        self._module = self._to_device(module, self.precision)
        self.outputs = self._try_out()
        self._compiled = compiled
        if compiled:
            self._module = cast(nn.Module, torch.compile(self._module, dynamic=False))

    @torch.inference_mode()
    def __call__(self, pixels: Tensor) -> Answer:
        """Start to classify a batch."""
        logits = self._logits(self._module, pixels, compiled=self._compiled)
        if self._device.type != "cuda":
            return lambda: self._finish(logits.cpu(), pixels)
        fetched = torch.empty(logits.shape, dtype=logits.dtype, pin_memory=True)
        fetched.copy_(logits, non_blocking=True)
        arrived = torch.cuda.current_stream(self._device).record_event()

        def answer() -> Tensor:
            arrived.synchronize()
            return self._finish(fetched, pixels)

        return answer

    @torch.inference_mode()
    def _finish(self, logits: Tensor, pixels: Tensor) -> Tensor:
        bad = ~finite_rows(logits)
        if self.precision != "fp32" and bad.any():
            logits[bad] = self._logits(self._fp32_module, pixels[bad]).cpu()
        return to_answers(self._model, logits)

    @torch.inference_mode()
    def _try_out(self) -> int:
        """How many outputs a black picture gets: found out before the run, and with it whether the model is whole."""
        height, width = self._model.preprocessing.output_size or (224, 224)
        try:
            return self._logits(self._module, torch.zeros((1, 3, height, width), dtype=torch.uint8)).shape[1]
        except ModelError:
            raise
        except Exception as error:  # whatever a model's forward may raise
            made = f"the {width} x {height} pixels that its image processor makes"
            raise ModelError(f"{self._model.name} does not take {made}: {first_line(error)}") from error

    @cached_property
    def _fp32_module(self) -> nn.Module:
        log.warning("some outputs in %s are not finite and are computed again in fp32", self.precision)
        return self._to_device(self._model.load(), "fp32")

    def _to_device(self, module: nn.Module, precision: Precision) -> nn.Module:
        try:
            return module.to(self._device, DTYPES[precision])
        except RuntimeError as error:
            if _is_out_of_memory(error):
                raise ModelError(self._too_large("the model")) from error
            raise

    def _logits(self, module: nn.Module, pixels: Tensor, *, compiled: bool = False) -> Tensor:
        """B x 3 x H x W -> float32 logits, B x classes, on the device; in as many parts as memory asks for."""
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
                raise ModelError(self._too_large("one picture with the model"))
            else:
                self._max_batch = tried // 2
                self._padded = min(self._padded, self._max_batch)
                log.warning("out of memory on %s: going on with batches of %d", self._device, self._max_batch)
                if self._device.type == "cuda":
                    torch.cuda.empty_cache()
        return torch.cat(parts)

    def _try_forward(self, module: nn.Module, pixels: Tensor, *, compiled: bool) -> Tensor | None:
        """The logits, or None if memory ran out; by then what the attempt had taken is free again."""
        try:
            moved = self._copy_to_device(pixels)
            if compiled:
                self._padded = max(self._padded, len(pixels))
                moved = torch.cat([moved, moved.new_zeros((self._padded - len(moved), *moved.shape[1:]))])
            values = (moved.float() - self._mean) / self._std
            dtype = next(module.parameters()).dtype
            return cast(Tensor, module(pixel_values=values.to(dtype)).logits)[: len(pixels)].float()
        except Exception as error:
            if _is_out_of_memory(error):
                return None
            if compiled and type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise ModelError(f"--compile does not work here, leave it out: {first_line(error)}") from error
            raise

    def _copy_to_device(self, pixels: Tensor) -> Tensor:
        """The pixels on the device. From pinned memory CUDA copies them while it computes on those before."""
        if self._copying is None:
            return pixels.to(self._device)
        with torch.cuda.stream(self._copying):
            moved = pixels.to(self._device, non_blocking=True)
        computing = torch.cuda.current_stream(self._device)
        computing.wait_stream(self._copying)
        moved.record_stream(computing)
        return moved

    def _too_large(self, what: str) -> str:
        cure = "--precision fp16, a smaller --model or --device cpu"
        return f"{what} does not fit in the memory of {self._device}: try {cure}"


def _has_mps() -> bool:
    return torch.backends.mps.is_available()


def _choose_precision(device: torch.device, module: nn.Module) -> Precision:
    """fp16 on an accelerator; on a CPU bf16 if it has instructions for it and the model is mostly matrices, else fp32.

    Measured on such a CPU: bf16 is 1.8 times as fast for DINOv2-small. For EfficientNet-Lite0, all small
    convolutions, it gains less than that and moves the best score by 0.008 on average, 15 times as much as fp32
    with scaled decoding does.
    """
    if device.type != "cpu":
        return "fp16"
    matrices = sum(layer.weight.numel() for layer in module.modules() if isinstance(layer, nn.Linear))
    mostly_matrices = 2 * matrices > sum(parameter.numel() for parameter in module.parameters())
    return "bf16" if cpu_has_bf16() and mostly_matrices else "fp32"


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return "out of memory" in str(error) or "can't allocate memory" in str(error)
