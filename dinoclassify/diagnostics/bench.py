"""dinoclassify against the transformers pipeline and the limits of the machine: same files, same weights.

The contestants take turns in each round, so that a drifting clock speed affects them all alike. Times include the start
of worker processes, but not the loading of models.
"""

import logging
import platform
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch
from PIL import Image

from dinoclassify.decoding.batch import Pixels, together
from dinoclassify.diagnostics.contestants import (
    DECODE_BATCH,
    Contestant,
    count_flops,
    decode_only,
    decode_small_batches,
    end_to_end,
    forward,
    matrix_products,
    pipelines,
    runtimes_of,
)
from dinoclassify.errors import ModelError, NoInputsError
from dinoclassify.models.image_model import ImageClassifier
from dinoclassify.models.names import BUILTIN
from dinoclassify.models.open import open_model
from dinoclassify.runtimes.base import Runtime
from dinoclassify.runtimes.devices import find_devices
from dinoclassify.system.environment import available_cpus, default_workers
from dinoclassify.system.processor import cpu_has_bf16
from dinoclassify.timing import Stage, StageTimer, advice

log = logging.getLogger(__name__)

PIXELS = 256  # images kept in memory as pixels

# A ratio in the middle of a sentence.
_FASTER = "is {times:.2f} times as fast as"
_REACHES = "reaches {percent:.0f} % of"


@dataclass(frozen=True, slots=True)
class Figure:
    """The speed of one contestant over all rounds, in images a second."""

    name: str
    median: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """One speed compared with another: its key in the JSON, and a sentence with a place for the value."""

    key: str
    sentence: str
    value: float

    def __str__(self) -> str:
        return self.sentence.format(times=self.value, percent=100 * self.value)


@dataclass(frozen=True, slots=True)
class Report:
    """All results; ``stages`` and ``bottleneck`` are those of dinoclassify with its default runtime."""

    machine: str
    pictures: str  # the key that the JSON has for a line on the images
    figures: list[Figure]
    ratios: list[Ratio]
    stages: dict[Stage, float]
    bottleneck: Stage
    advice: str
    notes: list[str]

    def lines(self) -> list[str]:
        """The report without its figures, as text."""
        shares = ", ".join(f"{stage} {100 * share:.0f} %" for stage, share in self.stages.items())
        return [
            self.machine,
            self.pictures,
            *map(str, self.ratios),
            f"time: {shares}; most of it in {self.bottleneck}" + (f": {self.advice}" if self.advice else ""),
            *self.notes,
        ]

    def as_json(self) -> dict[str, object]:
        """The report as JSON has it."""
        return asdict(self) | {"ratios": {ratio.key: ratio.value for ratio in self.ratios}}


def measure(name: str, files: Sequence[str], *, offline: bool, device: str, workers: int | None, rounds: int) -> Report:
    """Measure all contestants that can run on this machine, once in each round.

    Files that cannot be decoded are left out, because the transformers pipeline would stop at them. If ``workers`` is
    None, there are as many decoding processes as `Classifier` starts.

    Raises:
        NoInputsError: no file can be decoded.
        ModelError: the model cannot be loaded, or takes images of many sizes.
    """
    devices = find_devices(device)[:1]
    model = open_model(name, offline=offline)
    on_cpu = devices[0] == "cpu"
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
        *(
            Contestant(f"forward only, {_shown(runtime)}", "forward", runtime.precision, forward(runtime, pixels))
            for runtime in runtimes
        ),
        Contestant(f"decode only, {available_cpus()} workers", "limit", "-", decode_only(model, files)),
        *_matrix_products(runtimes, devices[0], flops),
    ]
    for number in range(rounds):
        for place, contestant in enumerate(contestants, start=1):
            log.info("round %d of %d, %d of %d: %s", number + 1, rounds, place, len(contestants), contestant.name)
            contestant.rates.append(contestant.run())
    return Report(
        machine=_machine(devices[0]),
        pictures=f"{len(files)} images of {_megapixels(files):.1f} megapixels, {flops / 1e9:.1f} GFLOP for each image",
        figures=[_figure(contestant) for contestant in contestants],
        ratios=_ratios(contestants, default),
        stages={stage: round(share, 4) for stage, share in stages.shares().items()},
        bottleneck=stages.bottleneck(),
        advice=advice(
            stages.bottleneck(),
            runtime=default.name,
            precision=default.precision,
            device=default.device,
            smaller=model.name != BUILTIN,
            int8=_int8_pays(contestants),
            openvino=on_cpu and find_spec("openvino") is None,
            workers=workers,
            processors=available_cpus(),
        ),
        notes=notes,
    )


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


