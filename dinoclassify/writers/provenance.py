"""What a file of rows was made with: the content of ``OUTPUT.meta.json``."""

import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version

import dinoclassify
from dinoclassify.loaded_model import LoadedModel
from dinoclassify.types.preprocessing import Preprocessing

_PACKAGES = ("torch", "transformers", "pillow", "numpy")
_RUNTIME_PACKAGES = {"openvino": ("openvino",)}


def versions(runtime: str) -> dict[str, str]:
    """The versions of all that has a part in what a model answers."""
    packages = (*_PACKAGES, *_RUNTIME_PACKAGES.get(runtime, ()))
    return {"dinoclassify": dinoclassify.__version__} | {package: version(package) for package in packages}


def made_with(model: LoadedModel, answers: Mapping[str, object], format_name: str) -> dict[str, object]:
    """Whatever the rows depend on besides the pictures, by name: rows of two runs go together where it is the same.

    ``answers`` are the options that the answers depend on, besides the model.
    """
    return {
        "model": model.model,
        "revision": model.revision or model.digest(),
        **answers,
        "format": format_name,
        "runtime": model.runtime,
        "precision": model.precision,
    }


def describe(
    model: LoadedModel,
    *,
    outputs: Mapping[str, int],
    options: Mapping[str, object],
    counts: Mapping[str, int],
    errors: Mapping[str, int],
    kept: int,
    seconds: float | None,
    opening: float | None,
) -> dict[str, object]:
    """The content of ``OUTPUT.meta.json``, but for what `writers.output` adds.

    Args:
        model: what made the rows.
        outputs: how many labels or features it has, under that name.
        options: the options of the run, as given.
        counts: rows by status.
        errors: failed rows by error code.
        kept: how many of the rows are those of earlier runs.
        seconds: how long the others took, the loading of the model left out; None where that says nothing.
        opening: how long it took to open the model, which is prepared for the machine once.
    """
    preprocessing = model.preprocessing
    images = sum(counts.values()) - kept
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": {
            "name": model.model,
            "revision": model.revision,
            **outputs,
            "preprocessing": asdict(preprocessing)
            if isinstance(preprocessing, Preprocessing)
            else type(preprocessing.processor).__name__,
        },
        "device": model.device,
        "precision": model.precision,
        "runtime": model.runtime,
        "versions": {"python": platform.python_version()} | versions(model.runtime),
        "options": dict(options),
        "counts": {status: counts.get(status, 0) for status in ("ok", "uncertain", "failed")},
        "errors": dict(errors),
        "kept": kept,
        "seconds": round(seconds, 3) if seconds is not None else None,
        "model_seconds": round(opening, 3) if opening is not None else None,
        "images_per_second": round(images / seconds, 3) if seconds else None,
    }
