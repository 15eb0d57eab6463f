"""Figures of `bench` compared in pairs: what is faster than what, and by how much."""

import statistics
from collections.abc import Sequence

from dinoclassify.diagnostics.contestants import Contestant
from dinoclassify.diagnostics.report import Ratio
from dinoclassify.diagnostics.start import PIPELINE, Start
from dinoclassify.runtimes.base import Runtime

# A ratio in the middle of a sentence.
_FASTER = "is {times:.2f} times as fast as"
_REACHES = "reaches {percent:.0f} % of"
_TAKES = "takes {percent:.0f} % of"


def ratios_of(contestants: Sequence[Contestant], default: Runtime) -> list[Ratio]:
    """Speeds compared in pairs; pairs that were not measured are left out."""

    def best(kind: str, precision: str = "", engine: str = "") -> float | None:
        rates = [
            statistics.median(each.rates)
            for each in contestants
            if each.rates and each.kind == kind and precision in ("", each.precision) and engine in each.name
        ]
        return max(rates, default=None)

    ours = best("end to end", default.precision, default.name)
    forward = best("forward", default.precision, default.name)
    half = next((each.precision for each in contestants if each.kind == "pipeline" and each.precision != "fp32"), None)
    decode = best("limit", "-")
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
            min(forward, decode) if forward and decode else None,
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


def start_ratios(starts: Sequence[Start]) -> list[Ratio]:
    """The warm starts of dinoclassify compared with that of the pipeline: time and memory."""
    pipeline = next((start for start in starts if start.name == PIPELINE), None)
    if pipeline is None:
        return []
    ratios = []
    for start in (start for start in starts if start is not pipeline and start.cache == "warm"):
        runtime = start.name.rpartition(" ")[2]
        figures = {
            "time": (start.seconds, pipeline.seconds),
            "memory": (start.megabytes, pipeline.megabytes),
        }
        for of, (ours, theirs) in figures.items():
            sentence = f"a warm run on one image with {runtime} {_TAKES} the {of} of the transformers pipeline"
            ratios.append(Ratio(f"one image to the pipeline, {of}, {runtime}", sentence, round(ours / theirs, 3)))
    return ratios


def int8_pays(contestants: Sequence[Contestant]) -> bool:
    """Whether int8 was measured end to end, and is more than a tenth faster than every other precision."""
    rates = [
        (each.precision, statistics.median(each.rates))
        for each in contestants
        if each.rates and each.kind == "end to end"
    ]
    int8 = [rate for precision, rate in rates if precision == "int8"]
    others = [rate for precision, rate in rates if precision != "int8"]
    return bool(int8 and others) and int8[0] > 1.1 * max(others)
