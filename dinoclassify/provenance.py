"""What a file of rows was made with: the content of ``OUTPUT.meta.json``."""

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version

import dinoclassify
from dinoclassify.classifier import Classifier
from dinoclassify.preprocessing import Preprocessing
from dinoclassify.writers import replacing

_PACKAGES = ("torch", "transformers", "pillow", "numpy")
_RUNTIME_PACKAGES = {"openvino": ("openvino",)}


def write_meta(
    output: str,
    classifier: Classifier,
    *,
    options: Mapping[str, object],
    counts: Mapping[str, int],
    errors: Mapping[str, int],
    seconds: float,
) -> None:
    """Write ``OUTPUT.meta.json``.

    Args:
        output: the file of rows.
        classifier: what made them.
        options: the options of the run, as given.
        counts: rows by status.
        errors: failed rows by error code.
        seconds: how long the rows took, the loading of the model left out.

    Raises:
        OutputError: it cannot be written.
    """
    preprocessing = classifier.preprocessing
    images = sum(counts.values())
    content = {
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
        "seconds": round(seconds, 3),
        "images_per_second": round(images / seconds, 3) if seconds else None,
    }
    with replacing(f"{output}.meta.json") as file:
        file.write(json.dumps(content, indent=2, default=str).encode("utf-8") + b"\n")
