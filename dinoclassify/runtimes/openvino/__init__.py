"""The OpenVINO runtime, for CPUs. Imported when it is chosen; OpenVINO itself is imported when it has work to do."""

from collections.abc import Sequence

from dinoclassify.models.image_model import ImageModel
from dinoclassify.runtimes.base import Runtime
from dinoclassify.runtimes.openvino.runtime import OpenVINORuntime
from dinoclassify.types.compute import RequestedPrecision


def open_model(model: ImageModel, _: Sequence[str], precision: RequestedPrecision) -> Runtime:
    """The model on the CPU; see `runtime.OpenVINORuntime`, and `int8` for that precision."""
    if precision == "int8":
        from dinoclassify.runtimes.openvino.int8 import Int8Runtime

        return Int8Runtime(model)
    return OpenVINORuntime(model, precision)
