"""int8 on OpenVINO, opt-in and self-checking.

The network is quantised once, on images of the run that asks for it. Until it is judged, the run computes in the
precision of `auto`, usually bf16. On a sample of its images int8 must give the same labels, or it is not used. Network
and verdict are kept, and every run reports the verdict.

The sample is drawn at random from thousands of images: in a sorted folder, a hundred consecutive ones show a class or
two. The number of images is unknown in advance, so the sample comes from the first 6,000; a shorter run gives no
verdict.

Its speed is measured before its labels: with AMX, bf16 may be as fast. On 2 cores of an Intel Xeon with AMX, int8 did
1.2 times as many images a second with DINOv2-small, and 1.5 times as many with DINOv2-base.
"""

import json
import logging
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import numpy.typing as npt

from dinoclassify.decoding.batch import Pixels, together
from dinoclassify.errors import UsageError
from dinoclassify.messages import first_line
from dinoclassify.models.image_model import ImageModel
from dinoclassify.runtimes.base import Outputs, PendingOutput, Runtime
from dinoclassify.runtimes.openvino.network import converted, versions
from dinoclassify.runtimes.openvino.runtime import OpenVINORuntime
from dinoclassify.storage.cache.folder import find_kept, kept_folder
from dinoclassify.storage.cache.manifest import Stamp, recorded_digest, sha256
from dinoclassify.system.environment import available_cpus
from dinoclassify.system.processor import cpu_identity
from dinoclassify.types.compute import Precision
from dinoclassify.types.share import Interval, wilson

log = logging.getLogger(__name__)

CALIBRATION, CALIBRATION_EVERY = 64, 32  # images to quantise on; one of so many is taken
CHECK_EVERY = 4  # of the images after them, one of so many is checked

# The share of labels that must be those of bf16. The lower end of a 95 % interval decides: it allows up to 11 other
# labels in 1000 images. A network with 99.2 % of the labels passes 8 times in 9, one with 98 % once in 50 times, and
# one with 97 % never. With 100 images and no interval, a network with 97 % agreement passed 2 times in 5.
AGREEMENT = 0.98
CHECK = 1000

TIMED = 32  # pairs of batches: one in int8, one in the precision of `auto`

