"""Tiny checkpoints with seeded random weights, one for each family, as `save_pretrained` writes them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from safetensors.torch import load_file, save_file

CLASSES = 7
LABELS = ["tench, Tinca tinca", "goldfish", "white shark", "tiger shark", "hammerhead", "electric ray", "stingray"]

_LAYERS: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
_PATCHES: dict[str, Any] = {"image_size": 56, "patch_size": 14}


def _dinov2() -> Any:
    config = hf.Dinov2Config(**_LAYERS, **_PATCHES, **_labels())
    return hf.Dinov2ForImageClassification(config), hf.BitImageProcessorPil(size={"shortest_edge": 64}, crop_size=56)


def _dinov2_with_registers() -> Any:
    config = hf.Dinov2WithRegistersConfig(**_LAYERS, **_PATCHES, **_labels())
    processor = hf.BitImageProcessorPil(
        size={"shortest_edge": 64}, crop_size=56, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]
    )
    return hf.Dinov2WithRegistersForImageClassification(config), processor


def _vit() -> Any:
    config = hf.ViTConfig(**_LAYERS, **_PATCHES, **_labels())
    return hf.ViTForImageClassification(config), hf.ViTImageProcessorPil(size={"height": 56, "width": 56})


def _swin() -> Any:
    config = hf.SwinConfig(image_size=64, patch_size=4, embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4)
    config.update(_labels())
    return hf.SwinForImageClassification(config), hf.ViTImageProcessorPil(size={"height": 64, "width": 64}, resample=3)


def _convnext() -> Any:
    config = hf.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, **_labels())
    return hf.ConvNextForImageClassification(config), hf.ConvNextImageProcessorPil(size={"shortest_edge": 64})


def _convnext_384() -> Any:
    model, _ = _convnext()
    return model, hf.ConvNextImageProcessorPil(size={"shortest_edge": 384})


def _efficientnet() -> Any:
    config = hf.EfficientNetConfig(width_coefficient=0.1, depth_coefficient=0.1, image_size=64, hidden_dim=128)
    config.update(_labels())
    processor = hf.EfficientNetImageProcessorPil(size={"height": 64, "width": 64}, rescale_offset=True)
    return hf.EfficientNetForImageClassification(config), processor


def _siglip() -> Any:
    config = hf.SiglipConfig(vision_config={**_LAYERS, **_PATCHES}, text_config=_LAYERS)
    config.update(_labels())
    return hf.SiglipForImageClassification(config), hf.SiglipImageProcessorPil(size={"height": 56, "width": 56})


def _clip() -> Any:
    config = hf.CLIPConfig(vision_config={**_LAYERS, **_PATCHES}, text_config=_LAYERS)
    config.update(_labels())
    return hf.CLIPForImageClassification(config), hf.CLIPImageProcessorPil(size={"shortest_edge": 56}, crop_size=56)


def _mobilevit() -> Any:
    """Its processor swaps red and blue, which no setting of `Preprocessing` says."""
    config = hf.MobileViTConfig(
        image_size=64, hidden_sizes=[16, 16, 16], neck_hidden_sizes=[8, 8, 8, 8, 16, 16, 16], num_attention_heads=2
    )
    config.update(_labels())
    processor = hf.MobileViTImageProcessorPil(
        size={"shortest_edge": 72}, crop_size={"height": 64, "width": 64}, do_flip_channel_order=True
    )
    return hf.MobileViTForImageClassification(config), processor


FAMILIES: dict[str, Callable[[], Any]] = {
    "dinov2": _dinov2,
    "dinov2_with_registers": _dinov2_with_registers,
    "vit": _vit,
    "swin": _swin,
    "convnext": _convnext,
    "convnext_384": _convnext_384,
    "efficientnet": _efficientnet,
    "siglip": _siglip,
    "clip": _clip,
    "mobilevit": _mobilevit,
}


def save_checkpoint(family: str, folder: Path) -> Path:
    """Save a checkpoint of ``family`` to ``folder``, and give it back."""
    torch.manual_seed(0)
    model, processor = FAMILIES[family]()
    _spread(model)
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def save_dinov2_small(folder: Path) -> None:
    """Save a checkpoint of the size of the default model, with seeded random weights."""
    torch.manual_seed(0)
    config = hf.Dinov2Config(
        hidden_size=384, num_attention_heads=6, image_size=518, patch_size=14, layerscale_value=0.5
    )
    config.num_labels = 1000
    model = hf.Dinov2ForImageClassification(config).eval()
    torch.nn.init.normal_(model.classifier.weight, std=0.1)
    model.save_pretrained(folder)
    hf.BitImageProcessorPil(
        size={"shortest_edge": 256}, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]
    ).save_pretrained(folder)


def save_multi_label(source: str, folder: Path, *, shift: float = 0.0) -> str:
    """Save a copy of a checkpoint of DINOv2 as a multi-label model, with ``shift`` added to each logit."""
    shutil.copytree(source, folder)
    edit_json(folder / "config.json", problem_type="multi_label_classification")
    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"] += shift
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return str(folder)


def edit_json(path: Path, **changes: object) -> None:
    """Set keys of a JSON file; None removes one."""
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def _labels() -> dict[str, Any]:
    return {"id2label": dict(enumerate(LABELS)), "label2id": {label: index for index, label in enumerate(LABELS)}}


def _spread(model: torch.nn.Module) -> None:
    """Make the model tell images apart: with fresh weights it answers nearly the same to everything."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.xavier_normal_(parameter, gain=2)
    for norm in model.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.momentum = 1.0
    vision = getattr(model.config, "vision_config", model.config)
    size = getattr(vision, "image_size", 64)
    noise = torch.randn(16, 3, 1, 1) + torch.randn(16, 3, size, size)
    with torch.no_grad():
        model.train()(pixel_values=noise)  # sets the statistics of batch normalisation
        spread = model.eval()(pixel_values=noise).logits.std(dim=0).mean()
        head = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)][-1]
        head.weight.mul_(1 / spread)
