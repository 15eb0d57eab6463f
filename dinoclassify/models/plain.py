"""A folder with a checkpoint of a family that is written here in plain torch -> its module, without transformers.

The module is built only where it is sure to be the same model: each setting is known, and the names and shapes of the
weights are exactly those of the module. For all others there is `models.checkpoint`, which also words what is wrong.
"""

import json
import os
from contextlib import ExitStack

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dinoclassify.models.dinov2 import Dinov2, Dinov2Config

_FLOATS = (torch.float32, torch.float16, torch.bfloat16)


def load_plain(folder: str) -> Dinov2 | None:
    """The model, in float32, in eval mode and on the CPU; None if only transformers knows how to load it."""
    if os.path.exists(os.path.join(folder, "adapter_config.json")):
        return None  # transformers would add the adapter's weights
    try:
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            config = Dinov2Config.from_json(json.load(file))
        if config is None:
            return None
        with torch.device("meta"):  # the weights are not initialised: the checkpoint's take their place
            module = Dinov2(config)
        weights = _read_weights(folder)
        expected = {name: value.shape for name, value in module.state_dict().items()}
        if weights is None or {name: value.shape for name, value in weights.items()} != expected:
            return None
    except (OSError, ValueError, RuntimeError, SafetensorError):
        return None
    module.load_state_dict(weights, assign=True)
    return module.eval()


def _read_weights(folder: str) -> dict[str, Tensor] | None:
    """The weights, in float32, mapped from their files where they are in float32 there; None if they are special."""
    files = ["model.safetensors"]
    if not os.path.exists(os.path.join(folder, files[0])):
        with open(os.path.join(folder, "model.safetensors.index.json"), encoding="utf-8") as index:
            files = sorted(set(json.load(index)["weight_map"].values()))
    weights: dict[str, Tensor] = {}
    with ExitStack() as opened:
        for name in files:
            file = opened.enter_context(safe_open(os.path.join(folder, name), framework="pt"))
            if (file.metadata() or {}).get("format") != "pt":
                return None
            weights |= {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no dict
    if any(value.dtype not in _FLOATS for value in weights.values()):
        return None
    return {name: value.float() for name, value in weights.items()}
