"""Images of three colours, which a tiny model can learn to tell apart."""

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"blue": (30, 40, 200), "green": (20, 190, 60), "red": (210, 30, 40)}


def paint(path: Path, colour: tuple[int, int, int], number: int) -> None:
    """An image of about that colour, each another."""
    noise = np.random.default_rng(number).integers(-30, 31, (60, 80, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(path)
