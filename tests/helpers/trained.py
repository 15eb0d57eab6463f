"""What is in the folder of a model that `train` wrote, and what transformers makes of it."""

from pathlib import Path

import torch
import transformers as hf


def weights(folder: str) -> bytes:
    return Path(folder, "model.safetensors").read_bytes()


def as_pipeline(folder: str, paths: list[str]) -> list[dict[str, float]]:
    """What transformers' pipeline makes of images: label -> score."""
    pipe = hf.pipeline("image-classification", model=folder, device="cpu", dtype=torch.float32)
    return [{one["label"]: one["score"] for one in answer} for answer in pipe(paths, top_k=None)]
