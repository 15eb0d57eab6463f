"""Memory that CUDA can copy from and to by itself."""

import torch
from torch import Tensor


def empty_pinned(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """An uninitialised tensor in pinned memory; where there is none to pin, in ordinary memory, which is slower."""
    try:
        return torch.empty(shape, dtype=dtype, pin_memory=True)
    except RuntimeError as error:
        if "out of memory" not in str(error):
            raise
        return torch.empty(shape, dtype=dtype)