def _decodable(model: ImageClassifier, files: Sequence[str], notes: list[str]) -> tuple[list[str], Pixels]:
    """The files that can be decoded, and the pixels of the first of them, uint8[N, 3, H, W]."""
    if model.preprocessing.output_size is None:
        raise ModelError(f"{model.name} takes images of many sizes, which bench cannot measure: choose another --model")
    decodable: list[str] = []
    pixels: list[Pixels] = []
    for batch in decode_small_batches(model, files):
        decodable += [item.source.path for item in batch.inputs if item.failure is None]
        if len(batch.pixels) and len(pixels) * DECODE_BATCH < PIXELS:
            pixels.append(batch.pixels)
    if not decodable:
        raise NoInputsError("none of the images can be decoded: name others")
    if len(decodable) < len(files):
        notes.append(f"{len(files) - len(decodable)} of {len(files)} files cannot be decoded and were left out")
    return decodable, together(pixels)


def _ratios(contestants: Sequence[Contestant], default: Runtime) -> list[Ratio]:
    """Speeds compared in pairs; pairs that were not measured are left out."""

    def best(kind: str, precision: str = "", engine: str = "") -> float | None:
        rates = [
            statistics.median(each.rates)
            for each in contestants
            if each.kind == kind and precision in ("", each.precision) and engine in each.name
        ]
        return max(rates, default=None)

    ours = best("end to end", default.precision, default.name)
    forward = best("forward", default.precision, default.name)
    half = next((each.precision for each in contestants if each.kind == "pipeline" and each.precision != "fp32"), None)
    ours_in_torch, pipeline = best("end to end", engine="torch"), best("pipeline", "fp32")
    pairs = [
        ("to the pipeline in fp32", f"the whole run {_FASTER} the transformers pipeline in fp32", ours, pipeline),
        (
            f"to the pipeline in {half}",
            f"the whole run {_FASTER} the transformers pipeline in {half}",
            ours,
            half and best("pipeline", half),
        ),
        ("a list on stdin to a folder", f"a list on stdin {_REACHES} the speed of a folder", best("live"), ours),
        ("end to end to forward only", f"the whole run {_REACHES} the model alone (forward only)", ours, forward),
        (
            "end to end to the lesser of forward and decode only",
            f"the whole run {_REACHES} its slower half, the model or the decoding alone",
            ours,
            min(filter(None, (forward, best("limit", "-")))),
        ),
        (
            "forward only to matrix products",
            f"the model alone (forward only) {_REACHES} its matrix products alone",
            forward,
            best("limit", default.precision),
        ),
        (
            "torch to the pipeline in fp32",
            f"the whole run with torch {_FASTER} the transformers pipeline in fp32",
            ours_in_torch,
            pipeline,
        ),
        (
            "int8 to bf16, end to end",
            f"the whole run in int8 {_FASTER} that in bf16",
            best("end to end", "int8"),
            best("end to end", "bf16"),
        ),
    ]
    return [Ratio(key, text, round(rate / other, 3)) for key, text, rate, other in pairs if rate and other]


def _int8_pays(contestants: Sequence[Contestant]) -> bool:
    """Whether int8 was measured end to end, and is more than a tenth faster than every other precision."""
    rates = [(each.precision, statistics.median(each.rates)) for each in contestants if each.kind == "end to end"]
    int8 = [rate for precision, rate in rates if precision == "int8"]
    return bool(int8) and int8[0] > 1.1 * max(rate for precision, rate in rates if precision != "int8")


def _megapixels(files: Sequence[str]) -> float:
    """The median size of the first 100 files."""

    def area(path: str) -> float:
        with Image.open(path) as image:
            return image.width * image.height / 1e6

    return statistics.median(area(path) for path in files[:100])


def _machine(device: str) -> str:
    cpu_info = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ()
    models = (line.partition(":")[2].strip() for line in cpu_info if line.startswith("model name"))
    cpu = next(models, platform.processor() or platform.machine())
    gpu = f", {torch.cuda.get_device_name(device)}" if device.startswith("cuda") else ""
    bf16 = ", bf16 in hardware" if cpu_has_bf16() else ""
    packages = {"torch": "torch", "transformers": "transformers", "openvino": "openvino", "pillow": "PIL"}
    versions = ", ".join(f"{name} {version(name)}" for name, module in packages.items() if find_spec(module))
    return f"{available_cpus()} processors ({cpu}{bf16}){gpu}; {versions}"
