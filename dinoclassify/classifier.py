"""The public face: a loaded model that labels pictures."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

from dinoclassify.catalogue import DEFAULT
from dinoclassify.discover import MAX_PIXELS, TIMEOUT, Source, discover
from dinoclassify.errors import UsageError
from dinoclassify.loader import available_cpus, load_batches
from dinoclassify.models import open_model
from dinoclassify.nvjpeg import check_gpu_decoder, decode_jpegs
from dinoclassify.pipeline import classify
from dinoclassify.preprocessing import AsIs, Preprocessing
from dinoclassify.rows import Prediction
from dinoclassify.runtimes import Precision, RuntimeName, choose_devices, open_runtime
from dinoclassify.stages import Stages


class Classifier:
    """An image classifier on a device, ready to label pictures.

        classifier = Classifier("small")
        for prediction in classifier.predict(["photos/", "more/*.jpg"], top_k=3):
            print(prediction.path, prediction.status, prediction.label, prediction.score)

    Args:
        model: a short name (``small``, ``base``, ``large``, ``giant``, each also with ``-reg``; ``builtin``), a hub id,
            or a folder written as a path (``./my-model``).
        revision: a commit, tag or branch of a hub model.
        offline: never ask the network. A model in the cache needs none anyway.
        device: ``auto``, ``cpu``, ``cuda`` (all GPUs of the machine, each with the model), ``cuda:N`` or ``mps``.
        precision: ``auto``, ``fp32``, ``bf16``, ``fp16`` or ``int8``; see `dinoclassify.runtimes.int8` for the last.
        runtime: ``auto``, ``torch`` or ``openvino``.
        compiled: have `torch.compile` make code for the model: minutes, which pay on a long run.
        labels: names to use in place of the model's own, one a class.

    Raises:
        UsageError: an argument is wrong.
        ModelError: the model cannot be used, see `dinoclassify.models.open_model`.
    """

    def __init__(
        self,
        model: str = DEFAULT,
        *,
        revision: str | None = None,
        offline: bool = False,
        device: str = "auto",
        precision: Precision | Literal["auto"] = "auto",
        runtime: RuntimeName = "auto",
        compiled: bool = False,
        labels: Sequence[str] | None = None,
    ) -> None:
        devices = choose_devices(runtime, device, precision, compiled=compiled)
        self._model = open_model(model, revision=revision, offline=offline)
        self.labels = tuple(labels) if labels is not None else self._model.labels
        if len(self.labels) != len(self._model.labels):
            raise UsageError(f"{len(self.labels)} labels for the {len(self._model.labels)} classes of {self.model}")
        self._runtime = open_runtime(self._model, runtime, devices, precision, compiled=compiled)

    @property
    def model(self) -> str:
        """The model in full: ``builtin``, a hub id or the path of a folder."""
        return self._model.name

    @property
    def revision(self) -> str | None:
        """The commit of a hub model, the sha256 of the built-in one, None for a folder."""
        return self._model.revision

    def digest(self) -> str:
        """A digest of the model: of its weights and settings. Reads all of them."""
        return self._model.digest()

    @property
    def batch_size(self) -> int:
        """How many pictures are in a batch if nothing else is asked for."""
        return self._runtime.batch_size

    @property
    def preprocessing(self) -> Preprocessing | AsIs:
        """What is done to a picture before the model sees it."""
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

    def predict(
        self,
        inputs: str | os.PathLike[str] | Iterable[str | os.PathLike[str] | Source],
        *,
        top_k: int = 1,
        threshold: float = 0.0,
        batch_size: int | None = None,
        workers: int | None = None,
        exact: bool = False,
        decoder: Literal["cpu", "gpu"] = "cpu",
        max_pixels: int = MAX_PIXELS,
        timeout: float = TIMEOUT,
        live: bool = False,
        stages: Stages | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[Prediction]:
        """Label pictures lazily: one prediction for every input, in order, failures included.

        Args:
            inputs: files, folders (walked) and globs, one or many; or the sources that `discover` found.
            top_k: how many labels each prediction gets.
            threshold: a best score below it makes the prediction ``uncertain``.
            batch_size: pictures in one forward pass; by default what was measured to pay best in the runtime.
            workers: processes that decode; by default half the processors where the model runs on them too, else
                all but one.
            exact: decode and resize exactly as transformers does, rather than fast.
            decoder: ``gpu`` has the GPU that runs the model decode and resize JPEGs; see `dinoclassify.nvjpeg`.
            max_pixels: pictures with more fail as ``too_large``, undecoded.
            timeout: seconds after which a picture fails as ``timeout``.
            live: inputs come over time; answer those that are there without waiting for a full batch.
            stages: a clock, which is told where the time goes.
            stop: asked before each batch; when it says so, those that were begun are finished, and no more.
        """
        if top_k < 1 or not 0 <= threshold <= 1:
            raise UsageError(f"top_k {top_k} must be at least 1, threshold {threshold} from 0 to 1")
        if min(1 if batch_size is None else batch_size, 1 if workers is None else workers, max_pixels) < 1:
            raise UsageError("batch_size, workers and max_pixels must be at least 1")
        if timeout <= 0:
            raise UsageError("timeout must be more than 0")
        if decoder == "gpu":
            check_gpu_decoder(self.device, self.preprocessing, exact=exact)
        sources = _sources(inputs)
        on_cpu = self.device == "cpu"
        cpus = available_cpus()
        batches = load_batches(
            stages.over("walk", sources) if stages is not None and not live else sources,
            self.preprocessing,
            batch_size=batch_size or self._runtime.batch_size,
            # The model's own threads want a processor each: with half as many workers they are not kept waiting.
            workers=workers or max(1, cpus // 2 if on_cpu else cpus - 1),
            exact=exact,
            max_pixels=max_pixels,
            timeout=timeout,
            leave_jpegs=decoder == "gpu",
            live=live,
            pinned=self.device.startswith("cuda"),
        )
        if isinstance(self.preprocessing, Preprocessing) and decoder == "gpu":
            batches = decode_jpegs(batches, self.preprocessing, self.device.split(",")[0], max_pixels=max_pixels)
        return classify(
            batches,
            self._runtime,
            self.labels,
            top_k=top_k,
            threshold=threshold,
            live=live,
            stages=stages,
            stop=stop,
        )


def _sources(inputs: str | os.PathLike[str] | Iterable[str | os.PathLike[str] | Source]) -> Iterator[Source]:
    for item in [inputs] if isinstance(inputs, str | os.PathLike) else inputs:
        if isinstance(item, Source):
            yield item
        else:
            yield from discover([os.fspath(item)])
