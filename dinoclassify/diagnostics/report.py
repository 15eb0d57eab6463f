"""What `bench` has measured, as data, as lines of text and as JSON."""

from dataclasses import asdict, dataclass, field

from dinoclassify.diagnostics.core_time import CoreTime
from dinoclassify.diagnostics.start import Start
from dinoclassify.timing import Stage


@dataclass(frozen=True, slots=True)
class Figure:
    """The speed of one contestant over all rounds, in images a second."""

    name: str
    median: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """One figure compared with another: its key in the JSON, and a sentence with a place for the value."""

    key: str
    sentence: str
    value: float

    def __str__(self) -> str:
        return self.sentence.format(times=self.value, percent=100 * self.value)


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the figures depend on besides the code. ``image_bytes``: the size of all images together."""

    model: str
    images: int
    megapixels: float
    image_bytes: int
    workers: int
    device: str
    processors: int
    processor: str
    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class Report:
    """All results; ``stages`` and ``bottleneck`` are those of dinoclassify with its default runtime.

    A run that was stopped has what was measured before: ``rounds`` is the number of whole ones.
    """

    machine: str
    pictures: str  # the key that the JSON has for a line on the images
    conditions: Conditions
    rounds: int
    figures: list[Figure]
    ratios: list[Ratio]
    stages: dict[Stage, float]
    bottleneck: Stage | None
    advice: str
    starts: list[Start] = field(default_factory=list)
    core_ms: CoreTime | None = None
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The report without its figures, as text."""
        shares = ", ".join(f"{stage} {100 * share:.0f} %" for stage, share in self.stages.items())
        advice = f": {self.advice}" if self.advice else ""
        return [
            self.machine,
            self.pictures,
            *map(str, self.ratios),
            *([str(self.core_ms)] if self.core_ms is not None else []),
            *([f"time: {shares}; most of it in {self.bottleneck}{advice}"] if self.bottleneck is not None else []),
            *self.notes,
        ]

    def as_json(self) -> dict[str, object]:
        """The report as JSON has it."""
        return asdict(self) | {"ratios": {ratio.key: ratio.value for ratio in self.ratios}}
