"""What a file of rows was made with: the content of ``OUTPUT.meta.json``."""

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version

import dinoclassify
from dinoclassify.classifier import Classifier
from dinoclassify.preprocessing import Preprocessing

_PACKAGES = ("torch", "transformers", "pillow", "numpy")
_RUNTIME_PACKAGES = {"openvino": ("openvino",)}


def made_with(
    classifier: Classifier, *, top_k: int, threshold: float, exact: bool, decoder: str, format_name: str
) -> dict[str, object]:
    """Whatever the rows depend on besides the pictures, by name: rows of two runs go together where it is the same."""
    labels = hashlib.sha256("\n".join(classifier.labels).encode("utf-8", "surrogateescape")).hexdigest()
    return {
        "model": classifier.model,
        "revision": classifier.revision or classifier.digest(),
        "labels": f"{len(classifier.labels)} of sha256 {labels[:16]}",
        "top-k": top_k,
        "threshold": threshold,
        "format": format_name,
        "exact": exact,
        "decoder": decoder,
        "runtime": classifier.runtime,
        "precision": classifier.precision,
    }


def describe(
    classifier: Classifier,
    *,
    options: Mapping[str, object],
    counts: Mapping[str, int],
    errors: Mapping[str, int],
    kept: int,
    seconds: float,
) -> dict[str, object]:
    """The content of ``OUTPUT.meta.json``, but for what `dinoclassify.outputs` adds.

    Args:
        classifier: what made the rows.
        options: the options of the run, as given.
        counts: rows by status.
        errors: failed rows by error code.
        kept: how many of the rows are those of earlier runs.
        seconds: how long the others took, the loading of the model left out.
    """
    preprocessing = classifier.preprocessing
    images = sum(counts.values()) - kept
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": {
            "name": classifier.model,
            "revision": classifier.revision,
            "labels": len(classifier.labels),
            "preprocessing": asdict(preprocessing)
            if isinstance(preprocessing, Preprocessing)
            else type(preprocessing.processor).__name__,
        },
        "device": classifier.device,
        "precision": classifier.precision,
        "runtime": classifier.runtime,
        "versions": {"dinoclassify": dinoclassify.__version__, "python": platform.python_version()}
        | {package: version(package) for package in (*_PACKAGES, *_RUNTIME_PACKAGES.get(classifier.runtime, ()))},
        "options": dict(options),
        "counts": {status: counts.get(status, 0) for status in ("ok", "uncertain", "failed")},
        "errors": dict(errors),
        "kept": kept,
        "seconds": round(seconds, 3),
        "images_per_second": round(images / seconds, 3) if seconds else None,
    }
