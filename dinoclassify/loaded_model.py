"""A model on a device, and images decoded for it: what `Classifier` and `Encoder` share."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import ClassVar, Generic

from PIL import Image

from dinoclassify.decoding.batch import Batch
from dinoclassify.decoding.loader import load_batches
from dinoclassify.discovery.discover import discover
from dinoclassify.discovery.in_memory import in_memory
from dinoclassify.errors import UsageError
from dinoclassify.models.image_model import ImageModel
from dinoclassify.models.info import ModelInfo
from dinoclassify.models.names import BUILTIN, DEFAULT
from dinoclassify.runtimes import choose_devices, open_runtime
from dinoclassify.system.environment import available_cpus, default_workers, few_processes
from dinoclassify.system.processor import cpu_has_bf16
from dinoclassify.timing import Stage, advice
from dinoclassify.types.compute import Precision, RequestedPrecision, RuntimeName
from dinoclassify.types.preprocessing import OpaqueProcessor, Preprocessing
from dinoclassify.types.run_options import RunOptions, hand_over
from dinoclassify.types.source import Source
from dinoclassify.writers.formats.base import R, RowFormat
from dinoclassify.writers.provenance import Origin

Input = str | os.PathLike[str] | Image.Image | bytes  # a path, a folder or a glob; an image; an encoded image
Inputs = Input | Iterable[Input | Source]


class LoadedModel(ABC):
    """A model in a runtime, ready for images.

    Args:
        model: a short name (``small``, ``base``, ``large``, ``giant``, each also with ``-reg``; ``builtin``), a hub id,
            or a folder written as a path (``./my-model``).
        revision: a commit, tag or branch of a hub model.
        offline: never use the network; a model in the cache needs none anyway.
        device: ``auto``, ``cpu``, ``cuda`` (all GPUs of the machine, each with the model), ``cuda:N`` or ``mps``.
        precision: ``auto``, ``fp32``, ``bf16``, ``fp16`` or ``int8``; see `runtimes.openvino.int8` for the last.
        runtime: ``auto``, ``torch`` or ``openvino``.
        compiled: compile the model with `torch.compile`, which takes minutes and pays on a long run.

    Raises:
        UsageError: an argument is wrong.
        ModelError: the model cannot be used, see `models.open`.
    """

    _has_labels: ClassVar[bool]

    def __init__(
        self,
        model: str = DEFAULT,
        *,
        revision: str | None = None,
        offline: bool = False,
        device: str = "auto",
        precision: RequestedPrecision = "auto",
        runtime: RuntimeName = "auto",
        compiled: bool = False,
    ) -> None:
        if precision == "int8" and not self._has_labels:
            raise UsageError("int8 is for labels, not for features: choose --precision bf16 or fp32")
        devices = choose_devices(runtime, device, precision, compiled=compiled)
        self._model = self._open(model, revision=revision, offline=offline)
        self._requested_precision, self._requested_runtime, self._compiled = precision, runtime, compiled
        self._runtime = open_runtime(self._model, runtime, devices, precision, compiled=compiled)

    @abstractmethod
    def _open(self, model: str, *, revision: str | None, offline: bool) -> ImageModel:
        """The model, with everything read but its weights."""

    @property
    def model(self) -> str:
        """The model's full name: ``builtin``, a hub id or the path of a folder."""
        return self._model.name

    @property
    def revision(self) -> str | None:
        """The commit of a hub model, the sha256 of the built-in one, None for a folder."""
        return self._model.revision

    @property
    def info(self) -> ModelInfo:
        """What the model is and how it runs now: a runtime may change its precision during a run."""
        return ModelInfo(
            name=self.model,
            revision=self.revision,
            preprocessing=self.preprocessing,
            device=self.device,
            runtime=self.runtime,
            precision=self.precision,
            batch_size=self.batch_size,
        )

    def digest(self) -> str:
        """A digest of the model's weights and settings; reads all of them."""
        return self._model.digest()

    @property
    def batch_size(self) -> int:
        """The default number of images in a batch."""
        return self._runtime.batch_size

    @property
    def preprocessing(self) -> Preprocessing | OpaqueProcessor:
        """What an image goes through before the model sees it."""
        return self._model.preprocessing

    @property
    def device(self) -> str:
        """The device, as torch names it: ``cpu``, ``cuda:1``, ``mps``; several are separated by commas."""
        return self._runtime.device

    @property
    def runtime(self) -> str:
        """The runtime: ``torch`` or ``openvino``."""
        return self._runtime.name

    @property
    def precision(self) -> Precision:
        """The precision that the model computes in now."""
        return self._runtime.precision

    def advice(self, options: RunOptions, command: Mapping[Stage, str] | None = None) -> str:
        """What would make a timed run faster; empty if nothing is known. ``command``: see `timing.advice`."""
        return advice(
            options.timer.bottleneck(),
            runtime=self.runtime,
            precision=self.precision,
            device=self.device,
            compiled=self._compiled,
            exact=options.exact,
            smaller=self.model != BUILTIN,
            bf16=self.device == "cpu" and self._requested_precision == "auto" and cpu_has_bf16(),
            int8=self._has_labels and self._requested_precision != "int8",
            openvino=self._may_use_openvino and find_spec("openvino") is None,
            own_batch_size=options.batch_size is not None,
            workers=options.timer.workers,
            processors=available_cpus(),
            command=command,
        )

    @property
    def _may_use_openvino(self) -> bool:
        """Whether `open_runtime` would choose OpenVINO for this model if it were installed."""
        is_chosen = self._requested_runtime == "auto" and self.device == "cpu" and not self._compiled
        is_able = self._requested_precision != "fp16" and self.preprocessing.output_size is not None
        return is_chosen and is_able and not few_processes()

    def decoded(self, inputs: Inputs, options: RunOptions) -> Iterator[Batch]:
        """The images of ``inputs``, decoded lazily, in batches, in order."""
        workers = options.workers or default_workers(on_cpu=self.device == "cpu")
        options.timer.workers = workers
        sources = _sources(inputs)

        def load() -> None:  # while the workers decode the first images
            with options.timer.measure(None):
                self._runtime.load()

        return load_batches(
            sources if options.live else options.timer.measure_each("walk", sources),
            self.preprocessing,
            batch_size=hand_over(options.batch_size or self._runtime.batch_size),
            workers=workers,
            exact=options.exact,
            max_pixels=options.max_pixels,
            timeout=options.timeout,
            private=options.private_urls,
            live=options.live,
            feed="torch" if self.runtime == "torch" else "plain",
            on_start=load,
        )


