"""dinoclassify against the transformers pipeline and the limits of the machine: same files, same weights.

The contestants take turns in each round, so that a drifting clock speed affects them all alike. Times include the start
of worker processes, but not the loading of models.
"""

import logging
import os
import platform
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec

import torch
from PIL import Image

from dinoclassify.decoding.batch import Pixels, together
from dinoclassify.diagnostics import core_time, start
from dinoclassify.diagnostics.contestants import (
    DECODE_BATCH,
    Contestant,
    checkpoint_folder,
    count_flops,
    decode_only,
    decode_small_batches,
    end_to_end,
    forward,
    matrix_products,
    pipelines,
    runtimes_of,
    without_model,
)
from dinoclassify.diagnostics.ratios import int8_pays, ratios_of, start_ratios
from dinoclassify.diagnostics.report import Conditions, Figure, Report
from dinoclassify.diagnostics.rounds import least_seconds
from dinoclassify.errors import ModelError, NoInputsError
from dinoclassify.models.image_model import ImageClassifier
from dinoclassify.models.names import BUILTIN
from dinoclassify.models.open import open_model
from dinoclassify.runtimes.base import Runtime
from dinoclassify.runtimes.devices import find_devices
from dinoclassify.system.environment import available_cpus, default_workers
from dinoclassify.system.processor import cpu_has_bf16, cpu_name
from dinoclassify.timing import StageTimer, advice
from dinoclassify.version import __version__

log = logging.getLogger(__name__)

PIXELS = 256  # images kept in memory as pixels


@dataclass(frozen=True, slots=True)
class Settings:
    """What to measure: a model, a device as the user named it, and how often. ``scratch`` is a folder for files.

    ``shown_model`` names the model in the report. If ``workers`` is None, there are as many decoding processes as
    `Classifier` starts.
    """

    model: str
    shown_model: str
    scratch: str
    offline: bool
    device: str
    workers: int | None
    rounds: int


@dataclass(slots=True)
class Measurement:
    """All contestants, and what has been measured so far."""

    settings: Settings
    device: str
    workers: int
    model: ImageClassifier
    files: Sequence[str]
    default: Runtime
    flops: int
    conditions: Conditions
    pixels: Pixels
    contestants: list[Contestant]
    programs: list[start.Program]
    stages: StageTimer  # of the default runtime
    notes: list[str]
    rounds: int = 0  # finished so far
    core_ms: core_time.CoreTime | None = None

    @property
    def has_figures(self) -> bool:
        """Whether anything has been measured."""
        return any(contestant.rates for contestant in self.contestants)


def prepare(files: Sequence[str], settings: Settings) -> Measurement:
    """Open the model in all runtimes that this machine has.

    Files that cannot be decoded, or not by Pillow alone, are left out: the transformers pipeline would stop at them.

    Raises:
        NoInputsError: no file can be decoded.
        ModelError: the model cannot be loaded, or takes images of many sizes.
    """
    devices = find_devices(settings.device)[:1]
    model = open_model(settings.model, offline=settings.offline)
    workers = settings.workers or default_workers(on_cpu=devices[0] == "cpu")
    notes: list[str] = []
    stages = StageTimer()
    files, megapixels, pixels = _decodable(model, files, notes)
    runtimes = list(runtimes_of(model, devices, pixels, notes))
    flops = count_flops(model)
    contestants = [
        *pipelines(model, files, devices[0]),
        *_whole_runs(model, runtimes, files, workers, stages),
        *(
            Contestant(f"forward only, {_shown(runtime)}", "forward", runtime.precision, forward(runtime, pixels))
            for runtime in runtimes
        ),
        Contestant(f"decode only, {available_cpus()} workers", "limit", "-", decode_only(model, files)),
        *_matrix_products(runtimes, devices[0], flops),
    ]
    return Measurement(
        settings=settings,
        device=devices[0],
        workers=workers,
        model=model,
        files=files,
        default=runtimes[0],
        flops=flops,
        conditions=_conditions(settings, files, megapixels, devices[0], workers),
        pixels=pixels,
        contestants=contestants,
        programs=_programs(model, files[0], runtimes[0], devices[0], settings),
        stages=stages,
        notes=notes,
    )


def measure(measurement: Measurement) -> None:
    """Measure all contestants once in each round, then the core time and the start."""
    rounds, contestants = measurement.settings.rounds, measurement.contestants
    least = least_seconds(measurement.device)
    for number in range(rounds):
        for place, contestant in enumerate(contestants, start=1):
            log.info("round %d of %d, %d of %d: %s", number + 1, rounds, place, len(contestants), contestant.name)
            contestant.rates.append(contestant.run(least).rate)
        measurement.rounds += 1
    log.info("core time of an image, in and outside the model")
    measurement.core_ms = _core_time(measurement)
    start.run_starts(measurement.programs, rounds, measurement.notes)


def _core_time(measurement: Measurement) -> core_time.CoreTime:
    """The core time of the default runtime, of a run without the model, and of the decoding."""
    model, default, files = measurement.model, measurement.default, measurement.files
    replay = without_model(default, measurement.pixels)
    return core_time.measure_core_time(
        whole_run=end_to_end(model, default, files, measurement.workers, StageTimer()),
        model=forward(default, measurement.pixels),
        without_model=end_to_end(model, replay, files, measurement.workers, StageTimer()),
        decode_only=decode_only(model, files),
        rounds=measurement.settings.rounds,
    )


