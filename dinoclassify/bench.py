"""dinoclassify against the transformers pipeline and the limits of the machine: same files, same weights, side by side.

The contestants take turns, round by round, so that a machine whose speed drifts is as fast for one as for another.
Loading of models is left out, starting of workers is not.
"""

import gc
import logging
import os
import platform
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, cast

import torch
from PIL import Image
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoImageProcessor,
    BaseImageProcessor,
    BitImageProcessorPil,
    Pipeline,
    PreTrainedModel,
    pipeline,
)

from dinoclassify.catalogue import resolve
from dinoclassify.checkpoints import silenced
from dinoclassify.discover import MAX_PIXELS, Source
from dinoclassify.errors import ModelError, NoInputsError, UsageError
from dinoclassify.hub import cached_snapshot
from dinoclassify.loader import available_cpus, load_batches
from dinoclassify.models import ImageClassifier, open_model
from dinoclassify.nvjpeg import check_gpu_decoder, decode_jpegs
from dinoclassify.pipeline import classify
from dinoclassify.preprocessing import Preprocessing
from dinoclassify.runtimes import Answer, Precision, Runtime, RuntimeName, cpu_has_bf16, open_runtime
from dinoclassify.runtimes.pytorch import DTYPES, find_devices
from dinoclassify.stages import Stage, Stages, advice
from dinoclassify.streams import stream_rows
from dinoclassify.workers import Batch

log = logging.getLogger(__name__)

DECODED = 8  # pictures in a batch where decoding alone is measured
KEPT = 256  # pictures whose pixels are kept
FORWARD = 64  # pictures in a round of the model alone, at most
MATRIX = 2048  # rows and columns of the matrices whose product measures the machine
MATRIX_SECONDS = 0.5

Round = Callable[[], float]  # runs once, and gives pictures a second


@dataclass(slots=True)
class Contestant:
    """What is measured, and the pictures a second of each of its rounds."""

    name: str
    kind: Literal["pipeline", "end to end", "gpu decoder", "forward", "limit"]
    precision: str
    run: Round
    rates: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured of one contestant, in pictures a second over all rounds."""

    name: str
    median: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured, and what it says; ``stages`` are those of dinoclassify as it runs by default."""

    machine: str
    pictures: str
    figures: list[Figure]
    ratios: dict[str, float]
    stages: dict[Stage, float]
    bottleneck: Stage
    advice: str
    notes: list[str]

    def lines(self) -> list[str]:
        """All but the figures, for people."""
        shares = ", ".join(f"{stage} {100 * share:.0f} %" for stage, share in self.stages.items())
        return [
            self.machine,
            self.pictures,
            *(f"{name}: {ratio:.2f}" for name, ratio in self.ratios.items()),
            f"time: {shares}; most of it in {self.bottleneck}: {self.advice}",
            *self.notes,
        ]


