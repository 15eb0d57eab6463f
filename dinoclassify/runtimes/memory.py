"""Errors of PyTorch that mean that memory ran out."""

import torch

from dinoclassify.errors import ModelError

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
