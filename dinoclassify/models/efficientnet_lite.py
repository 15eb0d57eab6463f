"""EfficientNet-Lite0 in plain torch: what transformers' EfficientNet computes with these weights, without its import.

The Lite variant is an EfficientNet without squeeze-and-excite blocks. The names of the parameters are those in the
weights of `models.builtin`.
"""

from typing import ClassVar, cast

from torch import Tensor, nn
from torch.nn import functional

from dinoclassify.models.dinov2 import Output

_STEM, _TOP, _CLASSES = 32, 1280, 1000
_EPS = 1e-3
_STAGES = [  # channels, blocks, factor of expansion, size of the kernel, stride of the first block
    (16, 1, 1, 3, 1),
    (24, 2, 6, 3, 2),
    (40, 2, 6, 5, 2),
    (80, 3, 6, 3, 2),
    (112, 3, 6, 5, 1),
    (192, 4, 6, 5, 2),
    (320, 1, 6, 3, 1),
]


class EfficientNetLite(nn.Module):
    """A classifier: pixels, B x 3 x H x W -> logits."""

    head: ClassVar[str] = "_fc"

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = nn.Conv2d(3, _STEM, 3, stride=2, bias=False)
        self._bn0 = nn.BatchNorm2d(_STEM, eps=_EPS)
        self._blocks = nn.ModuleList()
        channels = _STEM
        for out, blocks, factor, kernel, stride in _STAGES:
            for index in range(blocks):
                self._blocks.append(_Block(channels, out, factor, kernel, stride if index == 0 else 1))
                channels = out
        self._conv_head = nn.Conv2d(channels, _TOP, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(_TOP, eps=_EPS)
        self._pool = nn.AvgPool2d(
            _TOP, ceil_mode=True
        )  # larger than the image, as transformers has it: a mean rounds otherwise
        self._fc = nn.Linear(_TOP, _CLASSES)

    def forward(self, pixel_values: Tensor) -> Output:
        """Compute the logits."""
        values = functional.relu6(self._bn0(self._conv_stem(_pad(pixel_values, 3))))
        for block in self._blocks:
            values = block(values)
        values = functional.relu6(self._bn1(self._conv_head(values)))
        return Output(self._fc(self._pool(values).flatten(1)))


class _Block(nn.Module):
    def __init__(self, channels: int, out: int, factor: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = channels * factor
        if factor > 1:
            self._expand_conv: nn.Conv2d | None = nn.Conv2d(channels, wide, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(wide, eps=_EPS)
        else:
            self._expand_conv = None
        self.kernel, self.stride, self.adds = kernel, stride, stride == 1 and channels == out
        padding = kernel // 2 if stride == 1 else 0
        self._depthwise_conv = nn.Conv2d(wide, wide, kernel, stride, padding, groups=wide, bias=False)
        self._bn1 = nn.BatchNorm2d(wide, eps=_EPS)
        self._project_conv = nn.Conv2d(wide, out, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(out, eps=_EPS)

    def forward(self, features: Tensor) -> Tensor:
        """Compute the features after this block."""
        values = features
        if self._expand_conv is not None:
            values = functional.relu6(self._bn0(self._expand_conv(values)))
        if self.stride == 2:
            values = _pad(values, self.kernel)
        values = functional.relu6(self._bn1(self._depthwise_conv(values)))
        values = cast(Tensor, self._bn2(self._project_conv(values)))
        return values + features if self.adds else values


def _pad(values: Tensor, kernel: int) -> Tensor:
    """Pad with zeros for a stride of 2, on the right and below by one more, as TensorFlow does for even sizes."""
    before, after = kernel // 2 - 1, kernel // 2
    return functional.pad(values, (before, after, before, after))
