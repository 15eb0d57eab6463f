"""dinoclassify against the transformers pipeline and the limits of the machine: same files, same weights, side by side.

The contestants take turns, round by round, so that a machine whose speed drifts is as fast for one as for another.
Loading of models is left out, starting of workers is not.
"""

import logging
import platform
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from dinoclassify.diagnostics.contestants import (
    DECODED,
    Contestant,
    count_flops,
    decode_only,
    decode_small_batches,
    display_name,
    end_to_end,
    forward,
    matrices,
    pipelines,
    runtimes_of,
)
from dinoclassify.errors import ModelError, NoInputsError
from dinoclassify.models.image_model import ImageClassifier
from dinoclassify.models.open import open_model
from dinoclassify.runtimes.base import Runtime
from dinoclassify.runtimes.devices import cpu_has_bf16, find_devices
from dinoclassify.system.environment import available_cpus, default_workers
from dinoclassify.timing import Stage, StageTimer, advice

log = logging.getLogger(__name__)

KEPT = 256  # images whose pixels are kept


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured of one contestant, in images a second over all rounds."""

    name: str
    median: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured, and what it says; ``stages`` are those of dinoclassify as it runs by default."""

    machine: str
    images: str
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
            self.images,
            *(f"{name}: {ratio:.2f}" for name, ratio in self.ratios.items()),
            f"time: {shares}; most of it in {self.bottleneck}: {self.advice}",
            *self.notes,
        ]


def measure(name: str, files: Sequence[str], *, offline: bool, device: str, workers: int | None, rounds: int) -> Report:
    """Measure all that this machine can run.

    Args:
        name: the model, see `models.open.open_model`.
        files: the images. Those that cannot be decoded are left out: the pipeline would stop at them.
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
    workers = workers or default_workers(on_cpu=on_cpu)
    notes: list[str] = []
    stages = StageTimer()
    files, pixels = _decodable(model, files, notes)
    runtimes = list(runtimes_of(model, devices, pixels, notes))
    default = runtimes[0]
    flops = count_flops(model)
    contestants = [
        *pipelines(model, files, devices[0]),
        *_whole_runs(model, runtimes, files, workers, stages),
        *_forward_passes(runtimes, pixels),
        Contestant(f"decode only, {available_cpus()} workers", "limit", "-", decode_only(model, files)),
        *_matrix_products(runtimes, devices[0], flops),
    ]
    for number in range(rounds):
        for one in contestants:
            log.info("round %d of %d: %s", number + 1, rounds, one.name)
            one.rates.append(one.run())
    return Report(
        machine=_machine(devices[0]),
        images=f"{len(files)} images of {_megapixels(files):.1f} megapixels, {flops / 1e9:.1f} GFLOP each",
        figures=[
            Figure(one.name, *(round(of(one.rates), 2) for of in (statistics.median, min, max))) for one in contestants
        ],
        ratios=_ratios(contestants, default),
        stages={stage: round(share, 4) for stage, share in stages.shares().items()},
        bottleneck=stages.bottleneck(),
        advice=advice(
            stages.bottleneck(),
            runtime=default.name,
            precision=default.precision,
            int8=_int8_pays(contestants),
            openvino=find_spec("openvino") is not None,
            workers=workers,
            processors=available_cpus(),
        ),
        notes=notes,
    )


def _whole_runs(
    model: ImageClassifier, runtimes: Sequence[Runtime], files: Sequence[str], workers: int, stages: StageTimer
) -> Iterator[Contestant]:
    """Dinoclassify with each runtime; the first is the default, whose time is charged to ``stages``."""
    for number, runtime in enumerate(runtimes):
        run = end_to_end(model, runtime, files, workers, stages if number == 0 else StageTimer())
        yield Contestant(display_name(runtime), "end to end", runtime.precision, run)
    default = runtimes[0]
    run = end_to_end(model, default, files, workers, StageTimer(), live=True)
    yield Contestant(f"a list on stdin, {display_name(default)}", "live", default.precision, run)


def _forward_passes(runtimes: Sequence[Runtime], pixels: Tensor) -> Iterator[Contestant]:
    for runtime in runtimes:
        name = f"forward only, {display_name(runtime)}"
        yield Contestant(name, "forward", runtime.precision, forward(runtime, pixels))


def _matrix_products(runtimes: Sequence[Runtime], device: torch.device, flops: int) -> Iterator[Contestant]:
    """The fastest that a forward pass could be: its products alone, in each floating-point precision."""
    for precision in dict.fromkeys(runtime.precision for runtime in runtimes if runtime.precision != "int8"):
        yield Contestant(f"matrix products in {precision}", "limit", precision, matrices(precision, device, flops))


def _decodable(model: ImageClassifier, files: Sequence[str], notes: list[str]) -> tuple[list[str], Tensor]:
    """The files that can be decoded, and the pixels of the first of them, N x 3 x H x W."""
    if model.preprocessing.output_size is None:
        raise ModelError(f"{model.name} takes images of many sizes, which cannot be measured together")
    good: list[str] = []
    pixels: list[Tensor] = []
    for batch in decode_small_batches(model, files):
        good += [item.source.path for item in batch.inputs if item.failure is None]
        if len(batch.pixels) and len(pixels) * DECODED < KEPT:
            pixels.append(batch.pixels)
    if not good:
        raise NoInputsError("none of the images can be decoded")
    if len(good) < len(files):
        notes.append(f"{len(files) - len(good)} of {len(files)} files cannot be decoded and were left out")
    return good, torch.cat(pixels)


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
        "a list on stdin to a folder": (best("live"), ours),
        "end to end to forward only": (ours, forward),
        "end to end to the lesser of forward and decode only": (ours, min(filter(None, (forward, best("limit", "-"))))),
        "forward only to matrix products": (forward, best("limit", default.precision)),
        "torch to the pipeline in fp32": (best("end to end", engine="torch"), best("pipeline", "fp32")),
        "int8 to bf16, end to end": (best("end to end", "int8"), best("end to end", "bf16")),
    }
    return {name: round(one / other, 3) for name, (one, other) in parts.items() if one and other}


def _int8_pays(contestants: Sequence[Contestant]) -> bool:
    """Whether int8 was measured end to end, and is a tenth faster than all else at least."""
    rates = [(one.precision, statistics.median(one.rates)) for one in contestants if one.kind == "end to end"]
    int8 = [rate for precision, rate in rates if precision == "int8"]
    return bool(int8) and int8[0] > 1.1 * max(rate for precision, rate in rates if precision != "int8")


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
