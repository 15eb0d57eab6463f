"""int8 on OpenVINO, opt-in and self-checking.

The network is quantised once, on pictures of the run that asks for it. Until enough have come they are answered in the
precision of `auto`, bf16 as a rule; then int8 must give the same label on others of them, or it is not used. The
verdict is kept, and said in every run.
"""

import json
import logging
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor

from dinoclassify.cache import is_kept, kept_folder
from dinoclassify.errors import UsageError, first_line
from dinoclassify.models import ImageModel
from dinoclassify.runtimes import Answer, Precision
from dinoclassify.runtimes.openvino import (
    OpenVINORuntime,
    converted,
    mostly_matrices,
    read_network,
    save_network,
    versions,
)
from dinoclassify.runtimes.telemetry import no_telemetry

log = logging.getLogger(__name__)

CALIBRATION, CHECK = 64, 100  # pictures: the first to quantise on, the next to check on
AGREEMENT = 0.98  # of the labels must be those of bf16

_VERDICT = "verdict.json"


@dataclass(frozen=True, slots=True)
class Verdict:
    """For how many of the pictures it was checked on int8 gave the label of the reference."""

    same: int
    of: int
    reference: str

    @property
    def accepted(self) -> bool:
        """Whether int8 may be used."""
        return self.same >= AGREEMENT * self.of

    @property
    def sentence(self) -> str:
        """The figure, in words."""
        return f"int8 gave the label of {self.reference} for {self.same} of the {self.of} pictures it was checked on"


class Int8Runtime:
    """A classifier on the CPU in int8; as long as that is not ready, or if it is refused, as `auto` has it.

    See `Runtime` for the call.

    Raises:
        UsageError: NNCF, which quantises, is not installed.
        ModelError: see `OpenVINORuntime`.
    """

    name = "openvino"
    device = "cpu"

    def __init__(self, model: ImageModel) -> None:
        self._model = model
        self._folder = f"int8-{model.digest()[:32]}"
        if find_spec("nncf") is None:
            raise UsageError("--precision int8 needs: pip install 'dinoclassify[openvino]'")
        self._stamp = {**versions(), "nncf": version("nncf")}
        self.verdict: Verdict | None = None
        self._seen: list[tuple[Tensor, Tensor]] | None = None
        if is_kept(self._folder, self._stamp):
            self._runtime = self._judged()
        else:
            self._runtime = OpenVINORuntime(model)
            self._seen = []  # pictures, and their labels by this runtime
            log.warning(
                "int8 is not ready: answering in %s until %d pictures have been seen",
                self._runtime.precision,
                CALIBRATION + CHECK,
            )
        self.batch_size = self._runtime.batch_size
        self.outputs = self._runtime.outputs
        self.ahead = self._runtime.ahead

    @property
    def precision(self) -> Precision:
        """What it computes in now."""
        return self._runtime.precision

    def __call__(self, pixels: Tensor) -> Answer:
        """Start to classify a batch."""
        answer = self._runtime(pixels)
        return answer if self._seen is None else lambda: self._learn(pixels, answer())

    def _learn(self, pixels: Tensor, probabilities: Tensor) -> Tensor:
        if self._seen is not None:
            self._seen.append((pixels, probabilities.argmax(dim=1)))
            if sum(len(batch) for batch, _ in self._seen) >= CALIBRATION + CHECK:
                try:
                    self._runtime = self._judged()
                except Exception as error:  # NNCF knows not every model; the run goes on without it
                    log.warning("cannot quantise %s, going on without: %s", self._model.name, first_line(error))
                self._seen = None
        return probabilities

    def quantised(self) -> OpenVINORuntime:
        """The model in int8, whatever the verdict."""
        folder = kept_folder(self._folder, self._stamp, self._quantise)
        return OpenVINORuntime(self._model, "bf16", quantised=folder)

    def _judged(self) -> OpenVINORuntime:
        """The runtime to use from now on, by the verdict, which is made if there is none."""
        folder = kept_folder(self._folder, self._stamp, self._quantise)
        self.verdict = Verdict(**json.loads((folder / _VERDICT).read_text(encoding="utf-8")))
        runtime = self.quantised() if self.verdict.accepted else OpenVINORuntime(self._model)
        refused = f", under {AGREEMENT:.0%}: it is refused, going on in {runtime.precision}".replace("%", " %")
        log.warning("%s%s", self.verdict.sentence, "" if self.verdict.accepted else refused)
        return runtime

    def _quantise(self, folder: Path) -> None:
        """Write the quantised network and the verdict on it, from the pictures seen."""
        started = perf_counter()
        log.warning("quantising %s to int8 on the first %d pictures, once: some 20 s", self._model.name, CALIBRATION)
        pixels, expected = (torch.cat(parts) for parts in zip(*self._seen or (), strict=True))
        with no_telemetry(), redirect_stdout(StringIO()):  # where rows go, and NNCF would draw bars
            import nncf

            logging.getLogger("nncf").setLevel(logging.ERROR)  # its own way would change the handlers of everybody
            network = read_network(converted(self._model))
            save_network(
                nncf.quantize(
                    network,
                    nncf.Dataset([pixels[index : index + 1].numpy() for index in range(CALIBRATION)]),
                    subset_size=CALIBRATION,
                    model_type=nncf.ModelType.TRANSFORMER if mostly_matrices(network) else None,
                ),
                folder,
            )
        quantised = OpenVINORuntime(self._model, "bf16", quantised=folder)
        checked = slice(CALIBRATION, CALIBRATION + CHECK)
        answers = [quantised(batch) for batch in pixels[checked].split(quantised.batch_size)]
        labels = torch.cat([answer() for answer in answers]).argmax(dim=1)
        same = int((labels == expected[checked]).sum())
        verdict = Verdict(same, CHECK, self._runtime.precision)
        (folder / _VERDICT).write_text(json.dumps(asdict(verdict)), encoding="utf-8")
        log.info("quantised %s in %.1f s", self._model.name, perf_counter() - started)