def measure(name: str, files: Sequence[str], *, offline: bool, device: str, workers: int | None, rounds: int) -> Report:
    """Measure all that this machine can run.

    Args:
        name: the model, see `dinoclassify.models.open_model`.
        files: the pictures. Those that cannot be decoded are left out: the pipeline would stop at them.
        offline: never ask the network.
        device: where to run.
        workers: processes that decode; as `Classifier` chooses if None.
        rounds: how often each contestant runs.

    Raises:
        NoInputsError: none of the files can be decoded.
        ModelError: the model cannot be used.
    """
    devices = find_devices(device)[:1]
    model = open_model(name, offline=offline)
    on_cpu = devices[0].type == "cpu"
    workers = workers or max(1, available_cpus() // 2 if on_cpu else available_cpus() - 1)
    notes: list[str] = []
    stages = Stages()
    files, pixels = _decodable(model, files, notes)
    runtimes = list(_runtimes(model, devices, pixels, notes))
    default = runtimes[0]
    contestants = [
        *_pipelines(model, files, devices[0]),
        *(
            Contestant(
                _name(runtime),
                "end to end",
                runtime.precision,
                _end_to_end(model, runtime, files, workers, stages if runtime is default else Stages()),
            )
            for runtime in runtimes
        ),
        *_gpu_decoder(model, default, files, workers, notes),
        *(
            Contestant(f"forward only, {_name(runtime)}", "forward", runtime.precision, _forward(runtime, pixels))
            for runtime in runtimes
        ),
        Contestant(f"decode only, {available_cpus()} workers", "limit", "-", _decode_only(model, files)),
    ]
    flops = _flops(model)
    plain = dict.fromkeys(runtime.precision for runtime in runtimes if runtime.precision != "int8")
    contestants += [
        Contestant(f"matrix products in {precision}", "limit", precision, _matrices(precision, devices[0], flops))
        for precision in plain
    ]
    for number in range(rounds):
        for one in contestants:
            log.info("round %d of %d: %s", number + 1, rounds, one.name)
            one.rates.append(one.run())
    return Report(
        machine=_machine(devices[0]),
        pictures=f"{len(files)} pictures of {_megapixels(files):.1f} megapixels, {flops / 1e9:.1f} GFLOP each",
        figures=[
            Figure(one.name, *(round(of(one.rates), 2) for of in (statistics.median, min, max))) for one in contestants
        ],
        ratios=_ratios(contestants, default),
        stages={stage: round(share, 4) for stage, share in stages.shares().items()},
        bottleneck=stages.bottleneck(),
        advice=advice(stages.bottleneck(), runtime=default.name, precision=default.precision),
        notes=notes,
    )


def _runtimes(
    model: ImageClassifier, devices: Sequence[torch.device], pixels: Tensor, notes: list[str]
) -> Iterator[Runtime]:
    """The runtime of `auto` first, then each other runtime and precision of this machine."""
    default = open_runtime(model, "auto", devices)
    yield default
    on_cpu = devices[0].type == "cpu"
    half: tuple[Precision, ...] = ("bf16",) if on_cpu else ("fp16", "bf16")
    if on_cpu and not cpu_has_bf16():
        half = ()
    names: list[RuntimeName] = ["openvino", "torch"] if on_cpu and find_spec("openvino") else ["torch"]
    for name in names:
        for precision in (*half, "fp32"):
            if (name, precision) != (default.name, default.precision):
                yield open_runtime(model, name, devices, precision)
    if "openvino" not in names:
        notes.append("OpenVINO and int8 are not measured: " + ("not installed" if on_cpu else "not on a CPU"))
        return
    from dinoclassify.runtimes.int8 import CALIBRATION, CHECK, Int8Runtime

    if len(pixels) < CALIBRATION + CHECK:
        notes.append(f"int8 is not measured: it needs {CALIBRATION + CHECK} pictures, see --limit")
        return
    runtime = Int8Runtime(model)
    for batch in pixels.split(runtime.batch_size):
        if runtime.verdict is None:
            runtime(batch)()
    if runtime.verdict is not None:
        notes.append(runtime.verdict.sentence + ("" if runtime.verdict.accepted else ": `predict` refuses it"))
        yield runtime.quantised()


def _pipelines(model: ImageClassifier, files: Sequence[str], device: torch.device) -> Iterator[Contestant]:
    half: Precision | None = "fp16" if device.type != "cpu" else "bf16" if cpu_has_bf16() else None
    precisions: list[Precision] = ["fp32"] if half is None else ["fp32", half]
    processor = _processor(model)
    for precision in precisions:
        with silenced():
            pipe = pipeline(
                "image-classification",
                model=cast(PreTrainedModel, model.load().to(DTYPES[precision])),
                image_processor=processor,
                device=device,
            )
        for batch_size in (1, 8):

            def run(pipe: Pipeline = pipe, batch_size: int = batch_size) -> float:
                with silenced():
                    return _rate(len(files), lambda: pipe(list(files), batch_size=batch_size))

            yield Contestant(f"transformers pipeline, {precision}, batch {batch_size}", "pipeline", precision, run)


def _gpu_decoder(
    model: ImageClassifier, runtime: Runtime, files: Sequence[str], workers: int, notes: list[str]
) -> Iterator[Contestant]:
    if not runtime.device.startswith("cuda"):
        return
    try:
        check_gpu_decoder(runtime.device, model.preprocessing, exact=False)
    except UsageError as error:
        notes.append(f"not measured: {error}")
        return
    run = _end_to_end(model, runtime, files, workers, Stages(), decoder="gpu")
    yield Contestant(f"{_name(runtime)}, --decoder gpu", "gpu decoder", runtime.precision, run)


def _end_to_end(
    model: ImageClassifier,
    runtime: Runtime,
    files: Sequence[str],
    workers: int,
    stages: Stages,
    decoder: Literal["cpu", "gpu"] = "cpu",
) -> Round:
    def work() -> None:
        batches = load_batches(
            stages.over("walk", map(Source, files)),
            model.preprocessing,
            batch_size=runtime.batch_size,
            workers=workers,
            exact=False,
            max_pixels=MAX_PIXELS,
            leave_jpegs=decoder == "gpu",
            pinned=runtime.device.startswith("cuda"),
        )
        if isinstance(model.preprocessing, Preprocessing) and decoder == "gpu":
            batches = decode_jpegs(batches, model.preprocessing, runtime.device, max_pixels=MAX_PIXELS)
        with stages.charge("write"):
            stream_rows(os.devnull, "csv", classify(batches, runtime, model.labels, stages=stages), 1)

    return lambda: _rate(len(files), work)


def _forward(runtime: Runtime, pixels: Tensor) -> Round:
    batches = list(pixels[:FORWARD].split(runtime.batch_size))
    if runtime.device.startswith("cuda"):
        batches = [batch.pin_memory() for batch in batches]
    batches *= -(-8 * (runtime.ahead + 1) // len(batches))  # enough to be under way side by side

    def work() -> None:
        started: deque[Answer] = deque()
        for batch in batches:
            started.append(runtime(batch))
            if len(started) > runtime.ahead:
                started.popleft()()
        while started:
            started.popleft()()

    work()  # the first run of a network is slower
    return lambda: _rate(sum(map(len, batches)), work)


def _decode_only(model: ImageClassifier, files: Sequence[str]) -> Round:
    return lambda: _rate(len(files), lambda: deque(_decode(model, files), maxlen=0))


def _decode(model: ImageClassifier, files: Sequence[str]) -> Iterator[Batch]:
    return load_batches(
        map(Source, files),
        model.preprocessing,
        batch_size=DECODED,
        workers=available_cpus(),
        exact=False,
        max_pixels=MAX_PIXELS,
    )


def _decodable(model: ImageClassifier, files: Sequence[str], notes: list[str]) -> tuple[list[str], Tensor]:
    """The files that can be decoded, and the pixels of the first of them, N x 3 x H x W."""
    if model.preprocessing.output_size is None:
        raise ModelError(f"{model.name} takes pictures of many sizes, which cannot be measured together")
    good: list[str] = []
    pixels: list[Tensor] = []
    for batch in _decode(model, files):
        good += [item.source.path for item in batch.inputs if item.failure is None]
        if len(batch.pixels) and len(pixels) * DECODED < KEPT:
            pixels.append(batch.pixels)
    if not good:
        raise NoInputsError("none of the pictures can be decoded")
    if len(good) < len(files):
        notes.append(f"{len(files) - len(good)} of {len(files)} files cannot be decoded and were left out")
    return good, torch.cat(pixels)


def _processor(model: ImageClassifier) -> BaseImageProcessor:
    """The image processor of transformers that does what the model's preprocessing says."""
    name = resolve(model.name)
    if name.kind == "builtin":
        return BitImageProcessorPil(
            size={"shortest_edge": 256}, crop_size=224, image_mean=[0.5] * 3, image_std=[0.5] * 3
        )
    folder = model.name if name.kind == "folder" else cached_snapshot(model.name)
    return cast(BaseImageProcessor, AutoImageProcessor.from_pretrained(folder, local_files_only=True))


def _matrices(precision: Precision, device: torch.device, flops: int) -> Round:
    """The pictures a second if the model were nothing but products of large matrices."""
    factor = torch.randn(MATRIX, MATRIX, device=device).to(DTYPES[precision])

    def run() -> float:
        def wait() -> None:
            if device.type != "cpu":
                torch.accelerator.synchronize(device)

        with torch.inference_mode():
            factor @ factor
            wait()
            done, started = 0, time.perf_counter()
            while (spent := time.perf_counter() - started) < MATRIX_SECONDS:
                for _ in range(1 if device.type == "cpu" else 100):
                    factor @ factor
                    done += 1
                wait()
        return done * 2 * MATRIX**3 / spent / flops

    return run


def _flops(model: ImageClassifier) -> int:
    """Floating point operations of one picture, as torch counts them."""
    size = model.preprocessing.output_size or ()
    counter = FlopCounterMode(display=False)
    with silenced(), torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), counter:  # fused attention is not counted
        model.load()(pixel_values=torch.zeros(1, 3, *size))
    return int(counter.get_total_flops())


def _ratios(contestants: Sequence[Contestant], default: Runtime) -> dict[str, float]:
    def best(kind: str, precision: str = "", engine: str = "") -> float | None:
        rates = [
            statistics.median(one.rates)
            for one in contestants
            if one.kind == kind and precision in ("", one.precision) and engine in one.name
        ]
        return max(rates, default=None)

    ours = best("end to end", default.precision, default.name)
    forward = best("forward", default.precision, default.name)
    half = next((one.precision for one in contestants if one.kind == "pipeline" and one.precision != "fp32"), None)
    parts = {
        "to the pipeline in fp32": (ours, best("pipeline", "fp32")),
        f"to the pipeline in {half}": (ours, half and best("pipeline", half)),
        "end to end to forward only": (ours, forward),
        "end to end to the lesser of forward and decode only": (ours, min(filter(None, (forward, best("limit", "-"))))),
        "forward only to matrix products": (forward, best("limit", default.precision)),
        "--decoder gpu to cpu": (best("gpu decoder"), ours),
        "torch to the pipeline in fp32": (best("end to end", engine="torch"), best("pipeline", "fp32")),
        "int8 to bf16, end to end": (best("end to end", "int8"), best("end to end", "bf16")),
    }
    return {name: round(one / other, 3) for name, (one, other) in parts.items() if one and other}


def _name(runtime: Runtime) -> str:
    return f"{runtime.name} {runtime.precision}"


def _rate(count: int, work: Callable[[], object]) -> float:
    gc.collect()
    started = time.perf_counter()
    work()
    return count / (time.perf_counter() - started)


def _megapixels(files: Sequence[str]) -> float:
    def area(path: str) -> float:
        with Image.open(path) as image:
            return image.width * image.height / 1e6

    return statistics.median(area(path) for path in files[:100])


def _machine(device: torch.device) -> str:
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in (Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ())
            if line.startswith("model name")
        ),
        platform.processor() or platform.machine(),
    )
    gpu = f", {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    bf16 = ", bf16 in hardware" if cpu_has_bf16() else ""
    names = [
        name
        for name in ("torch", "transformers", "openvino", "pillow")
        if find_spec("PIL" if name == "pillow" else name)
    ]
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    return f"{available_cpus()} processors ({cpu}{bf16}){gpu}; {versions}"
