"""What `diagnostics.bench` measures: each contestant has a round, which processes its images."""

import os
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from torch import nn
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

from dinoclassify.decoding.batch import Batch, Pixels
from dinoclassify.decoding.loader import load_batches
from dinoclassify.diagnostics.rounds import Round, Speed, core_seconds, repeat, repeat_files
from dinoclassify.messages import first_line
from dinoclassify.models.builtin_weights import load_transformers
from dinoclassify.models.checkpoint import load_weights, silenced
from dinoclassify.models.hub import cached_snapshot
from dinoclassify.models.image_model import ImageClassifier
from dinoclassify.models.names import resolve
from dinoclassify.pipeline import classify
from dinoclassify.runtimes import open_runtime
from dinoclassify.runtimes.base import PendingOutput, Runtime
from dinoclassify.runtimes.pytorch import DTYPES
from dinoclassify.system.environment import available_cpus
from dinoclassify.system.processor import cpu_has_bf16
from dinoclassify.timing import StageTimer
from dinoclassify.types.compute import Precision, RuntimeName
from dinoclassify.types.run_options import RunOptions, hand_over
from dinoclassify.types.source import MAX_PIXELS, Source
from dinoclassify.writers.formats import open_format
from dinoclassify.writers.stream import stream_rows

DECODE_BATCH = 8  # images a batch, to measure decoding alone
FORWARD_IMAGES = 64  # the most images in a round, to measure the model alone
MATRIX_SIDE = 2048  # rows and columns of the matrices multiplied to measure the machine
MATRIX_SECONDS = 0.5


@dataclass(slots=True)
class Contestant:
    """Something to measure, and its images a second in each round so far."""

    name: str
    kind: Literal["pipeline", "end to end", "live", "forward", "limit"]
    precision: str
    run: Round
    rates: list[float] = field(default_factory=list)


def runtimes_of(model: ImageClassifier, devices: Sequence[str], pixels: Pixels, notes: list[str]) -> Iterator[Runtime]:
    """The runtime that ``auto`` chooses, then each other runtime and precision of this machine."""
    default = open_runtime(model, "auto", devices)
    yield default
    on_cpu = devices[0] == "cpu"
    names: list[RuntimeName] = ["openvino", "torch"] if on_cpu and find_spec("openvino") else ["torch"]
    for name in names:
        for precision in (*_half_precisions(devices[0]), "fp32"):
            if (name, precision) != (default.name, default.precision):
                yield open_runtime(model, name, devices, precision)
    if "openvino" not in names:
        notes.append(
            "OpenVINO and int8 are not measured: "
            + ("pip install 'dinoclassify[openvino]'" if on_cpu else "not on a CPU")
        )
        return
    yield from _in_int8(model, default, pixels, notes)


def _half_precisions(device: str) -> tuple[Precision, ...]:
    """The half precisions that are fast on a device, the usual one first."""
    return ("fp16", "bf16") if device != "cpu" else ("bf16",) if cpu_has_bf16() else ()


def _in_int8(model: ImageClassifier, default: Runtime, pixels: Pixels, notes: list[str]) -> Iterator[Runtime]:
    """The model in int8, however well it agrees with the default. Not cached: the images are not those of a run."""
    from dinoclassify.runtimes.openvino.int8 import CALIBRATION, Verdict, quantise
    from dinoclassify.runtimes.openvino.runtime import OpenVINORuntime

    if len(pixels) < 2 * CALIBRATION:
        notes.append(f"int8 is not measured: it needs {2 * CALIBRATION} images, use --limit {2 * CALIBRATION}")
        return
    order = np.random.default_rng(0).permutation(len(pixels))
    others = pixels[order[CALIBRATION:]]
    with tempfile.TemporaryDirectory() as folder:
        try:
            quantise(model, pixels[order[:CALIBRATION]], Path(folder))
            runtime = OpenVINORuntime(model, "bf16", quantised=Path(folder))
        except Exception as error:  # NNCF does not support every model
            notes.append(f"int8 is not measured: {model.name} cannot be quantised ({first_line(error)})")
            return
        same = sum(
            int((runtime([batch])().argmax(axis=1) == default([batch])().argmax(axis=1)).sum())
            for batch in _split(others, DECODE_BATCH)
        )
        notes.append(f"{Verdict(same, len(others), default.precision).sentence}; predict checks int8 on its own images")
        yield runtime


def pipelines(model: ImageClassifier, files: Sequence[str], device: str) -> Iterator[Contestant]:
    """The transformers pipeline in fp32 and in half precision, in batches of one and eight."""
    processor = _processor(model)
    for precision in ("fp32", *_half_precisions(device)[:1]):
        with silenced():
            pipe = pipeline(
                "image-classification",
                model=cast(PreTrainedModel, _with_config(model).to(DTYPES[precision])),
                image_processor=processor,
                device=device,
            )
        for batch_size in (1, 8):

            def run(least: float, pipe: Pipeline = pipe, batch_size: int = batch_size) -> Speed:
                with silenced():
                    return repeat(len(files), lambda: pipe(list(files), batch_size=batch_size), least)

            yield Contestant(f"transformers pipeline, {precision}, batch {batch_size}", "pipeline", precision, run)