def report_of(measurement: Measurement) -> Report:
    """The report on what has been measured so far."""
    contestants, stages, conditions = measurement.contestants, measurement.stages, measurement.conditions
    starts = [start.summary(program) for program in measurement.programs if program.runs]
    return Report(
        machine=_machine(conditions),
        pictures=f"{conditions.images} images of {conditions.megapixels:.1f} megapixels, "
        f"{measurement.flops / 1e9:.1f} GFLOP for each image",
        conditions=conditions,
        rounds=measurement.rounds,
        figures=[_figure(contestant) for contestant in contestants if contestant.rates],
        ratios=[*ratios_of(contestants, measurement.default), *start_ratios(starts)],
        stages={stage: round(share, 4) for stage, share in stages.shares().items()} if stages.images else {},
        bottleneck=stages.bottleneck() if stages.images else None,
        advice=_advice(measurement),
        starts=starts,
        core_ms=measurement.core_ms,
        notes=measurement.notes,
    )


def _advice(measurement: Measurement) -> str:
    default, on_cpu = measurement.default, measurement.device == "cpu"
    if not measurement.stages.images:
        return ""
    return advice(
        measurement.stages.bottleneck(),
        runtime=default.name,
        precision=default.precision,
        device=default.device,
        smaller=measurement.model.name != BUILTIN,
        int8=int8_pays(measurement.contestants),
        openvino=on_cpu and find_spec("openvino") is None,
        workers=measurement.workers,
        processors=available_cpus(),
    )


def _programs(
    model: ImageClassifier, image: str, default: Runtime, device: str, settings: Settings
) -> list[start.Program]:
    """The programs whose start is measured. Options are those of the user, and one GPU, if there are several."""
    chosen = device if device.startswith("cuda") else settings.device
    options = [*(["--device", chosen] if chosen != "auto" else []), *(["--offline"] if settings.offline else [])]
    runtimes = [default.name, *(["torch"] if default.name != "torch" else [])]
    checkpoint = checkpoint_folder(model, f"{settings.scratch}/checkpoint")
    return [
        *start.ours(settings.model, image, settings.scratch, runtimes=runtimes, options=options),
        start.theirs(checkpoint, image, settings.scratch, device=device),
    ]


def _figure(contestant: Contestant) -> Figure:
    median, least, most = (round(statistic(contestant.rates), 2) for statistic in (statistics.median, min, max))
    return Figure(contestant.name, median, least, most)


def _whole_runs(
    model: ImageClassifier, runtimes: Sequence[Runtime], files: Sequence[str], workers: int, stages: StageTimer
) -> Iterator[Contestant]:
    """Dinoclassify with each runtime; ``stages`` measures the first one, the default."""
    for number, runtime in enumerate(runtimes):
        run = end_to_end(model, runtime, files, workers, stages if number == 0 else StageTimer())
        yield Contestant(_shown(runtime), "end to end", runtime.precision, run)
    default = runtimes[0]
    run = end_to_end(model, default, files, workers, StageTimer(), live=True)
    yield Contestant(f"a list on stdin, {_shown(default)}", "live", default.precision, run)


def _shown(runtime: Runtime) -> str:
    return f"{runtime.name} {runtime.precision}"


def _matrix_products(runtimes: Sequence[Runtime], device: str, flops: int) -> Iterator[Contestant]:
    """The upper limit of a forward pass: its matrix products alone, in each floating-point precision."""
    for precision in dict.fromkeys(runtime.precision for runtime in runtimes if runtime.precision != "int8"):
        products = matrix_products(precision, device, flops)
        yield Contestant(f"matrix products in {precision}", "limit", precision, products)


def _decodable(model: ImageClassifier, files: Sequence[str], notes: list[str]) -> tuple[list[str], float, Pixels]:
    """The files that can be decoded, their median megapixels, and pixels of the first of them: uint8[N, 3, H, W]."""
    if model.preprocessing.output_size is None:
        raise ModelError(f"{model.name} takes images of many sizes, which bench cannot measure: choose another --model")
    sizes = {path: _megapixels(path) for path in files}
    decodable: list[str] = []
    pixels: list[Pixels] = []
    for batch in decode_small_batches(model, [path for path in files if sizes[path]]):
        decodable += [item.source.path for item in batch.inputs if item.failure is None]
        if len(batch.pixels) and len(pixels) * DECODE_BATCH < PIXELS:
            pixels.append(batch.pixels)
    if not decodable:
        raise NoInputsError("none of the images can be decoded: name others")
    if len(decodable) < len(files):
        notes.append(f"{len(files) - len(decodable)} of {len(files)} files cannot be decoded and were left out")
    return decodable, statistics.median(sizes[path] for path in decodable), together(pixels)


def _megapixels(path: str) -> float:
    """The size of an image, or 0 if Pillow alone cannot open it, such as HEIC."""
    try:
        with Image.open(path) as image:
            return image.width * image.height / 1e6
    except (OSError, Image.DecompressionBombError):
        return 0


def _conditions(settings: Settings, files: Sequence[str], megapixels: float, device: str, workers: int) -> Conditions:
    return Conditions(
        model=settings.shown_model,
        images=len(files),
        megapixels=round(megapixels, 3),
        image_bytes=sum(os.path.getsize(path) for path in files),
        workers=workers,
        device=torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        processors=available_cpus(),
        processor=cpu_name(),
        versions={"dinoclassify": __version__, "python": platform.python_version(), **_versions()},
    )


def _machine(conditions: Conditions) -> str:
    bf16 = ", bf16 in hardware" if cpu_has_bf16() else ""
    gpu = f", {conditions.device}" if conditions.device != "cpu" else ""
    versions = ", ".join(f"{name} {number}" for name, number in conditions.versions.items())
    return f"{conditions.processors} processors ({conditions.processor}{bf16}){gpu}; {versions}"


def _versions() -> dict[str, str]:
    packages = {"torch": "torch", "transformers": "transformers", "openvino": "openvino", "pillow": "PIL"}
    return {name: version(name) for name, module in packages.items() if find_spec(module)}
