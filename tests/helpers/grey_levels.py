"""A runtime without a network, whose label of an image is its first grey: it shows whether images are mixed up."""

import torch
from torch import Tensor

from dinoclassify.runtimes.base import PendingOutput
from dinoclassify.types.compute import Precision
from dinoclassify.types.preprocessing import Preprocessing

TINY = Preprocessing(resize=(8, 8), crop=None, resample=0, mean=(0.0,) * 3, std=(1.0,) * 3)
LABELS = [f"level {level}" for level in range(256)]


class Levels:
    """Scores 0.7 for the class of the first grey; NaN for all classes if that is 255."""

    name, device, batch_size, outputs = "levels", "cpu", 4, 256
    precision: Precision = "fp32"

    def __init__(self, ahead: int = 0) -> None:
        self.ahead = ahead
        self.under_way = self.most_under_way = 0

    def __call__(self, pixels: Tensor) -> PendingOutput:
        self.under_way += 1
        self.most_under_way = max(self.under_way, self.most_under_way)

        def answer() -> Tensor:
            self.under_way -= 1
            scores = torch.full((len(pixels), 256), 0.001)
            scores[torch.arange(len(pixels)), pixels[:, 0, 0, 0].long()] = 0.7
            scores[pixels[:, 0, 0, 0] == 255] = torch.nan
            return scores

        return answer


level_of = Levels()
