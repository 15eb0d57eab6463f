"""The OpenVINO runtime, for CPUs: faster there than PyTorch, and without transformers once a model is converted."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dinoclassify.errors import ModelError
from dinoclassify.models.image_model import ImageModel
from dinoclassify.runtimes.base import PendingOutput, Runtime, UnconvertibleError, finite_rows, to_outputs
from dinoclassify.runtimes.devices import cpu_has_bf16
from dinoclassify.runtimes.openvino_network import (
    converted,
    core,
    mostly_matrices,
    no_telemetry,
    read_network,
    reason_of,
)
from dinoclassify.system.environment import available_cpus
from dinoclassify.types.compute import Precision, RequestedPrecision

with no_telemetry():
    import openvino as ov

log = logging.getLogger(__name__)

# Among 1, 2, 4 and 8 images a request, 2 were 2 to 14 % faster with DINOv2-small on 2 cores.
BATCH_SIZE = 2


def open_model(model: ImageModel, _: Sequence[torch.device], precision: RequestedPrecision) -> Runtime:
    """The model on the CPU; see `OpenVINORuntime`, and `runtimes.int8` for that precision."""
    from dinoclassify.runtimes.int8 import Int8Runtime  # which needs this module

    return Int8Runtime(model) if precision == "int8" else OpenVINORuntime(model, precision)


class OpenVINORuntime:
    """A model that takes images of one size, on the CPU; see `Runtime` for the call.

    The precision is ``fp32`` or ``bf16``; ``auto`` is bf16 where the CPU computes in it and the model is mostly
    matrices, else fp32, for the reasons in `runtimes.pytorch`. ``quantised`` is the folder of an int8 network to use in
    place of the converted one. Raises UnconvertibleError if OpenVINO does not support this model, or lacks something on
    this machine, and ModelError if the model cannot be loaded.
    """

    name = "openvino"
    device = "cpu"

    def __init__(
        self, model: ImageModel, precision: RequestedPrecision = "auto", *, quantised: Path | None = None
    ) -> None:
        self._model = model
        folder = quantised or converted(model)
        with _loading(model.name):
            network = read_network(folder)
        if precision == "auto":
            precision = "bf16" if cpu_has_bf16() and mostly_matrices(network) else "fp32"
        if precision == "bf16" and not cpu_has_bf16():
            log.warning("this processor has no instructions for bf16: going on in fp32")
            precision = "fp32"
        self.precision: Precision = precision if quantised is None else "int8"
        self._compiled = self._compile(network, precision)
        self.outputs = int(network.output(0).partial_shape[1].get_length())
        # Twice the requests that run at a time, so that none waits while rows are written.
        self.ahead = 2 * int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self.batch_size = BATCH_SIZE
        self._idle: list[ov.InferRequest] = []

    def __call__(self, pixels: Tensor) -> PendingOutput:
        """Start to compute a batch."""
        request = self._idle.pop() if self._idle else self._compiled.create_infer_request()
        request.start_async(pixels.numpy(), share_inputs=True)

        def wait() -> Tensor:
            """Wait for the outputs; rows that are not finite are computed again in fp32."""
            with _running(self._model.name):
                request.wait()
            logits = torch.from_numpy(np.array(request.get_output_tensor().data, np.float32))
            self._idle.append(request)
            overflowed = ~finite_rows(logits)
            if self.precision != "fp32" and overflowed.any():
                logits[overflowed] = torch.from_numpy(self._in_fp32(pixels[overflowed].numpy())[0])
            return to_outputs(self._model, logits)

        return wait

    @cached_property
    def _in_fp32(self) -> ov.CompiledModel:
        log.warning("some outputs in %s are not finite and are computed again in fp32", self.precision)
        return self._compile(read_network(converted(self._model)), "fp32")

    def _compile(self, network: ov.Model, precision: Precision) -> ov.CompiledModel:
        with _loading(self._model.name):
            # Several requests at a time, each with a share of the cores, are 5 to 10 % faster than one with all cores.
            hints = {"INFERENCE_PRECISION_HINT": precision.replace("fp", "f"), "PERFORMANCE_HINT": "THROUGHPUT"}
            compiled = core().compile_model(network, "CPU", hints)
            if compiled.get_property("INFERENCE_NUM_THREADS") > available_cpus():  # it ignores control groups
                hints["INFERENCE_NUM_THREADS"] = str(available_cpus())
                del compiled  # so that only one is in memory
                compiled = core().compile_model(network, "CPU", hints)
            return compiled


@contextmanager
def _loading(name: str) -> Iterator[None]:
    """Raise OpenVINO's errors in loading a model as our own: ModelError for lack of memory, else UnconvertibleError."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, MemoryError) or "bad_alloc" in str(error):
            raise ModelError(f"there is not enough memory for {name}: try a smaller --model, or allow more") from error
        raise UnconvertibleError(f"OpenVINO cannot load {name} ({reason_of(error)})") from error


@contextmanager
def _running(name: str) -> Iterator[None]:
    """Raise OpenVINO's errors while it runs a model as a ModelError: the images are not the cause."""
    try:
        yield
    except RuntimeError as error:
        cure = "allow more memory, or use --runtime torch"
        raise ModelError(f"OpenVINO cannot run {name} ({reason_of(error)}): {cure}") from error
