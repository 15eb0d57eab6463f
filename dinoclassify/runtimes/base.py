"""What a runtime is, and what its implementations share."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from dinoclassify.errors import ModelError
from dinoclassify.models.image_model import ImageModel
from dinoclassify.types.compute import Precision

PendingOutput = Callable[[], Tensor]  # waits for the outputs: float32, B x outputs, on the CPU


class UnconvertibleError(ModelError):
    """A runtime other than PyTorch cannot run this model, or not on this machine."""


class Runtime(Protocol):
    """An engine with a model in it.

    A call takes pixels, B x 3 x H x W, uint8 or an `OpaqueProcessor`'s float32, and starts to compute. It returns a
    `PendingOutput`, whose call waits for the result of `ImageModel.postprocess`. A row whose outputs are not finite is
    all NaN.
    """

    @property
    def name(self) -> str:
        """Its name for `--runtime`."""

    @property
    def device(self) -> str:
        """The device it runs on, as torch names it."""

    @property
    def precision(self) -> Precision:
        """The precision it computes in now."""

    @property
    def batch_size(self) -> int:
        """The batch size with the best measured throughput."""

    @property
    def outputs(self) -> int:
        """The number of outputs for each image."""

    @property
    def ahead(self) -> int:
        """How many further batches to start before waiting for a result."""

    def __call__(self, pixels: Tensor) -> PendingOutput:
        """Start to compute a batch."""


def to_outputs(model: ImageModel, logits: Tensor) -> Tensor:
    """float32 logits, B x outputs -> the model's outputs; a row with a logit that is not finite becomes NaN."""
    outputs = model.postprocess(logits)
    outputs[~finite_rows(logits)] = torch.nan
    return outputs


def finite_rows(logits: Tensor) -> Tensor:
    """Which rows are finite throughout: B x outputs -> bool, B."""
    return logits.isfinite().all(dim=1)
