"""Pinned memory, from and to which CUDA copies while the processor goes on."""

import torch
from torch import Tensor


def empty(shape: tuple[int, ...], dtype: torch.dtype, *, pinned: bool) -> Tensor:
    """An uninitialised tensor; in pinned memory if asked, see `empty_pinned`."""
    return empty_pinned(shape, dtype) if pinned else torch.empty(shape, dtype=dtype)


def empty_pinned(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """An uninitialised tensor in pinned memory; in ordinary memory, which is slower, where none can be pinned."""
    try:
        return torch.empty(shape, dtype=dtype, pin_memory=True)
    except RuntimeError as error:
        if "out of memory" not in str(error):
            raise
        return torch.empty(shape, dtype=dtype)
