"""What a runtime is, and what its implementations share."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from dinoclassify.decoding.batch import Pixels
from dinoclassify.errors import ModelError
from dinoclassify.models.image_model import Activation
from dinoclassify.types.compute import Precision

Outputs = npt.NDArray[np.float32]  # B x outputs
PendingOutput = Callable[[], Outputs]  # waits for the outputs


class UnconvertibleError(ModelError):
    """A runtime other than PyTorch cannot run this model, or not on this machine."""


class Runtime(Protocol):
    """An engine with a model in it.

    A call takes pixels, uint8 or an `OpaqueProcessor`'s float32, in parts of B x 3 x H x W, and starts to compute all
    of them together. It returns a `PendingOutput`, whose call waits for the outputs after `ImageModel.activation`. A
    row whose outputs are not finite is all NaN.
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

    def load(self) -> None:
        """Load the model now, if it is not loaded yet; otherwise the first call does."""

    def __call__(self, parts: Sequence[Pixels]) -> PendingOutput:
        """Start to compute a batch."""


def to_outputs(activation: Activation, logits: Outputs) -> Outputs:
    """Logits -> the model's outputs; a row with a logit that is not finite becomes NaN."""
    with np.errstate(all="ignore"):  # of rows that are not finite, and of sigmoids of large logits
        outputs = _ACTIVATIONS[activation](logits)
    outputs[~finite_rows(logits)] = np.nan
    return outputs


def finite_rows(logits: Outputs) -> npt.NDArray[np.bool_]:
    """Which rows are finite throughout: B x outputs -> bool, B."""
    finite: npt.NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(logits), axis=1)
    return finite


def _softmax(logits: Outputs) -> Outputs:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    normalized: Outputs = powers / powers.sum(axis=1, keepdims=True)
    return normalized


def _sigmoid(logits: Outputs) -> Outputs:
    probabilities: Outputs = np.reciprocal(1 + np.exp(-logits))
    return probabilities


_ACTIVATIONS: dict[Activation, Callable[[Outputs], Outputs]] = {
    "none": np.copy,
    "softmax": _softmax,
    "sigmoid": _sigmoid,
}
