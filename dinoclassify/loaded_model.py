"""A model on a device, and the images that are decoded for it: what labelling and embedding have in common."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.util import find_spec
from typing import Literal, TypedDict, Unpack

import torch
from PIL import Image

from dinoclassify.decoding.batch import Batch
from dinoclassify.decoding.loader import load_batches
from dinoclassify.discovery.discover import discover
from dinoclassify.discovery.in_memory import in_memory
from dinoclassify.errors import UsageError
from dinoclassify.messages import nearest
from dinoclassify.models.info import ModelInfo
from dinoclassify.models.open import ImageClassifier, ImageModel
from dinoclassify.runtimes import Precision, RuntimeName, open_runtime
from dinoclassify.system.environment import available_cpus
from dinoclassify.timing import StageTimer, advice
from dinoclassify.types.preprocessing import OpaqueProcessor, Preprocessing
from dinoclassify.types.source import MAX_PIXELS, TIMEOUT, Source

Input = str | os.PathLike[str] | Image.Image | bytes  # a path, a folder or a glob; an image; an encoded image
Inputs = Input | Iterable[Input | Source]

_OF_METHODS = ("top_k", "threshold", "normalized", "dtype")  # arguments of `predict` and `embed` beside those of `Run`


class Run(TypedDict, total=False):
    """How images go through a model; what is left out is as written here.

    batch_size: images in one forward pass; by default what was measured to pay best in the runtime.
    workers: processes that decode; by default half the processors where the model runs on them too, else all but one.
    exact: decode and resize exactly as transformers does with ``backend="pil"``, rather than fast. Where torchvision is
        installed, transformers takes ``backend="torchvision"`` by default, whose pixels differ. No.
    max_pixels: images with more fail as ``too_large``, undecoded. 100 million.
    timeout: seconds after which an image fails as ``timeout``. 120.
    private_urls: read web addresses in private networks, and on this machine, too. No.
    live: inputs come over time; answer those that are there without waiting for a full batch. No.
    stages: a clock, which is told where the time goes.
    stop: asked before each batch; when it says so, those that were begun are finished, and no more.
    """

    batch_size: int | None
    workers: int | None
    exact: bool
    max_pixels: int
    timeout: float
    private_urls: bool
    live: bool
    stages: StageTimer | None
    stop: Callable[[], bool]


class LoadedModel:
    """A model in a runtime, ready for images."""

    def __init__(
        self,
        model: ImageModel,
        runtime: RuntimeName,
        devices: Sequence[torch.device],
        precision: Precision | Literal["auto"],
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

    def advice(self, stages: StageTimer, *, exact: bool) -> str:
        """What would make a run faster, by its clock; what this model has tried is left out."""
        return advice(
            stages.bottleneck(),
            runtime=self.runtime,
            precision=self.precision,
            exact=exact,
            int8=isinstance(self._model, ImageClassifier) and self._asked_for != "int8",
            openvino=find_spec("openvino") is not None,
            workers=stages.workers,
            processors=available_cpus(),
        )

    def decoded(self, inputs: Inputs, **run: Unpack[Run]) -> Iterator[Batch]:
        """The images, decoded, in batches.

        Raises:
            TypeError: there is no argument of this name.
            UsageError: an argument is wrong.
        """
        for name in run.keys() - Run.__annotations__.keys():
            known = nearest(name, [*Run.__annotations__, *_OF_METHODS])
            raise TypeError(f"unexpected keyword argument {name!r}{known}")
        batch_size, workers = run.get("batch_size"), run.get("workers")
        max_pixels, timeout = run.get("max_pixels", MAX_PIXELS), run.get("timeout", TIMEOUT)
        live, stages = run.get("live", False), run.get("stages")
        if min(1 if batch_size is None else batch_size, 1 if workers is None else workers, max_pixels) < 1:
            raise UsageError("batch_size, workers and max_pixels must be at least 1")
        if timeout <= 0:
            raise UsageError("timeout must be more than 0")
        sources = _sources(inputs)
        cpus = available_cpus()
        # The model's own threads want a processor each: with half as many workers they are not kept waiting.
        workers = workers or max(1, cpus // 2 if self.device == "cpu" else cpus - 1)
        if stages is not None:
            stages.workers = workers
        return load_batches(
            stages.measure_each("walk", sources) if stages is not None and not live else sources,
            self.preprocessing,
            batch_size=batch_size or self._runtime.batch_size,
            workers=workers,
            exact=run.get("exact", False),
            max_pixels=max_pixels,
            timeout=timeout,
            private=run.get("private_urls", False),
            live=live,
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


def flow(run: Run) -> "Flow":
    """The part of a run that the pipeline is told."""
    return {
        "stages": run.get("stages"),
        "stop": run.get("stop", lambda: False),
    }


class Flow(TypedDict, total=False):
    """See `pipeline.run_batches`."""

    stages: StageTimer | None
    stop: Callable[[], bool]