def _sources(inputs: Inputs) -> Iterator[Source]:
    for number, item in enumerate([inputs] if isinstance(inputs, str | os.PathLike | Image.Image | bytes) else inputs):
        if isinstance(item, Source):
            yield item
        elif isinstance(item, Image.Image | bytes):
            yield in_memory(item, number)
        else:
            yield from discover([os.fspath(item)])


@dataclass(frozen=True, slots=True)
class Job(Generic[R]):
    """A model, and how its outputs become rows.

    ``infer`` turns batches of images into rows: `Classifier.classify_batches` or `Encoder.embed_batches`. ``settings``
    has the options that the content of rows depends on, by name; ``outputs`` is ``{"labels": n, "multi_label": bool}``
    or ``{"features": n}``.
    """

    model: LoadedModel
    infer: Callable[..., Iterator[R]]
    row_format: RowFormat[R]
    settings: Mapping[str, object]
    outputs: Mapping[str, int]

    def rows(self, sources: Iterable[Source], options: RunOptions) -> Iterator[R]:
        """Yield one row for each source, in order."""
        return self.infer(self.model.decoded(sources, options), options=options)

    def origin(self) -> Origin[R]:
        """Return what the rows come from. Reads all weights of a model without a revision, for their digest."""
        weights = self.model.revision or self.model.digest()
        return Origin(self.model.info, weights, self.row_format, self.settings, self.outputs)
