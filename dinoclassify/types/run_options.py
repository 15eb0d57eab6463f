"""How the images of a run go through a model."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import TypedDict, Unpack

from dinoclassify.errors import UsageError
from dinoclassify.messages import nearest
from dinoclassify.timing import StageTimer
from dinoclassify.types.source import MAX_PIXELS, TIMEOUT

_OF_METHODS = ("top_k", "threshold", "normalized", "dtype")  # arguments of `predict` and `embed` beside these


class RunArguments(TypedDict, total=False):
    """The fields of `RunOptions`, as keyword arguments."""

    batch_size: int | None
    workers: int | None
    exact: bool
    max_pixels: int
    timeout: float
    private_urls: bool
    live: bool
    timer: StageTimer
    stop: Callable[[], bool]


# Images that a worker decodes before it hands them over: more wait longer, fewer cost more each. A batch that cannot be
# divided so is handed over whole, unless it takes much memory.
_MOST, _LEAST = 8, 4
_LARGE_BATCH = 64


def hand_over(batch_size: int) -> int:
    """How many images a worker hands over at a time: whole forward batches, or a whole part of one."""
    if batch_size < _MOST:
        return _MOST // batch_size * batch_size
    part = next(count for count in range(_MOST, 0, -1) if batch_size % count == 0)
    return part if part >= _LEAST or batch_size > _LARGE_BATCH else batch_size


def whole_batches(batch_size: int) -> int:
    """The least number of images that is whole in forward batches and in hand-overs.

    A run that goes on after so many images, or a multiple, batches the others as a run of all of them does. Images that
    are computed one by one can be separated anywhere.
    """
    return max(batch_size, hand_over(batch_size)) if batch_size > 1 else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How images are read, decoded and batched, and when the run stops; a value out of range is a UsageError.

    Attributes:
        batch_size: images in one forward pass; None for the number that measured fastest in the runtime.
        workers: processes that decode; None for half the processors if the model runs on them too, else all but one.
        exact: decode and resize exactly as transformers does with ``backend="pil"``, rather than fast. Where
            torchvision is installed, transformers defaults to ``backend="torchvision"``, whose pixels differ.
        max_pixels: images with more fail as ``too_large``, undecoded.
        timeout: seconds after which an image fails as ``timeout``.
        private_urls: also read web addresses in private networks and on this machine.
        live: inputs come over time; answer those that have come without waiting for a full batch.
        timer: measures the stages of the run.
        stop: called before each batch; once it returns True, batches already started are finished, and no others.
    """

    batch_size: int | None = None
    workers: int | None = None
    exact: bool = False
    max_pixels: int = MAX_PIXELS
    timeout: float = TIMEOUT
    private_urls: bool = False
    live: bool = False
    timer: StageTimer = field(default_factory=StageTimer)
    stop: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        counts = [self.max_pixels, *(count for count in (self.batch_size, self.workers) if count is not None)]
        if min(counts) < 1:
            raise UsageError("batch_size, workers and max_pixels must be at least 1")
        if self.timeout <= 0:
            raise UsageError("timeout must be more than 0")

    @classmethod
    def from_arguments(cls, **arguments: Unpack[RunArguments]) -> "RunOptions":
        """The options that a caller names; raises TypeError for another name, UsageError for a value out of range."""
        known = [option.name for option in fields(cls)]
        for name in arguments.keys() - set(known):
            raise TypeError(f"unexpected keyword argument {name!r}{nearest(name, [*known, *_OF_METHODS])}")
        return cls(**arguments)
