"""Pixels on their way to a GPU: gathered in pinned memory, from which CUDA copies while the processor goes on."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dinoclassify.decoding.batch import Pixels


class Staging:
    """A ring of ``count`` pinned buffers for the batches of one GPU; each is free again when its copy is done.

    The parts of a batch are copied side by side, once: workers hand over few images, the GPU gets many.
    """

    def __init__(self, device: torch.device, count: int) -> None:
        self._device = device
        self._copying = torch.cuda.Stream(device)
        self._buffers: list[Tensor] = [torch.empty(0, dtype=torch.uint8)] * count
        self._copied: list[torch.cuda.Event | None] = [None] * count
        self._turn = 0

    def fill(self, parts: Sequence[Pixels]) -> Tensor:
        """The parts as one batch in pinned memory: B x 3 x H x W."""
        self._turn = (self._turn + 1) % len(self._buffers)
        if (copied := self._copied[self._turn]) is not None:
            copied.synchronize()
        first = torch.from_numpy(parts[0])
        shape = (sum(map(len, parts)), *first.shape[1:])
        needed = math.prod(shape)
        if self._buffers[self._turn].numel() < needed or self._buffers[self._turn].dtype != first.dtype:
            self._buffers[self._turn] = empty_pinned((needed,), first.dtype)
        batch = self._buffers[self._turn][:needed].view(shape)
        torch.cat([torch.from_numpy(part) for part in parts], out=batch)
        return batch

    def to_device(self, pixels: Tensor) -> Tensor:
        """Start to copy pixels to the GPU, beside what it computes; what is computed next waits for them."""
        with torch.cuda.stream(self._copying):
            on_device = pixels.to(self._device, non_blocking=True)
            self._copied[self._turn] = self._copying.record_event()
        computing = torch.cuda.current_stream(self._device)
        computing.wait_stream(self._copying)
        on_device.record_stream(computing)
        return on_device


def empty_pinned(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """An uninitialised tensor in pinned memory; in ordinary memory, which is slower, where none can be pinned."""
    try:
        return torch.empty(shape, dtype=dtype, pin_memory=True)
    except RuntimeError as error:
        if "out of memory" not in str(error):
            raise
        return torch.empty(shape, dtype=dtype)