_METHOD = "timed and sampled"  # of quantising and judging: results kept by another method do not count
_VERDICT = "verdict.json"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a check: on ``same`` of ``of`` images int8 gave the label of the reference precision."""

    same: int
    of: int  # 0 if int8 was no faster, and its labels were not checked
    reference: str

    @property
    def interval(self) -> Interval:
        """The 95 % confidence interval of the share of equal labels."""
        return wilson(self.same, self.of)

    @property
    def accepted(self) -> bool:
        """Whether int8 may be used."""
        return self.interval[0] >= AGREEMENT

    @property
    def sentence(self) -> str:
        """The verdict, in words."""
        if not self.of:
            return f"int8 is no faster than {self.reference} on this machine"
        checked = f"{self.same:,} of the {self.of:,} images it was checked on"
        return f"int8 gives the label of {self.reference} for {checked}"


class Int8Runtime:
    """A classifier on the CPU in int8; in the precision of `auto` until that is ready, or if it is refused.

    See `Runtime` for the call. Raises UsageError if NNCF, which quantises, is not installed, and as `OpenVINORuntime`.
    """

    name = "openvino"
    device = "cpu"

    def __init__(self, model: ImageModel) -> None:
        if find_spec("nncf") is None:
            raise UsageError("--precision int8 needs: pip install 'dinoclassify[openvino]'")
        self._model = model
        self._network_name, self._verdict_name = (f"{name}-{model.digest()[:32]}" for name in ("int8", "int8-verdict"))
        self._stamp = {**versions(), "nncf": version("nncf"), "method": _METHOD}
        self.verdict: Verdict | None = None
        self._candidate: OpenVINORuntime | None = None  # in int8, to be checked
        self._verdict_stamp: Stamp = {}
        self._images: list[Pixels] = []  # to quantise on
        self._is_timed = False
        self._same = self._checked = 0  # labels
        self._random = np.random.default_rng(0)
        network = find_kept(self._network_name, self._stamp)
        kept_verdict = find_kept(self._verdict_name, self._stamp_of(network)) if network is not None else None
        if network is not None and kept_verdict is not None:
            self.verdict = _read(kept_verdict)
            self._runtime = self._in_int8(network) if self.verdict.accepted else OpenVINORuntime(model)
            self._report(self.verdict)
        else:
            self._runtime = OpenVINORuntime(model)
            to_come = CHECK * CHECK_EVERY
            if network is not None:
                self._begin_to_check(network)
            else:
                to_come += CALIBRATION * CALIBRATION_EVERY
            progress = f"a run answers in {self._runtime.precision} until it has seen about {to_come:,} images"
            log.warning("int8 is not ready: %s", progress)
        self._learning = self.verdict is None
        self.batch_size = self._runtime.batch_size
        self.outputs = self._runtime.outputs
        self.ahead = self._runtime.ahead

    @property
    def precision(self) -> Precision:
        """The precision that it computes in now."""
        return self._runtime.precision

    def load(self) -> None:
        """Load the model, if it is not loaded yet."""
        self._runtime.load()

    def __call__(self, parts: Sequence[Pixels]) -> PendingOutput:
        """Start to compute a batch."""
        output = self._runtime(parts)
        return (lambda: self._learn(together(parts), output())) if self._learning else output

    def _learn(self, pixels: Pixels, probabilities: Outputs) -> Outputs:
        try:
            if self._learning and self._candidate is None:
                self._gather(pixels)
            elif self._learning and self._candidate is not None:
                self._check(self._candidate, pixels, probabilities.argmax(axis=1))
        except Exception as error:  # NNCF does not support every model; the run continues without it
            log.warning("cannot quantise %s, going on without: %s", self._model.name, first_line(error))
            self._learning, self._candidate = False, None
        return probabilities

    def _gather(self, pixels: Pixels) -> None:
        """Collect images to quantise on, and quantise once there are enough."""
        self._images.append(pixels[self._sample(len(pixels), CALIBRATION_EVERY)])
        if sum(map(len, self._images)) >= CALIBRATION:
            images = together(self._images)[:CALIBRATION]
            self._images.clear()
            self._begin_to_check(kept_folder(self._network_name, self._stamp, partial(quantise, self._model, images)))

    def _begin_to_check(self, network: Path) -> None:
        self._candidate, self._verdict_stamp = self._in_int8(network), self._stamp_of(network)
        self._candidate.load()  # before it is timed

    def _check(self, candidate: OpenVINORuntime, pixels: Pixels, expected: npt.NDArray[np.intp]) -> None:
        """Compare the speed, and then the labels of a sample, until the verdict is certain."""
        if not self._is_timed:
            self._is_timed = True
            if measure_speed(candidate, self._runtime, pixels[: self.batch_size]) <= 1:
                self._judge(candidate)
                return
        sample = self._sample(len(pixels), CHECK_EVERY)
        if sample.any():
            self._same += int((candidate([pixels[sample]])().argmax(axis=1) == expected[sample]).sum())
            self._checked += int(sample.sum())
        to_come = max(0, CHECK - self._checked)
        if to_come == 0 or not Verdict(self._same + to_come, self._checked + to_come, "").accepted:
            self._judge(candidate)

    def _judge(self, candidate: OpenVINORuntime) -> None:
        """Keep the verdict and follow it, or that of another process which came first."""
        mine = Verdict(self._same, self._checked, self._runtime.precision)
        self.verdict = _read(kept_folder(self._verdict_name, self._verdict_stamp, partial(_write, mine)))
        if self.verdict.accepted:
            self._runtime = candidate
        self._report(self.verdict)
        self._learning, self._candidate = False, None

    def _sample(self, count: int, every: int) -> npt.NDArray[np.bool_]:
        """Which of ``count`` images are in the sample: bool, ``count``. The same in every run on the same batches."""
        return self._random.random(count) < 1 / every

    def _in_int8(self, network: Path) -> OpenVINORuntime:
        return OpenVINORuntime(self._model, "bf16", quantised=network)

    def _stamp_of(self, network: Path) -> Stamp:
        """The stamp of a verdict, which holds for this very network on this machine."""
        machine = {"processor": cpu_identity(), "processors": str(available_cpus())}
        try:
            digest = recorded_digest(network)
        except (OSError, ValueError):  # it is in a temporary folder
            digest = sha256(sorted(network.glob("network.*")))
        return {**self._stamp, **machine, "network": digest}

    def _report(self, verdict: Verdict) -> None:
        if verdict.accepted:
            log.warning("%s", verdict.sentence)
            return
        if not verdict.of:
            log.warning("%s: going on in %s", verdict.sentence, self._runtime.precision)
            return
        low, high = (f"{100 * end:.1f}" for end in verdict.interval)
        doubt = f"{low} to {high} % of all, at 95 % confidence; {100 * AGREEMENT:g} % are required"
        log.warning(
            "%s (%s): int8 is not used, going on in %s (dinoclassify guide speed)",
            verdict.sentence,
            doubt,
            self._runtime.precision,
        )


def measure_speed(candidate: Runtime, reference: Runtime, pixels: Pixels) -> float:
    """How many times as fast as ``reference`` the candidate is, as the median of `TIMED` pairs of runs."""

    def seconds(runtime: Runtime) -> float:
        started = perf_counter()
        runtime([pixels])()
        return perf_counter() - started

    return median(seconds(reference) / seconds(candidate) for _ in range(TIMED))


def _read(folder: Path) -> Verdict:
    return Verdict(**json.loads((folder / _VERDICT).read_text(encoding="utf-8")))


def _write(verdict: Verdict, folder: Path) -> None:
    (folder / _VERDICT).write_text(json.dumps(asdict(verdict)), encoding="utf-8")


def quantise(model: ImageModel, images: Pixels, folder: Path) -> None:
    """Write the network of a model in int8 to an empty folder; ``images`` to quantise on are B x 3 x H x W.

    Raises UnconvertibleError, and whatever NNCF raises for a model that it cannot quantise.
    """
    started = perf_counter()
    log.warning("quantising %s to int8 on %d images, once: about 20 s", model.name, len(images))
    from dinoclassify.runtimes.openvino.api import mostly_matrices, no_telemetry, read_network, save_network

    with no_telemetry(), redirect_stdout(StringIO()):  # NNCF draws bars on stdout, where rows may go
        import nncf

        logging.getLogger("nncf").setLevel(logging.ERROR)  # NNCF's own way changes all handlers
        network = read_network(converted(model))
        save_network(
            nncf.quantize(
                network,
                nncf.Dataset([image[None] for image in images]),
                subset_size=len(images),
                model_type=nncf.ModelType.TRANSFORMER if mostly_matrices(network) else None,
            ),
            folder,
        )
    log.info("quantised %s in %.1f s", model.name, perf_counter() - started)
