"""Devices as torch sees them: how they compute, and whether their memory ran out."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from dinoclassify.errors import ModelError
from dinoclassify.system.processor import cpu_has_bf16

_settings_lock = threading.RLock()  # held while settings of the process are changed

# Words of errors when memory runs out. cuBLAS says that it is not initialised when its handle finds no memory.
_OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "_STATUS_ALLOC_FAILED",
    "ALLOCATION_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate",
)
# cuDNN's words when it has no memory to try its engines, but also for a convolution that it does not support.
_NO_ENGINE = "unable to find an engine to execute this computation"


class TooLargeError(ModelError):
    """The model, or one image with it, does not fit in the memory of the device."""


def has_bf16(device: torch.device) -> bool:
    """Whether the device computes in bf16 itself, rather than emulate it."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and cpu_has_bf16()


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory certainly ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(words in str(error) for words in _OUT_OF_MEMORY)


def has_no_engine(error: BaseException | None) -> bool:
    """Whether cuDNN found no way to compute, which may be for lack of memory."""
    return _NO_ENGINE in str(error)


def may_be_out_of_memory(error: Exception) -> bool:
    """Whether memory may have run out, by the error or its cause."""
    if isinstance(error, TooLargeError) or is_out_of_memory(error):
        return True
    return has_no_engine(error) or has_no_engine(error.__cause__)


@contextmanager
def without_tf32() -> Iterator[None]:
    """Compute in full float32 within the block: GPUs from Ampere on use TF32 for convolutions by default.

    The settings belong to the process, and are restored when the block ends. Side effect: afterwards torch treats
    its default TF32 setting as chosen by the program; it offers no way to unset it.
    """
    cudnn: Any = torch.backends.cudnn  # torch does not type these settings
    off: object
    if hasattr(cudnn, "conv"):  # from torch 2.9 on, which refuses a mixture of both APIs
        settings = [cudnn.conv, cudnn.rnn, torch.backends.cuda.matmul]
        name, off, inherited = "fp32_precision", "ieee", "none"
    else:
        settings = [cudnn, torch.backends.cuda.matmul]
        name, off, inherited = "allow_tf32", False, None
    with _settings_lock:
        before = [getattr(setting, name) for setting in settings]
        try:
            for setting in settings:
                setattr(setting, name, off)
            yield
        finally:
            for setting, value in zip(settings, before, strict=True):
                if inherited is not None:
                    setattr(setting, name, inherited)
                if getattr(setting, name) != value:  # it was not inherited
                    setattr(setting, name, value)
