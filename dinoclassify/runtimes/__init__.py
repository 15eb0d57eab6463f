"""Runtimes: pixels in, a model's outputs out. One file each; see `base.Runtime`."""

import logging
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

from dinoclassify.errors import ModelError, UsageError
from dinoclassify.models.image_model import ImageClassifier, ImageModel
from dinoclassify.runtimes.base import Runtime, UnconvertibleError
from dinoclassify.runtimes.devices import find_devices
from dinoclassify.system.environment import few_processes
from dinoclassify.types.compute import RequestedPrecision, RuntimeName

log = logging.getLogger(__name__)

# Runtimes beside PyTorch, by the name in `types.compute.RuntimeName`: the library, and the module that is imported when
# the runtime is chosen. Its `open_model(model, devices, precision)` gives a `Runtime`.
_OPTIONAL = {"openvino": ("OpenVINO", "dinoclassify.runtimes.openvino")}


def choose_devices(runtime: RuntimeName, device: str, precision: RequestedPrecision, *, compiled: bool) -> list[str]:
    """The devices that the model is to run on, one replica on each; raises UsageError for options that do not fit."""
    needs_openvino = runtime == "openvino" or precision == "int8"
    if needs_openvino and (runtime == "torch" or compiled or precision == "fp16"):
        raise UsageError("fp16 and --compile go with --runtime torch, int8 with --runtime openvino")
    if needs_openvino and device not in ("auto", "cpu"):
        raise UsageError("OpenVINO runs on the CPU here: use --device cpu, or neither --runtime openvino nor int8")
    return find_devices("cpu" if needs_openvino else device)


def open_runtime(
    model: ImageModel,
    runtime: RuntimeName,
    devices: Sequence[str],
    precision: RequestedPrecision = "auto",
    *,
    compiled: bool = False,
) -> Runtime:
    """The model in the requested runtime; ``auto`` is OpenVINO on a CPU where it is installed, else PyTorch.

    No runtime computes in more threads than there are available processors: more would wait for one another. Raises
    UsageError if the runtime is not installed, and ModelError if the model cannot be loaded, does not fit the device,
    has other classes than labels, or does not run in the requested runtime.
    """
    opened = _open(model, "openvino" if precision == "int8" else runtime, devices, precision, compiled=compiled)
    if isinstance(model, ImageClassifier) and opened.outputs != len(model.labels):
        classes = f"names {len(model.labels)} classes and has {opened.outputs}"
        raise ModelError(f"{model.name} {classes}: mend id2label in its config.json")
    return opened


def _open(
    model: ImageModel,
    runtime: RuntimeName,
    devices: Sequence[str],
    precision: RequestedPrecision,
    *,
    compiled: bool,
) -> Runtime:
    if runtime == "auto" and devices[0] == "cpu" and not compiled and precision != "fp16" and _may_use_openvino():
        try:
            return _open_optional("openvino", model, devices, precision)
        except ImportError as error:
            log.warning("OpenVINO cannot be imported (%s): going on with torch", error)
        except UnconvertibleError as error:
            log.warning("%s: going on with torch", error)
    elif runtime in _OPTIONAL:
        try:
            return _open_optional(runtime, model, devices, precision)
        except ImportError as error:
            library, _ = _OPTIONAL[runtime]
            raise UsageError(f"{library} needs: pip install 'dinoclassify[{runtime}]'") from error
        except UnconvertibleError as error:
            if precision == "int8":
                raise
            raise UnconvertibleError(f"{error}; or use --runtime torch") from error
    from dinoclassify.runtimes.pytorch import open_model

    return open_model(model, devices, precision, compiled=compiled)


def _open_optional(name: str, model: ImageModel, devices: Sequence[str], precision: RequestedPrecision) -> Runtime:
    _, module = _OPTIONAL[name]
    runtime: Runtime = import_module(module).open_model(model, devices, precision)
    return runtime


def _may_use_openvino() -> bool:
    """Whether OpenVINO is installed, and enough threads can be started; otherwise it would hang."""
    if few_processes():
        log.warning("few processes may be started (ulimit -u, or the limit of the container): going on with torch")
        return False
    return find_spec("openvino") is not None
