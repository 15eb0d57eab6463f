"""The head of a classifier: the one linear layer that makes logits of features, taken off or put on.

Families name it differently and some wrap it, so it is found by what it does: it is called once, with a row of numbers
an image, and what it gives are the logits.
"""

from typing import cast

import torch
from torch import Tensor, nn

from dinoclassify.errors import ModelError
from dinoclassify.types.preprocessing import Size


def find_head(module: nn.Module, name: str, size: Size) -> str:
    """The name of the head within a classifier of transformers.

    Args:
        module: the classifier, on the CPU and in eval mode.
        name: what the model is called in messages.
        size: height and width of images that it takes.

    Raises:
        ModelError: its logits are not what one linear layer gives.
    """
    calls: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def watch(layer_name: str, layer: nn.Linear) -> torch.utils.hooks.RemovableHandle:
        calls[layer_name] = []
        return layer.register_forward_hook(lambda _, taken, given: calls[layer_name].append((taken[0], given)))

    hooks = [watch(*named) for named in module.named_modules() if isinstance(named[1], nn.Linear)]
    try:
        with torch.inference_mode():
            logits = module(pixel_values=torch.zeros(1, 3, *size)).logits
    finally:
        for hook in hooks:
            hook.remove()
    for layer_name, ((taken, given), *more) in reversed([call for call in calls.items() if call[1]]):
        if given is logits and taken.ndim == 2 and not more:
            return layer_name
    raise ModelError(f"{name} has no head of one linear layer: embed and train go with models that have")


def without_head(module: nn.Module, head: str) -> nn.Module:
    """The same module; its ``logits`` are now the features that its head would get, B x features."""
    module.set_submodule(head, nn.Identity())
    return module


def with_head(module: nn.Module, head: str, weight: Tensor, bias: Tensor) -> nn.Module:
    """The same module with another head: ``weight`` is classes x features, ``bias`` classes, both float32."""
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": weight, "bias": bias})
    module.set_submodule(head, layer)
    return module


def head_of(module: nn.Module, head: str) -> nn.Linear:
    """The head itself."""
    return cast(nn.Linear, module.get_submodule(head))