def end_to_end(
    model: ImageClassifier,
    runtime: Runtime,
    files: Sequence[str],
    workers: int,
    stages: StageTimer,
    *,
    live: bool = False,
) -> Round:
    """Dinoclassify from files to rows, timed by ``stages``; ``live`` as for a list of paths on stdin."""

    def work(files: Iterable[str]) -> None:
        """Label all files."""
        sources = map(Source, files)
        batches = load_batches(
            sources if live else stages.measure_each("walk", sources),
            model.preprocessing,
            batch_size=hand_over(runtime.batch_size),
            workers=workers,
            exact=False,
            max_pixels=MAX_PIXELS,
            live=live,
            feed="torch" if runtime.name == "torch" else "plain",
            on_start=runtime.load,
        )
        with stages.measure("write"):
            stream_rows(
                os.devnull,
                open_format("csv", 1),
                classify(batches, runtime, model.labels, options=RunOptions(timer=stages)),
            )

    return lambda least: repeat_files(files, work, least)


def forward(runtime: Runtime, pixels: Pixels) -> Round:
    """The model alone, on pixels in memory: uint8[N, 3, H, W]."""
    batches = list(_split(pixels[:FORWARD_IMAGES], runtime.batch_size))
    batches *= -(-8 * (runtime.ahead + 1) // len(batches))  # enough batches to keep the runtime busy

    def work() -> None:
        pending: deque[PendingOutput] = deque()
        for batch in batches:
            pending.append(runtime([batch]))
            if len(pending) > runtime.ahead:
                pending.popleft()()
        while pending:
            pending.popleft()()

    work()  # the first run of a network is slower
    return lambda least: repeat(sum(map(len, batches)), work, least)


@dataclass(frozen=True, slots=True)
class ReplayRuntime:
    """A runtime that computes nothing: each batch gets outputs that another runtime has computed before."""

    name: str
    device: str
    precision: Precision
    batch_size: int
    outputs: int
    ahead: int
    wait: PendingOutput

    def load(self) -> None:
        """There is nothing to load."""

    def __call__(self, parts: Sequence[Pixels]) -> PendingOutput:
        """Return outputs for as many images."""
        count = sum(map(len, parts))
        return lambda: self.wait()[:count]


def without_model(runtime: Runtime, pixels: Pixels) -> ReplayRuntime:
    """A runtime like this one, but with the outputs of the first of ``pixels`` for all images."""
    repeated = pixels[[0] * runtime.batch_size]
    outputs = runtime([repeated])()
    return ReplayRuntime(
        runtime.name,
        runtime.device,
        runtime.precision,
        runtime.batch_size,
        runtime.outputs,
        runtime.ahead,
        lambda: outputs,
    )


def _split(pixels: Pixels, size: int) -> Iterator[Pixels]:
    return (pixels[start : start + size] for start in range(0, len(pixels), size))


def decode_only(model: ImageClassifier, files: Sequence[str]) -> Round:
    """Reading, decoding and resizing alone, on all processors."""

    def work(files: Iterable[str]) -> None:
        deque(decode_small_batches(model, files), maxlen=0)

    return lambda least: repeat_files(files, work, least)


def decode_small_batches(model: ImageClassifier, files: Iterable[str]) -> Iterator[Batch]:
    """The files in batches of `DECODE_BATCH`, decoded on all processors."""
    return load_batches(
        map(Source, files),
        model.preprocessing,
        batch_size=DECODE_BATCH,
        workers=available_cpus(),
        exact=False,
        max_pixels=MAX_PIXELS,
    )


def _processor(model: ImageClassifier) -> BaseImageProcessor:
    if resolve(model.name).kind == "builtin":
        return BitImageProcessorPil(
            size={"shortest_edge": 256}, crop_size=224, image_mean=[0.5] * 3, image_std=[0.5] * 3
        )
    return cast(BaseImageProcessor, AutoImageProcessor.from_pretrained(_folder(model), local_files_only=True))


def checkpoint_folder(model: ImageClassifier, scratch: str) -> str:
    """A folder from which transformers loads the model; the built-in one is saved to ``scratch``."""
    if resolve(model.name).kind == "builtin":
        with silenced():
            cast(PreTrainedModel, load_transformers()).save_pretrained(scratch)
            _processor(model).save_pretrained(scratch)
        return scratch
    return _folder(model)


def _with_config(model: ImageClassifier) -> nn.Module:
    """The model as transformers' own class, which its pipeline needs."""
    if resolve(model.name).kind == "builtin":
        return load_transformers()
    return load_weights(_folder(model), model.name)


def _folder(model: ImageClassifier) -> str:
    return model.name if resolve(model.name).kind == "folder" else cached_snapshot(model.name) or model.name


def matrix_products(precision: Precision, device: str, flops: int) -> Round:
    """Images a second if the model were nothing but products of large matrices."""
    factor = torch.randn(MATRIX_SIDE, MATRIX_SIDE, device=device).to(DTYPES[precision])

    def run(least: float) -> Speed:
        """Multiply for `MATRIX_SECONDS` at least."""

        def wait() -> None:
            if device != "cpu":
                torch.accelerator.synchronize(torch.device(device))

        with torch.inference_mode():
            factor @ factor
            wait()
            done, core, started = 0, core_seconds(), time.perf_counter()
            while (spent := time.perf_counter() - started) < max(MATRIX_SECONDS, least):
                for _ in range(1 if device == "cpu" else 100):
                    factor @ factor
                    done += 1
                wait()
        return Speed(done * 2 * MATRIX_SIDE**3 / flops, spent, core_seconds() - core)

    return run


def count_flops(model: ImageClassifier) -> int:
    """The floating point operations for one image, as torch counts them."""
    size = model.preprocessing.output_size or ()
    counter = FlopCounterMode(display=False)
    with silenced(), torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), counter:  # it does not count fused attention
        model.load()(pixel_values=torch.zeros(1, 3, *size))
    return int(counter.get_total_flops())
