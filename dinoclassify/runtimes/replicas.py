"""One model on several devices."""

import itertools
from collections.abc import Sequence

from torch import Tensor

from dinoclassify.runtimes.base import PendingOutput, Runtime
from dinoclassify.types.compute import Precision


class Replicas:
    """Runtimes with the same model, which take the batches in turn: one stream in, one out."""

    def __init__(self, replicas: Sequence[Runtime]) -> None:
        self._first = replicas[0]
        self.name = self._first.name
        self.device = ",".join(replica.device for replica in replicas)
        self.outputs = self._first.outputs
        self.batch_size = self._first.batch_size
        self.ahead = sum(replica.ahead + 1 for replica in replicas) - 1
        self._turns = itertools.cycle(replicas)

    @property
    def precision(self) -> Precision:
        """The precision of the first replica now. Each judges by its own images, which are of the same kind."""
        return self._first.precision

    def __call__(self, pixels: Tensor) -> PendingOutput:
        """Start to compute a batch on the next device."""
        return next(self._turns)(pixels)
