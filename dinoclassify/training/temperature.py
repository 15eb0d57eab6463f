"""Held-out logits -> the temperature at which their softmax says how often they are right.

After Guo et al., "On Calibration of Modern Neural Networks" (2017), with the targets of Platt (1999).
"""

import numpy as np
import numpy.typing as npt

from dinoclassify.training.extra import needs_train_extra

with needs_train_extra():
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

Numbers = npt.NDArray[np.float64]

_WIDEST = 3.0  # of the logarithm: temperatures from 0.05 to 20


def fit_temperature(logits: Numbers, classes: npt.NDArray[np.intp], images: int) -> float:
    """The temperature with the least log loss; dividing the logits by it changes no label.

    ``logits`` is rows x classes, -inf where a class was unknown; ``classes`` has the true class of each row, which was
    known. All rows weigh the same, also where classes are balanced: scores should be true of images like these. The
    target of a true class is (n + 1) / (n + 2) for n ``images`` rather than 1: a few images that are all right do not
    prove that all are.
    """
    rows = np.arange(len(classes))
    true = logits[rows, classes]
    others = logits.copy()
    others[rows, classes] = -np.inf
    target = (images + 1) / (images + 2)

    def loss(log_temperature: float) -> float:
        temperature = np.exp(log_temperature)
        margin = true / temperature - logsumexp(others / temperature, axis=1)
        return float(np.mean(target * np.logaddexp(0, -margin) + (1 - target) * np.logaddexp(0, margin)))

    return float(np.exp(minimize_scalar(loss, bounds=(-_WIDEST, _WIDEST), method="bounded").x))
