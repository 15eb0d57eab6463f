"""Groups of options that several commands share, and the decorator that expands them into parameters."""

import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypedDict, TypeVar, cast

from dinoclassify.cli import learning_options, options
from dinoclassify.models.names import DEFAULT
from dinoclassify.timing import StageTimer
from dinoclassify.training.classes import LEAST
from dinoclassify.types import source
from dinoclassify.types.limit import Limit
from dinoclassify.types.run_options import RunOptions

if TYPE_CHECKING:
    from dinoclassify.writers.output import UpdateOptions

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Inputs:
    """Which images to read."""

    paths: options.Paths = None
    files_from: options.FilesFrom = None
    column: options.Column = None
    null: options.Null = False
    include: options.Include = None
    exclude: options.Exclude = None
    hidden: options.Hidden = False
    follow: options.Follow = False
    private_urls: options.PrivateUrls = False
    shard: options.Shard = None
    limit: options.Limit = None


@dataclass(frozen=True, slots=True)
class TruthOptions:
    """Images with known labels."""

    folder: learning_options.LabelledFolder = None
    labels_from: learning_options.LabelsFrom = None
    column: learning_options.TruthColumn = None
    label_column: learning_options.LabelColumn = None
    multi_label: learning_options.MultiLabel = False


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """How a head is trained and tested."""

    class_weight: learning_options.ClassWeight = "balanced"
    min_images: learning_options.MinImages = LEAST
    test: learning_options.Test = None
    holdout: learning_options.Holdout = None
    seed: learning_options.Seed = 0


class ModelArguments(TypedDict):
    """Keyword arguments of `Classifier` and `Encoder`."""

    revision: str | None
    offline: bool
    device: str
    precision: options.PrecisionName
    runtime: options.Runtime
    compiled: bool


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Which model to use, and where it runs."""

    model: options.Model = DEFAULT
    revision: options.Revision = None
    offline: options.Offline = False
    device: options.Device = "auto"
    precision: options.PrecisionName = "auto"
    runtime: options.Runtime = "auto"
    compiled: options.Compile = False

    def arguments(self) -> ModelArguments:
        """Return all but the name, as keyword arguments of `Classifier` and `Encoder`."""
        arguments = asdict(self)
        del arguments["model"]
        return cast(ModelArguments, arguments)


@dataclass(frozen=True, slots=True)
class InferenceOptions:
    """How images go through the model."""

    max_pixels: options.MaxPixels = source.MAX_PIXELS
    timeout: options.Timeout = source.TIMEOUT
    batch_size: options.BatchSize = None
    workers: options.Workers = None
    exact: options.Exact = False

    def run_options(
        self, timer: StageTimer, stop: Callable[[], bool], *, live: bool = False, private_urls: bool = False
    ) -> RunOptions:
        """Return these options, with a timer and a way to stop the run, as a model takes them."""
        return RunOptions(**asdict(self), private_urls=private_urls, live=live, timer=timer, stop=stop)


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """What becomes of the rows of earlier runs, and of rows that fail."""

    resume: options.Resume = False
    fresh: options.Fresh = False
    retry_failed: options.RetryFailed = False
    prune: options.Prune = False
    max_prune: options.MaxPrune = None
    errors_to: options.ErrorsTo = None
    wait: options.Wait = False
    max_failures: options.MaxFailures = None
    strict: options.Strict = False

    @property
    def failure_limit(self) -> Limit | None:
        """How many rows may fail; None for all."""
        return Limit("0 (--strict)", count=0) if self.strict else self.max_failures

    def update(self) -> "UpdateOptions":
        """Return the `UpdateOptions` among these options."""
        from dinoclassify.writers.output import UpdateOptions

        return UpdateOptions(self.resume, self.fresh, self.retry_failed, self.prune, self.max_prune)


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Which machines do the work."""

    engine: options.Engine = "local"
    ray_address: options.RayAddress = None
    gpus: options.Gpus = None


@dataclass(frozen=True, slots=True)
class Messages:
    """What the command prints on stderr."""

    progress: options.Progress = None
    quiet: options.Quiet = False
    verbose: options.Verbose = False
    debug: options.Debug = False


def expand_groups(command: Callable[P, T]) -> Callable[..., T]:
    """Return the command with a parameter for each option, as Typer needs it, instead of one for each group."""
    signature = inspect.signature(command)
    groups = {name: cast(type, parameter.annotation) for name, parameter in signature.parameters.items()}
    groups = {name: kind for name, kind in groups.items() if is_dataclass(kind)}

    @wraps(command)
    def with_groups(**values: Any) -> T:  # Typer calls it so
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        return cast(Callable[..., T], command)(**values)

    flat: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        if name in groups:
            flat += inspect.signature(groups[name]).parameters.values()
        else:
            flat.append(parameter)
    with_groups.__dict__["__signature__"] = signature.replace(
        parameters=[option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in flat]
    )
    return with_groups
