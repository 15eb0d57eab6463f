"""An image model -> an OpenVINO network, in a folder of the cache.

The network takes uint8 pixels, normalises them itself and takes batches of any size. It is converted once, in float32;
OpenVINO makes bf16 of it when it loads.
"""

import errno
import logging
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from math import prod
from pathlib import Path
from time import perf_counter
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from dinoclassify.models.image_model import ImageModel
from dinoclassify.runtimes.base import UnconvertibleError
from dinoclassify.storage.cache import Stamp, cache_root, kept_folder
from dinoclassify.system.environment import NO_HOME, temporary_folder
from dinoclassify.types.preprocessing import Preprocessing
from dinoclassify.version import __version__

_SILENCED_BY = {"CI": "true", "NNCF_CI": "true"}  # these variables disable their telemetry


@contextmanager
def no_telemetry() -> Iterator[None]:
    """Disable telemetry in the block, for imports and calls."""
    # They look for consent in the home, and raise if there is none.
    homeless = {"HOME": NO_HOME} if os.path.expanduser("~") == "~" else {}
    before = {name: os.environ.get(name) for name in (*_SILENCED_BY, *homeless)}
    os.environ.update(_SILENCED_BY | homeless)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


with no_telemetry():
    import openvino as ov

log = logging.getLogger(__name__)

TOLERANCE = 1e-3  # of the largest logit: how far a converted network may differ from its module, both in float32

_FULL = 1 << 20  # bytes: a disk with less free space counts as full
_SLOW_FROM = 1_000_000  # parameters: smaller models convert in a moment
_NETWORK = "network.xml"  # and network.bin
_REFUSAL = "refusal.txt"  # takes the place of a network, and says why there is none
# Words of errors with another cause than the model. Python errors raised while OpenVINO converts come back as text.
_LACKING = re.compile(
    "bad_alloc|out of memory|not enough memory|can(no|')t allocate|can't start new thread|temporarily unavailable"
    "|memoryerror|unable to allocate|too many open files|stopped by sig|keyboardinterrupt",
    re.IGNORECASE,
)


@cache
def core() -> ov.Core:
    """OpenVINO's core: one for the process, as the objects it creates must not outlive it."""
    return ov.Core()


def processor() -> str:
    """The name of the processor, from OpenVINO."""
    return str(core().get_property("CPU", "FULL_DEVICE_NAME"))


def read_network(folder: Path) -> ov.Model:
    """The network in a folder of the cache."""
    return core().read_model(folder / _NETWORK)


def save_network(network: ov.Model, folder: Path) -> None:
    """Write a network to a folder, with its weights in full precision; raises OSError."""
    try:
        ov.save_model(network, folder / _NETWORK, compress_to_fp16=False)
    except RuntimeError as error:
        is_full = shutil.disk_usage(folder).free < _FULL
        number, reason = (errno.ENOSPC, os.strerror(errno.ENOSPC)) if is_full else (errno.EIO, reason_of(error))
        raise OSError(number, reason, str(folder)) from error


def reason_of(error: Exception) -> str:
    """The message of an OpenVINO error in one line, without the C++ and Python lines of its traceback."""
    message = str(error).partition("\n\nAt:\n")[0]
    lines = [line.strip().removeprefix("Caught exception: ") for line in message.splitlines()]
    return " ".join(line for line in lines if line and not line.startswith("Exception from ")) or type(error).__name__


def versions() -> Stamp:
    """What a network depends on beside its model."""
    packages = {package: version(package) for package in ("openvino", "torch", "transformers")}
    return {"dinoclassify": __version__, **packages}


def converted(model: ImageModel) -> Path:
    """The folder of the model's network, converted at first use. That a model cannot be converted is kept as well.

    Raises UnconvertibleError if OpenVINO does not support the model, or gives other outputs than PyTorch, or there is
    no room for the network, and ModelError if the model cannot be loaded.
    """
    if model.preprocessing.output_size is None:
        raise UnconvertibleError(f"OpenVINO runs models with one input size, and {model.name} takes many")
    conversions: list[ov.Model | str] = []  # at most one, though `make` may be called for several folders

    def make(folder: Path) -> None:
        if not conversions:
            conversions.append(_convert(model, once=folder.parent == cache_root()))
        network = conversions[0]
        if isinstance(network, str):
            (folder / _REFUSAL).write_text(network, encoding="utf-8")
        else:
            save_network(network, folder)

    try:
        folder = kept_folder(f"openvino-{model.digest()[:32]}", versions(), make)
    except OSError as error:
        if temporary_folder() is None:
            raise  # torch would need one too
        cure = "set XDG_CACHE_HOME, or TMPDIR, to a folder that can be written and has room"
        raise UnconvertibleError(
            f"no room for the OpenVINO form of {model.name} ({error.strerror or error}): {cure}"
        ) from error
    if (folder / _REFUSAL).exists():
        raise UnconvertibleError(_refused(model, (folder / _REFUSAL).read_text(encoding="utf-8")))
    return folder


def _refused(model: ImageModel, reason: str) -> str:
    return f"OpenVINO cannot convert {model.name} ({reason})"


def mostly_matrices(network: ov.Model) -> bool:
    """Whether more than half of the constants of a network are factors of matrix products."""
    constants = [node for node in network.get_ops() if node.get_type_name() == "Constant"]
    factors = {
        value.get_node().get_friendly_name()
        for node in network.get_ops()
        if node.get_type_name() == "MatMul"
        for value in node.input_values()
    }
    sizes = {node.get_friendly_name(): prod(node.get_output_shape(0)) for node in constants}
    return bool(2 * sum(size for name, size in sizes.items() if name in factors) > sum(sizes.values()))


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


def _convert(model: ImageModel, *, once: bool) -> ov.Model | str:
    """The network, or the reason why the model cannot be converted; UnconvertibleError if it is not the model."""
    started = perf_counter()
    size = model.preprocessing.output_size or ()
    module = _Network(model)
    if sum(parameter.numel() for parameter in module.parameters()) >= _SLOW_FROM:
        log.warning("preparing %s for OpenVINO%s: about 20 s", model.name, ", once on this machine" if once else "")
    from dinoclassify.models.checkpoint import silenced  # slow to import, but the model has imported most of it

    is_plain = isinstance(model.preprocessing, Preprocessing)
    input_type = ov.Type.u8 if is_plain else ov.Type.f32
    probe = torch.randint(0, 256, (2, 3, *size), generator=torch.Generator().manual_seed(0))
    probe = probe.to(torch.uint8 if is_plain else torch.float32)
    with warnings.catch_warnings(), silenced(), _same_logging(), no_telemetry(), torch.inference_mode():
        warnings.simplefilter("ignore")
        try:
            expected = module(probe)
            _average_whole_maps(module, max(size))
            network = ov.convert_model(module, example_input=probe, input=[([-1, 3, *size], input_type)])
            output = core().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(probe.numpy())[0]
        except Exception as error:  # OpenVINO raises many kinds for a step that it does not support
            if _comes_from_machine(error):
                raise UnconvertibleError(_refused(model, reason_of(error))) from error
            return reason_of(error)
    difference = _relative_difference(output, expected.numpy())
    if not difference < TOLERANCE:  # NaN fails too
        return f"its outputs differ from those of PyTorch by {difference:.1e}"
    log.info("prepared %s in %.1f s", model.name, perf_counter() - started)
    return network


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
