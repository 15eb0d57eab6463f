"""What a checkpoint does to an image before the model sees it, as plain numbers, and the geometry of it.

Most image processors resize, crop and normalise: that is a `Preprocessing`, which decode follows in uint8 and the
runtime finishes with one subtraction and one division on the model's device. One that does anything else stays what
it is: `OpaqueProcessor`, run by the workers.
"""

from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

Size = tuple[int, int]  # (height, width) in pixels
PerChannel = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Window:
    """Where the model's input lies: in the image resized to ``resized``, the box of ``size`` at (top, left).

    The box may stick out of the resized image; what lies outside is black.
    """

    resized: Size
    top: int
    left: int
    size: Size

    @property
    def inside(self) -> bool:
        """Whether the whole box lies in the image, so that resize and crop can be one step."""
        height, width = self.resized
        return min(self.top, self.left) >= 0 and self.top + self.size[0] <= height and self.left + self.size[1] <= width


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Resize, centre crop, normalise: ``value = (pixel - mean) / std`` with pixels from 0 to 255.

    ``resize`` is a size, or the length that the shorter side gets, or None. ``resample`` is Pillow's number of the
    filter. ``on_white``: a colour that is marked as transparent becomes white, in the exact way too.
    """

    resize: Size | int | None
    crop: Size | None
    resample: int
    mean: PerChannel
    std: PerChannel
    on_white: bool = False

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """What `dataclasses.asdict` and JSON have made lists of, as it was."""
        lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        return cls(**(fields | lists))

    @property
    def output_size(self) -> Size | None:
        """The size that every image comes out at, or None if it depends on the image."""
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
        return Window(resized, *_centred(resized, size), size)


class ImageProcessor(Protocol):
    """The part of a transformers image processor that `OpaqueProcessor` calls."""

    def __call__(self, images: object, *, return_tensors: str) -> Any:  # a transformers BatchFeature
        """Preprocess one image."""


@dataclass(frozen=True, slots=True)
class OpaqueProcessor:
    """An image processor that is more than resize, crop and normalise: the workers run it, its floats are final."""

    processor: ImageProcessor
    output_size: Size | None
    mean: PerChannel = (0.0, 0.0, 0.0)
    std: PerChannel = (1.0, 1.0, 1.0)

    def __call__(self, image: object) -> npt.NDArray[np.float32]:
        """Run the processor on one upright RGB image (of Pillow's); gives 3 x H x W."""
        pixels: npt.NDArray[np.float32] = self.processor(image, return_tensors="pt")["pixel_values"][0].float().numpy()
        return pixels


def _centred(size: Size, box: Size) -> Size:
    """The top left corner of ``box`` in the middle of ``image``; negative where the box is the larger."""
    return (size[0] - box[0]) // 2, (size[1] - box[1]) // 2
