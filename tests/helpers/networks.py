"""Images for networks of tests."""

import torch
from torch import Tensor

from dinoclassify.models.image_model import ImageClassifier


def random_images(classifier: ImageClassifier, count: int) -> Tensor:
    size = classifier.preprocessing.output_size
    assert size is not None
    shades = torch.randint(0, 200, (count, 3, 1, 1), generator=torch.Generator().manual_seed(2))
    noise = torch.randint(0, 56, (count, 3, *size), generator=torch.Generator().manual_seed(1))
    return (shades + noise).to(torch.uint8)
