"""The head of a classifier: the linear layer that turns features into logits, found, removed or replaced.

Model families name the head differently and some wrap it, so it is found by its behaviour: it is called once, with one
row of numbers for each image, and its output is the logits.
"""

from typing import cast

import torch
from torch import Tensor, nn

from dinoclassify.errors import ModelError
from dinoclassify.types.preprocessing import Size


def find_head(module: nn.Module, name: str, size: Size) -> str:
    """The name of the head of a classifier (on the CPU, in eval mode); its images have this size, height and width.

    Raises ModelError if its logits do not come from one linear layer; ``name`` is what the model is called there.
    """
    calls: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def watch(layer_name: str, layer: nn.Linear) -> torch.utils.hooks.RemovableHandle:
        calls[layer_name] = []
        return layer.register_forward_hook(lambda _, inputs, output: calls[layer_name].append((inputs[0], output)))

    hooks = [watch(layer_name, layer) for layer_name, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    try:
        with torch.inference_mode():
            logits = module(pixel_values=torch.zeros(1, 3, *size)).logits
    finally:
        for hook in hooks:
            hook.remove()
    for layer_name, ((features, output), *more) in reversed([call for call in calls.items() if call[1]]):
        if output is logits and features.ndim == 2 and not more:
            return layer_name
    raise ModelError(f"{name} does not end in one linear layer, which embed and train need: choose another --model")


def without_head(module: nn.Module, head: str) -> nn.Module:
    """The same module, whose ``logits`` are now the features that its head would get, B x features."""
    module.set_submodule(head, nn.Identity())
    return module


def with_head(module: nn.Module, head: str, weight: Tensor, bias: Tensor) -> nn.Module:
    """The same module with another head: ``weight`` is classes x features, ``bias`` classes, both float32."""
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": weight, "bias": bias})
    module.set_submodule(head, layer)
    return module


def head_of(module: nn.Module, head: str) -> nn.Linear:
    """The head, by its name."""
    return cast(nn.Linear, module.get_submodule(head))
