"""A measured share and its confidence interval."""

import math
from dataclasses import dataclass
from math import sqrt

Interval = tuple[float, float]  # 95 %

_Z = 1.959964  # standard deviations around the mean of a normal distribution that hold 95 % of it


def wilson(right: float, total: float) -> Interval:
    """The 95 % confidence interval of a share, after Wilson (1927); 0 to 1 if ``total`` is 0.

    Of a share whose variance is that of fewer independent trials, ``total`` is their number, which may be a fraction.
    """
    if total == 0:
        return 0.0, 1.0
    share, spread = right / total, _Z * _Z / total
    centre = (share + spread / 2) / (1 + spread)
    half = _Z * sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True, slots=True)
class Share:
    """``right`` of ``total``, with the 95 % confidence interval after Wilson."""

    right: int
    total: int

    @property
    def value(self) -> float:
        """The share itself; NaN if ``total`` is 0."""
        return self.right / self.total if self.total else math.nan

    @property
    def interval(self) -> Interval:
        """The range that has, with 95 % confidence, the share among many more images."""
        return wilson(self.right, self.total)
