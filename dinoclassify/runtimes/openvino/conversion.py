"""A torch module -> an OpenVINO network, compared with it."""

import logging
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from time import perf_counter
from typing import cast

import numpy as np
import numpy.typing as npt
import openvino as ov
import torch
from torch import Tensor, nn

from dinoclassify.models.image_model import ImageModel
from dinoclassify.runtimes.base import UnconvertibleError
from dinoclassify.runtimes.openvino.api import core, no_telemetry, reason_of
from dinoclassify.runtimes.openvino.network import refused
from dinoclassify.types.preprocessing import Preprocessing

log = logging.getLogger(__name__)

TOLERANCE = 1e-3  # of the largest logit: how far a converted network may differ from its module, both in float32

_SLOW_FROM = 1_000_000  # parameters: smaller models convert in a moment
# Words of errors with another cause than the model. Python errors raised while OpenVINO converts come back as text.
_LACKING = re.compile(
    "bad_alloc|out of memory|not enough memory|can(no|')t allocate|can't start new thread|temporarily unavailable"
    "|memoryerror|unable to allocate|too many open files|stopped by sig|keyboardinterrupt",
    re.IGNORECASE,
)


class _Network(nn.Module):
    """uint8 pixels -> logits: the module that is converted."""

    def __init__(self, model: ImageModel) -> None:
        super().__init__()
        preprocessing = model.preprocessing
        self.model = model.load()
        self.mean = nn.Buffer(torch.tensor(preprocessing.mean).view(3, 1, 1))
        self.std = nn.Buffer(torch.tensor(preprocessing.std).view(3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        return cast(Tensor, self.model(pixel_values=(pixels.float() - self.mean) / self.std).logits)


def convert(model: ImageModel, *, once: bool) -> ov.Model | str:
    """The network, or the reason why the model cannot be converted; UnconvertibleError if it is not the model."""
    started = perf_counter()
    size = model.preprocessing.output_size or ()
    module = _Network(model)
    if sum(parameter.numel() for parameter in module.parameters()) >= _SLOW_FROM:
        log.warning("preparing %s for OpenVINO%s: about 20 s", model.name, ", once on this machine" if once else "")
    is_plain = isinstance(model.preprocessing, Preprocessing)
    input_type = ov.Type.u8 if is_plain else ov.Type.f32
    probe = torch.randint(0, 256, (2, 3, *size), generator=torch.Generator().manual_seed(0))
    probe = probe.to(torch.uint8 if is_plain else torch.float32)
    with warnings.catch_warnings(), _silenced(), _same_logging(), no_telemetry(), torch.inference_mode():
        warnings.simplefilter("ignore")
        try:
            expected = module(probe)
            _average_whole_maps(module, max(size))
            network = ov.convert_model(module, example_input=probe, input=[([-1, 3, *size], input_type)])
            output = core().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(probe.numpy())[0]
        except Exception as error:  # OpenVINO raises many kinds for a step that it does not support
            if _comes_from_machine(error):
                raise UnconvertibleError(refused(model, reason_of(error))) from error
            return reason_of(error)
    difference = _relative_difference(output, expected.numpy())
    if not difference < TOLERANCE:  # NaN fails too
        return f"its outputs differ from those of PyTorch by {difference:.1e}"
    log.info("prepared %s in %.1f s", model.name, perf_counter() - started)
    return network


def _silenced() -> AbstractContextManager[None]:
    """Keep transformers from printing anything in the block, if the model is one of its own."""
    if "transformers" not in sys.modules:
        return nullcontext()
    from dinoclassify.models.checkpoint import silenced  # which imports transformers

    return silenced()


def _relative_difference(output: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> float:
    """The largest difference, relative to the largest output; 0 if all are equal, even if all are zero."""
    difference = np.abs(output - expected).max()
    with np.errstate(divide="ignore"):  # some output where zero is expected: infinity
        return float(difference / np.abs(expected).max()) if difference else 0.0


@contextmanager
def _same_logging() -> Iterator[None]:
    """Restore the root logger after the block: a conversion in OpenVINO changes it, and leaves it so if it fails."""
    root = logging.getLogger()
    level, filters, handlers = root.level, root.filters.copy(), root.handlers.copy()
    try:
        yield
    finally:
        root.setLevel(level)
        root.filters[:], root.handlers[:] = filters, handlers


def _comes_from_machine(error: BaseException | None) -> bool:
    """Whether an error, or one of its causes, comes from the machine or a stopped run rather than from the model."""
    while error is not None:
        if isinstance(error, MemoryError | OSError | ImportError) or _LACKING.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _average_whole_maps(module: nn.Module, largest: int) -> None:
    """Replace averages over a window larger than any map, which EfficientNet has: OpenVINO refuses them."""
    for name, layer in list(module.named_modules()):
        window = layer.kernel_size if isinstance(layer, nn.AvgPool2d) and layer.ceil_mode else 0
        if isinstance(window, int) and window > largest:
            module.set_submodule(name, nn.AdaptiveAvgPool2d(1))
