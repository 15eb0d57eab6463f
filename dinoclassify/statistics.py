"""How sure a measured share is."""

from math import sqrt

_Z = 1.959964  # 95 % of a normal distribution lie as many standard deviations around its mean


def wilson(right: int, total: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share, after Wilson (1927); all of 0 to 1 where nothing was counted."""
    if total == 0:
        return 0.0, 1.0
    share, spread = right / total, _Z * _Z / total
    centre = (share + spread / 2) / (1 + spread)
    half = _Z * sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)
