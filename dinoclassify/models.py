"""A model's name -> an `ImageClassifier`, or an `ImageEncoder` that stops short of its head.

What transformers makes of a checkpoint's settings is kept, so that a model that was used before opens without
transformers, whose import takes longer than a picture does. A model in the hub's cache starts without the network, and
nothing here ever asks a question.
"""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

from torch import Tensor, nn

import dinoclassify
from dinoclassify import builtin
from dinoclassify.cache import kept_folder, sha256
from dinoclassify.catalogue import BUILTIN, find_flaw, resolve, settings_files, weights_files
from dinoclassify.errors import ModelError, UsageError
from dinoclassify.preprocessing import AsIs, Preprocessing


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageModel:
    """A model that turns pictures into rows of numbers.

    ``revision`` is the commit of a hub model, the sha256 of the built-in one, None for a folder. ``load`` reads the
    weights: a module in float32, in eval mode, on the CPU, that takes ``pixel_values`` (B x 3 x H x W) and gives
    ``logits`` (B x outputs). ``digest`` is one of all that ``load`` reads.
    """

    name: str
    revision: str | None
    preprocessing: Preprocessing | AsIs
    load: Callable[[], nn.Module]
    digest: Callable[[], str]

    def answer(self, logits: Tensor) -> Tensor:
        """What the logits (float32, B x outputs) say."""
        return logits


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageEncoder(ImageModel):
    """A model whose outputs are features: what the linear head of a classifier takes, the head itself left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageClassifier(ImageModel):
    """A model that names what it sees, with a probability for each class.

    ``labels`` has one name a class. ``multi_label``: each class is a question of its own, answered by a sigmoid.
    """

    labels: tuple[str, ...]
    multi_label: bool

    def answer(self, logits: Tensor) -> Tensor:
        """The logits as probabilities."""
        return logits.sigmoid() if self.multi_label else logits.softmax(dim=1)


def open_model(name: str, *, revision: str | None = None, offline: bool = False) -> ImageClassifier:
    """Find a model and read all of it but its weights.

    Args:
        name: see `dinoclassify.catalogue.resolve`.
        revision: a commit, tag or branch of a hub model; ``main`` if not given.
        offline: never ask the network. Without it the network is asked for what is not in the cache.

    Raises:
        UsageError: ``name`` is not a name, or ``revision`` is given for a model that has none.
        ModelError: there is no such model, or it is not one that can be used.
    """
    model = resolve(name)
    if model.kind == "hub":
        from dinoclassify.hub import snapshot

        folder = snapshot(model.name, revision, offline=offline)
        return _open_folder(folder, model.name, revision=os.path.basename(folder))
    if revision is not None:
        raise UsageError(f"--revision goes with models of the hub; {name} is not one")
    if model.kind == "folder":
        return _open_folder(model.name, model.name, revision=None)
    return ImageClassifier(
        name=BUILTIN,
        revision=builtin.SHA256,
        labels=builtin.imagenet_labels(),
        multi_label=False,
        preprocessing=builtin.PREPROCESSING,
        load=builtin.load,
        digest=builtin.digest,
    )


def _open_folder(folder: str, name: str, *, revision: str | None) -> ImageClassifier:
    if not os.path.isdir(folder):
        raise ModelError(f"there is no folder {folder}")
    if flaw := find_flaw(folder):
        raise ModelError(f"{name} {flaw}")
    labels, multi_label, preprocessing = _read_settings(folder, name)
    return ImageClassifier(
        name=name,
        revision=revision,
        labels=labels,
        multi_label=multi_label,
        preprocessing=preprocessing,
        load=partial(_load_weights, folder, name),
        digest=partial(sha256, [*settings_files(folder), *weights_files(folder)]),
    )


def _read_settings(folder: str, name: str) -> tuple[tuple[str, ...], bool, Preprocessing | AsIs]:
    """The labels, whether there may be several a picture, and the preprocessing."""

    def make(kept: Path) -> None:
        from dinoclassify.checkpoints import read_labels, read_preprocessing

        labels, multi_label = read_labels(folder, name)
        preprocessing = read_preprocessing(folder, name)
        plain = asdict(preprocessing) if isinstance(preprocessing, Preprocessing) else None
        settings = {"labels": labels, "multi_label": multi_label, "preprocessing": plain}
        (kept / "settings.json").write_text(json.dumps(settings), encoding="utf-8")

    stamp = {"dinoclassify": dinoclassify.__version__, "transformers": version("transformers")}
    kept = kept_folder(f"settings-{sha256(settings_files(folder))[:32]}", stamp, make)
    settings = json.loads((kept / "settings.json").read_text(encoding="utf-8"))
    if settings["preprocessing"] is None:  # a processor that is more than numbers
        from dinoclassify.checkpoints import read_preprocessing

        return tuple(settings["labels"]), settings["multi_label"], read_preprocessing(folder, name)
    return tuple(settings["labels"]), settings["multi_label"], Preprocessing.from_json(settings["preprocessing"])


def _load_weights(folder: str, name: str) -> nn.Module:
    from dinoclassify.checkpoints import load_weights

    return load_weights(folder, name)
