"""A model on a device, and the images that are decoded for it: what labelling and embedding have in common."""

import os
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec

import torch
from PIL import Image

from dinoclassify.decoding.batch import Batch
from dinoclassify.decoding.loader import load_batches
from dinoclassify.discovery.discover import discover
from dinoclassify.discovery.in_memory import in_memory
from dinoclassify.models.image_model import ImageClassifier, ImageModel
from dinoclassify.models.info import ModelInfo
from dinoclassify.runtimes import Precision, RequestedPrecision, RuntimeName, open_runtime
from dinoclassify.system.environment import available_cpus, default_workers
from dinoclassify.timing import StageTimer, advice
from dinoclassify.types.preprocessing import OpaqueProcessor, Preprocessing
from dinoclassify.types.run_options import RunOptions
from dinoclassify.types.source import Source

Input = str | os.PathLike[str] | Image.Image | bytes  # a path, a folder or a glob; an image; an encoded image
Inputs = Input | Iterable[Input | Source]


class LoadedModel:
    """A model in a runtime, ready for images."""

    def __init__(
        self,
        model: ImageModel,
        runtime: RuntimeName,
        devices: Sequence[torch.device],
        precision: RequestedPrecision,
        *,
        compiled: bool,
    ) -> None:
        self._model = model
        self._asked_for = precision  # which int8 may be refused
        self._runtime = open_runtime(model, runtime, devices, precision, compiled=compiled)

    @property
    def model(self) -> str:
        """The model in full: ``builtin``, a hub id or the path of a folder."""
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
        """A digest of the model: of its weights and settings. Reads all of them."""
        return self._model.digest()

    @property
    def batch_size(self) -> int:
        """How many images are in a batch if nothing else is asked for."""
        return self._runtime.batch_size

    @property
    def preprocessing(self) -> Preprocessing | OpaqueProcessor:
        """What is done to an image before the model sees it."""
        return self._model.preprocessing

    @property
    def device(self) -> str:
        """Where the model runs, as torch names it: ``cpu``, ``cuda:1``, ``mps``; several stand with commas between."""
        return self._runtime.device

    @property
    def runtime(self) -> str:
        """What runs the model: ``torch`` or ``openvino``."""
        return self._runtime.name

    @property
    def precision(self) -> Precision:
        """What the model computes in."""
        return self._runtime.precision

    def advice(self, timer: StageTimer, *, exact: bool) -> str:
        """What would make a timed run faster, leaving out what this model has tried."""
        return advice(
            timer.bottleneck(),
            runtime=self.runtime,
            precision=self.precision,
            exact=exact,
            int8=isinstance(self._model, ImageClassifier) and self._asked_for != "int8",
            openvino=find_spec("openvino") is not None,
            workers=timer.workers,
            processors=available_cpus(),
        )

    def decoded(self, inputs: Inputs, options: RunOptions) -> Iterator[Batch]:
        """The images of ``inputs``, decoded lazily, in batches, in order."""
        workers = options.workers or default_workers(on_cpu=self.device == "cpu")
        options.timer.workers = workers
        sources = _sources(inputs)
        return load_batches(
            sources if options.live else options.timer.measure_each("walk", sources),
            self.preprocessing,
            batch_size=options.batch_size or self._runtime.batch_size,
            workers=workers,
            exact=options.exact,
            max_pixels=options.max_pixels,
            timeout=options.timeout,
            private=options.private_urls,
            live=options.live,
            pinned=self.device.startswith("cuda"),
        )


def _sources(inputs: Inputs) -> Iterator[Source]:
    for number, item in enumerate([inputs] if isinstance(inputs, str | os.PathLike | Image.Image | bytes) else inputs):
        if isinstance(item, Source):
            yield item
        elif isinstance(item, Image.Image | bytes):
            yield in_memory(item, number)
        else:
            yield from discover([os.fspath(item)])
