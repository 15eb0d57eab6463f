"""Images for networks of tests."""

import torch

from dinoclassify.decoding.batch import Pixels
from dinoclassify.models.image_model import ImageClassifier


def random_images(classifier: ImageClassifier, count: int) -> Pixels:
    size = classifier.preprocessing.output_size
    assert size is not None
    shades = torch.randint(0, 200, (count, 3, 1, 1), generator=torch.Generator().manual_seed(2))
    noise = torch.randint(0, 56, (count, 3, *size), generator=torch.Generator().manual_seed(1))
    pixels: Pixels = (shades + noise).to(torch.uint8).numpy()
    return pixels
