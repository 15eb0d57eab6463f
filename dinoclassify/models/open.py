"""A model's name -> an `ImageClassifier`, or an `ImageEncoder` without its head.

The settings that transformers reads from a checkpoint are kept, and some families are written here in plain torch, so
that a model opens without transformers the next time: its import takes longer than classifying an image. A model in the
Hub's cache opens without the network.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dinoclassify.errors import ModelError, UsageError
from dinoclassify.labels.imagenet import imagenet_labels
from dinoclassify.models import builtin
from dinoclassify.models.image_model import ImageClassifier, ImageEncoder
from dinoclassify.models.names import BUILTIN, find_flaw, resolve, settings_files, weights_files
from dinoclassify.storage.cache.digests import known_sha256
from dinoclassify.storage.cache.folder import kept_folder
from dinoclassify.storage.cache.manifest import sha256
from dinoclassify.types.preprocessing import OpaqueProcessor, Preprocessing
from dinoclassify.version import __version__

if TYPE_CHECKING:  # torch takes a second to import, and a converted model runs without it
    from torch import nn

    from dinoclassify.models.dinov2 import Dinov2
    from dinoclassify.models.efficientnet_lite import EfficientNetLite


def open_model(name: str, *, revision: str | None = None, offline: bool = False) -> ImageClassifier:
    """Find a classifier and read everything but its weights.

    ``name``: see `models.names.resolve`. ``revision`` is a commit, tag or branch of a hub model, by default ``main``;
    with another model it is a UsageError. Unless ``offline``, the network is used for files that are not in the cache.
    Raises ModelError if there is no such model, or it cannot be used.
    """
    place = _find(name, revision, offline=offline)
    settings = _read_settings(place, labelled=True)
    return ImageClassifier(
        name=place.name,
        revision=place.revision,
        preprocessing=settings.preprocessing,
        load=partial(_load_classifier, place),
        digest=partial(_digest, place),
        labels=settings.labels,
        multi_label=settings.multi_label,
    )


def open_encoder(name: str, *, revision: str | None = None, offline: bool = False) -> ImageEncoder:
    """Find a classifier or a bare backbone, for the features that its head takes. Otherwise as `open_model`."""
    place = _find(name, revision, offline=offline)
    preprocessing = _read_settings(place, labelled=False).preprocessing
    return ImageEncoder(
        name=place.name,
        revision=place.revision,
        preprocessing=preprocessing,
        load=partial(_load_encoder, place, preprocessing),
        load_with_head=partial(_load_with_head, place, preprocessing),
        folder=place.folder,
        digest=partial(_features_digest, place),
    )


@dataclass(frozen=True, slots=True)
class _Place:
    """The name of a model, and its folder; None for the built-in one."""

    name: str
    revision: str | None
    folder: str | None


@dataclass(frozen=True, slots=True)
class _Settings:
    """The settings of a checkpoint; without labels for an encoder."""

    labels: tuple[str, ...]
    multi_label: bool
    preprocessing: Preprocessing | OpaqueProcessor


def _find(name: str, revision: str | None, *, offline: bool) -> _Place:
    model = resolve(name)
    folder = model.name
    if model.kind == "hub":
        from dinoclassify.models.hub import snapshot

        folder = snapshot(model.name, revision, offline=offline)
        revision = os.path.basename(folder)
    elif revision is not None:
        raise UsageError(f"--revision goes with models of the hub; {name} is not one")
    elif model.kind == "builtin":
        return _Place(BUILTIN, builtin.SHA256, None)
    if not os.path.isdir(folder):
        raise ModelError(f"there is no folder {folder}: check its name")
    if flaw := find_flaw(folder):
        raise ModelError(f"{model.name} {flaw}")
    return _Place(model.name, revision, folder)


def _read_settings(place: _Place, *, labelled: bool) -> _Settings:
    if place.folder is None:
        return _Settings(imagenet_labels(), False, builtin.PREPROCESSING)
    folder, name = place.folder, place.name
    stamp = {"dinoclassify": __version__, "transformers": version("transformers")}
    kind = "settings" if labelled else "encoder"

    def make(kept: Path) -> None:
        (kept / "settings.json").write_text(json.dumps(_settings_of(folder, name, labelled=labelled)), encoding="utf-8")

    try:
        kept = kept_folder(f"{kind}-{sha256(settings_files(folder))[:32]}", stamp, make)
        settings = json.loads((kept / "settings.json").read_text(encoding="utf-8"))
    except OSError:  # there is no folder to keep them in
        settings = _settings_of(folder, name, labelled=labelled)
    preprocessing: Preprocessing | OpaqueProcessor
    if settings["preprocessing"] is None:  # the processor runs itself
        from dinoclassify.models.checkpoint import read_preprocessing

        preprocessing = read_preprocessing(folder, name)
    else:
        preprocessing = Preprocessing.from_json(settings["preprocessing"])
    return _Settings(tuple(settings["labels"]), settings["multi_label"], preprocessing)


def _settings_of(folder: str, name: str, *, labelled: bool) -> dict[str, Any]:
    """The settings that transformers reads from a checkpoint, as JSON."""
    from dinoclassify.models.checkpoint import check_family, read_labels, read_preprocessing

    check_family(folder, name)
    labels, multi_label = read_labels(folder, name) if labelled else ((), False)
    preprocessing = read_preprocessing(folder, name)
    plain = asdict(preprocessing) if isinstance(preprocessing, Preprocessing) else None
    return {"labels": labels, "multi_label": multi_label, "preprocessing": plain}


def _digest(place: _Place) -> str:
    if place.folder is None:
        return builtin.SHA256
    return known_sha256([*settings_files(place.folder), *weights_files(place.folder)])


def _features_digest(place: _Place) -> str:
    return hashlib.sha256(f"features of {_digest(place)}".encode()).hexdigest()


def _load_plain(place: _Place) -> "Dinov2 | EfficientNetLite | None":
    """The model in plain torch, if it is of a family that is written so."""
    if place.folder is None:
        from dinoclassify.models.builtin_weights import load

        return load()
    from dinoclassify.models.plain import load_plain

    return load_plain(place.folder)


def _load_classifier(place: _Place) -> "nn.Module":
    if (plain := _load_plain(place)) is not None:
        return plain
    from dinoclassify.models.checkpoint import load_weights

    return load_weights(cast(str, place.folder), place.name)  # the built-in model is plain


def _load_encoder(place: _Place, preprocessing: Preprocessing | OpaqueProcessor) -> "nn.Module":
    from dinoclassify.models.head import without_head

    if (plain := _load_plain(place)) is not None:
        return without_head(plain, plain.head)
    return without_head(*_load_with_head(place, preprocessing))


def _load_with_head(place: _Place, preprocessing: Preprocessing | OpaqueProcessor) -> "tuple[nn.Module, str]":
    """A classifier of transformers, which can be saved, trained or not; and the name of its head."""
    size = preprocessing.output_size or (224, 224)
    if place.folder is None:
        from dinoclassify.models.builtin_weights import load_transformers
        from dinoclassify.models.head import find_head

        module = load_transformers()
        return module, find_head(module, BUILTIN, size)
    from dinoclassify.models.checkpoint import load_encoder

    return load_encoder(place.folder, place.name, size)
