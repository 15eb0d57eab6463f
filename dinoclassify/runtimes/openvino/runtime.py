"""An image model on OpenVINO: faster on CPUs than PyTorch, and without torch once the model is converted."""

import errno
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from dinoclassify.decoding.batch import Pixels, together
from dinoclassify.errors import ModelError
from dinoclassify.models.image_model import ImageModel
from dinoclassify.runtimes.base import (
    Outputs,
    PendingOutput,
    UnconvertibleError,
    finite_rows,
    to_outputs,
)
from dinoclassify.runtimes.openvino.compiled import (
    CompiledFacts,
    Loaded,
    find_compiled,
    keep_compiled,
    load_compiled,
    read_facts,
)
from dinoclassify.runtimes.openvino.network import converted
from dinoclassify.storage.cache.folder import discard
from dinoclassify.system.environment import available_cpus
from dinoclassify.system.processor import cpu_has_amx, cpu_has_bf16
from dinoclassify.types.compute import Precision, RequestedPrecision

if TYPE_CHECKING:  # importing it takes a moment, in which workers decode
    import openvino as ov

log = logging.getLogger(__name__)

# Among 1, 2, 4 and 8 images a request, 2 were 2 to 14 % faster with DINOv2-small on 2 cores. With AMX, whose products
# take a third of the time, requests of 4 cost less beside the products.
BATCH_SIZE, AMX_BATCH_SIZE = 2, 4


class OpenVINORuntime:
    """A model that takes images of one size, on the CPU; see `Runtime` for the call.

    The precision is ``fp32`` or ``bf16``; ``auto`` is bf16 where the CPU computes in it and the model is mostly
    matrices, else fp32, for the reasons in `runtimes.pytorch`. ``quantised`` is the folder of an int8 network to use in
    place of the converted one. Raises UnconvertibleError if OpenVINO does not support this model, or lacks something on
    this machine, and ModelError if the model cannot be loaded.

    A network that an earlier run compiled is loaded when it is first needed: OpenVINO is not imported before.
    """

    name = "openvino"
    device = "cpu"

    def __init__(
        self, model: ImageModel, precision: RequestedPrecision = "auto", *, quantised: Path | None = None
    ) -> None:
        if precision == "bf16" and quantised is None and not cpu_has_bf16():
            log.warning("this processor has no instructions for bf16: going on in fp32")
            precision = "fp32"
        self._model = model
        self._network = quantised or converted(model)
        self._requested = precision
        self._is_quantised = quantised is not None
        self._kept = find_compiled(self._network, precision)
        self._loaded: Loaded | None = None
        facts = read_facts(self._kept) if self._kept is not None else None
        if facts is None:
            if self._kept is not None:
                discard(self._kept)
            facts = self._compile_and_keep()
        self._facts = facts
        self.precision: Precision = facts.precision
        self.outputs = facts.outputs
        # Twice the requests that run at a time, so that none waits while rows are written.
        self.ahead = 2 * facts.requests
        self.batch_size = AMX_BATCH_SIZE if self.precision != "fp32" and cpu_has_amx() else BATCH_SIZE
        self._idle: list[ov.InferRequest] = []
        self._in_fp32: Loaded | None = None

    def load(self) -> None:
        """Load the model, if it is not loaded yet."""
        try:
            self._load()
        except UnconvertibleError as error:  # an earlier run could load it
            raise UnconvertibleError(f"{error}: try again, or use --runtime torch") from error

    def __call__(self, parts: Sequence[Pixels]) -> PendingOutput:
        """Start to compute a batch."""
        pixels = together(parts)
        request = self._idle.pop() if self._idle else self._load().model.create_infer_request()
        request.start_async(pixels, share_inputs=True)

        def wait() -> Outputs:
            """Wait for the outputs; rows that are not finite are computed again in fp32."""
            with _running(self._model.name):
                request.wait()
            logits: Outputs = np.array(request.get_output_tensor().data, np.float32)
            self._idle.append(request)
            overflowed = ~finite_rows(logits)
            if self.precision != "fp32" and overflowed.any():
                logits[overflowed] = self._again_in_fp32(pixels[overflowed])
            return to_outputs(self._model.activation, logits)

        return wait

    def _load(self) -> Loaded:
        if self._loaded is None and self._kept is not None:
            self._loaded = self._load_kept(self._kept)
        if self._loaded is None:
            self._compile_and_keep()
        return cast(Loaded, self._loaded)

    def _load_kept(self, folder: Path) -> Loaded | None:
        """Load what an earlier run compiled. Returns None if it cannot be read; if it is damaged, it is removed."""
        try:
            return load_compiled(folder, self._facts)
        except (RuntimeError, MemoryError, OSError, ValueError) as error:
            if _is_lack_of_memory(error):
                raise _no_memory(self._model.name) from error
            log.info("a compiled network does not load (%s): compiling it again", error)
            if not isinstance(error, OSError):  # else its disk may be away
                discard(folder)
            return None

    def _again_in_fp32(self, pixels: Pixels) -> Outputs:
        if self._in_fp32 is None:
            log.warning("some outputs in %s are not finite and are computed again in fp32", self.precision)
            network = _read(converted(self._model), self._model.name)
            self._in_fp32 = Loaded(self._compile(network, _hints("fp32")))
        outputs: Outputs = self._in_fp32.model(pixels)[0]
        return outputs

    def _compile_and_keep(self) -> CompiledFacts:
        """Compile the network, as later runs find it; convert it again if the cache was cleared meanwhile."""
        from dinoclassify.runtimes.openvino.api import mostly_matrices

        if not self._is_quantised:
            self._network = converted(self._model)
        network = _read(self._network, self._model.name)
        precision: Precision = "fp32"
        if self._requested == "auto":
            precision = "bf16" if cpu_has_bf16() and mostly_matrices(network) else "fp32"
        elif self._requested == "bf16":
            precision = "bf16"
        hints = _hints(precision)
        compiled = self._compile(network, hints)
        self._loaded = Loaded(compiled)
        facts = CompiledFacts(
            precision="int8" if self._is_quantised else precision,
            outputs=int(network.output(0).partial_shape[1].get_length()),
            requests=int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")),
            hints=hints,
        )
        keep_compiled(compiled, facts, self._network, self._requested)
        return facts

    def _compile(self, network: "ov.Model", hints: dict[str, str]) -> "ov.CompiledModel":
        """Compile a network; adds a hint where OpenVINO would use more processors than there are."""
        from dinoclassify.runtimes.openvino.api import core

        with _loading(self._model.name):
            compiled = core().compile_model(network, "CPU", hints)
            if compiled.get_property("INFERENCE_NUM_THREADS") > available_cpus():  # it ignores control groups
                hints["INFERENCE_NUM_THREADS"] = str(available_cpus())
                del compiled  # so that only one is in memory
                compiled = core().compile_model(network, "CPU", hints)
            return compiled


