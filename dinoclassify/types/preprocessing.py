"""The preprocessing of a checkpoint, as plain numbers, and its geometry.

Most image processors resize, crop and normalise. They become a `Preprocessing`: decoding resizes and crops in uint8,
and the runtime normalises on the model's device. Any other processor becomes an `OpaqueProcessor`, run by the workers.
"""

from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

Size = tuple[int, int]  # (height, width) in pixels
PerChannel = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Window:
    """The part of an image that the model sees: the box of ``size`` at (top, left) of the image resized to ``resized``.

    The box may extend beyond the resized image; the area outside is black.
    """

    resized: Size
    top: int
    left: int
    size: Size

    @property
    def inside(self) -> bool:
        """Whether the whole box is in the image, so that resize and crop can be one step."""
        height, width = self.resized
        return min(self.top, self.left) >= 0 and self.top + self.size[0] <= height and self.left + self.size[1] <= width


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Resize, centre crop, normalise: ``value = (pixel - mean) / std`` with pixels from 0 to 255.

    ``resize`` is a size, or the length of the shorter side, or None. ``resample`` is Pillow's number of the filter.
    ``on_white``: a transparent colour becomes white, also in exact preprocessing.
    """

    resize: Size | int | None
    crop: Size | None
    resample: int
    mean: PerChannel
    std: PerChannel
    on_white: bool = False

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """The preprocessing from the JSON of `dataclasses.asdict`, with lists turned back into tuples."""
        lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        return cls(**(fields | lists))

    @property
    def output_size(self) -> Size | None:
        """The size of every preprocessed image; None if it depends on the image."""
        return self.crop or (self.resize if isinstance(self.resize, tuple) else None)

    def window(self, height: int, width: int) -> Window:
        """The geometry for one upright image, rounded as transformers rounds it."""
        if self.resize is None:
            resized = height, width
        elif isinstance(self.resize, tuple):
            resized = self.resize
        elif width <= height:
            resized = int(self.resize * height / width), self.resize
        else:
            resized = self.resize, int(self.resize * width / height)
        size = self.crop or resized
        top, left = (resized[0] - size[0]) // 2, (resized[1] - size[1]) // 2  # negative where the box is larger
        return Window(resized, top, left, size)


class ImageProcessor(Protocol):
    """The part of a transformers image processor that `OpaqueProcessor` calls."""

    def __call__(self, images: object, *, return_tensors: str) -> Any:  # a transformers BatchFeature
        """Preprocess one image."""


@dataclass(frozen=True, slots=True)
class OpaqueProcessor:
    """An image processor that does more than resize, crop and normalise. The workers run it; its floats are final."""

    processor: ImageProcessor
    output_size: Size | None
    mean: PerChannel = (0.0, 0.0, 0.0)
    std: PerChannel = (1.0, 1.0, 1.0)

    def __call__(self, image: object) -> npt.NDArray[np.float32]:
        """The preprocessed pixels (3 x H x W, float32) of one upright RGB image of Pillow."""
        pixels: npt.NDArray[np.float32] = self.processor(image, return_tensors="pt")["pixel_values"][0].float().numpy()
        return pixels
