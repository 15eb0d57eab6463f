"""Generated images and checkpoints, for measurements without photographs and downloads."""

import os
import shutil
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import (
    AutoConfig,
    AutoModelForImageClassification,
    BitImageProcessorPil,
    Dinov2Config,
    Dinov2WithRegistersConfig,
)

from dinoclassify.errors import ModelError, UsageError
from dinoclassify.labels.imagenet import imagenet_labels
from dinoclassify.models.checkpoint import read_labels, silenced
from dinoclassify.models.names import KNOWN, find_flaw, resolve, settings_files

# Width, layers and heads of each ViT size, from the config.json of the checkpoints.
_SIZES = {"small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16), "giant": (1536, 40, 24)}


def save_random(name: str, folder: str) -> None:
    """Save a checkpoint with the architecture of ``name`` and random weights, the same every time, to ``folder``.

    Raises:
        UsageError: the architecture is unknown: ``name`` is neither a known size nor a folder.
        ModelError: the folder has no usable config.json.
    """
    model = resolve(name)
    os.makedirs(folder, exist_ok=True)
    torch.manual_seed(0)
    with silenced():
        if name in KNOWN:
            config = _dinov2(name)
            BitImageProcessorPil(
                size={"shortest_edge": 256}, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]
            ).save_pretrained(folder)
        elif model.kind == "folder":
            if flaw := find_flaw(model.name, weights=False):
                raise ModelError(f"{model.name} {flaw}")
            for path in settings_files(model.name):
                shutil.copy(path, folder)
            read_labels(folder, name)  # raises ModelError unless it is a classifier
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        else:
            raise UsageError(f"--random-weights goes with {', '.join(KNOWN)} or a folder; {name} is neither")
        AutoModelForImageClassification.from_config(config).save_pretrained(folder)


def make_images(folder: str, count: int, megapixels: float) -> list[str]:
    """Write JPEGs of smooth shapes with noise, about as slow to decode as photographs; return their paths."""
    width = round((megapixels * 1e6 * 4 / 3) ** 0.5)
    height = round(width * 3 / 4)
    random = np.random.default_rng(0)
    paths = []
    for number in range(count):
        shapes = Image.fromarray(random.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((width, height), 3)
        noise = random.integers(-12, 13, (height, width, 1))
        pixels = (np.asarray(shapes, dtype=np.int16) + noise).clip(0, 255).astype(np.uint8)
        paths.append(os.path.join(folder, f"{number:04}.jpg"))
        Image.fromarray(pixels).save(paths[-1], quality=90)
    return paths


def _dinov2(name: str) -> Any:  # an instance of one of two config classes
    size, _, registers = name.partition("-")
    width, layers, heads = _SIZES[size]
    labels = imagenet_labels()
    config_class = Dinov2WithRegistersConfig if registers else Dinov2Config
    return config_class(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        image_size=518,
        patch_size=14,
        use_swiglu_ffn=size == "giant",
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
    )