def _hints(precision: Precision) -> dict[str, str]:
    # Several requests at a time, each with a share of the cores, are 5 to 10 % faster than one with all cores.
    return {"INFERENCE_PRECISION_HINT": precision.replace("fp", "f"), "PERFORMANCE_HINT": "THROUGHPUT"}


def _read(folder: Path, name: str) -> "ov.Model":
    from dinoclassify.runtimes.openvino.api import read_network

    with _loading(name):
        return read_network(folder)


@contextmanager
def _loading(name: str) -> Iterator[None]:
    """Raise OpenVINO's errors in loading a model as our own: ModelError for lack of memory, else UnconvertibleError."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        from dinoclassify.runtimes.openvino.api import reason_of

        if _is_lack_of_memory(error):
            raise _no_memory(name) from error
        raise UnconvertibleError(f"OpenVINO cannot load {name} ({reason_of(error)})") from error


def _is_lack_of_memory(error: Exception) -> bool:
    is_named = "bad_alloc" in str(error) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    return is_named or isinstance(error, MemoryError)


def _no_memory(name: str) -> ModelError:
    return ModelError(f"there is not enough memory for {name}: try a smaller --model, or allow more")


@contextmanager
def _running(name: str) -> Iterator[None]:
    """Raise OpenVINO's errors while it runs a model as a ModelError: the images are not the cause."""
    try:
        yield
    except RuntimeError as error:
        from dinoclassify.runtimes.openvino.api import reason_of

        cure = "allow more memory, or use --runtime torch"
        raise ModelError(f"OpenVINO cannot run {name} ({reason_of(error)}): {cure}") from error
