"""A tiny network whose answers are known, for the PyTorch runtime."""

import copy
from types import SimpleNamespace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from dinoclassify.decoding.batch import Pixels
from dinoclassify.models.image_model import ImageClassifier
from dinoclassify.runtimes.base import Outputs
from dinoclassify.runtimes.pytorch import TorchRuntime
from dinoclassify.types.compute import Precision
from dinoclassify.types.preprocessing import Preprocessing

CPU = torch.device("cpu")


LABELS: tuple[str, ...] = ("a", "b", "c", "d")


MEAN, STD = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)


class Toy(nn.Module):
    """Channel means, through one matrix: 3 -> 4 classes. Fails as memory does beyond ``most`` images."""

    def __init__(self, most: int = 1000, weight: float = 1.0) -> None:
        super().__init__()
        self.head = nn.Linear(3, 4)
        torch.nn.init.normal_(self.head.weight, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            self.head.weight[0] *= weight
        self.most = most
        self.sizes: list[int] = []

    def forward(self, pixel_values: Tensor) -> SimpleNamespace:
        self.sizes.append(len(pixel_values))
        if len(pixel_values) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return SimpleNamespace(logits=self.head(pixel_values.mean(dim=(2, 3))))


def runtime(
    module: Toy, precision: Precision | Literal["auto"] = "fp32", *, multi_label: bool = False, compiled: bool = False
) -> TorchRuntime:
    def load() -> nn.Module:
        fresh = copy.deepcopy(module)
        fresh.sizes = module.sizes
        return fresh

    preprocessing = Preprocessing(resize=(8, 8), crop=None, resample=3, mean=MEAN, std=STD)
    classifier = ImageClassifier(
        name="toy",
        revision=None,
        labels=LABELS,
        multi_label=multi_label,
        preprocessing=preprocessing,
        load=load,
        digest=lambda: "toy",
    )
    return TorchRuntime(classifier, CPU, precision, compiled=compiled)


def bright(count: int, *numbers: int) -> Pixels:
    """Some random_pixels, of which those with these numbers are white; all of them if no number is given."""
    pixels = random_pixels(count)
    pixels[list(numbers) or slice(None)] = 255
    return pixels


def random_pixels(count: int) -> Pixels:
    return np.random.default_rng(1).integers(0, 256, (count, 3, 8, 8), np.uint8)


def in_batches(pixels: Pixels, size: int) -> list[Pixels]:
    return [pixels[start : start + size] for start in range(0, len(pixels), size)]


def expected(module: Toy, pixels: Pixels) -> Outputs:
    values = (torch.from_numpy(pixels).float() - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    logits = nn.functional.linear(values.mean(dim=(2, 3)), module.head.weight, module.head.bias)
    probabilities: Outputs = logits.softmax(dim=1).detach().numpy()
    return probabilities
