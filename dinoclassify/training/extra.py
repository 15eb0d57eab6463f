"""The packages of the extra ``train``."""

from collections.abc import Iterator
from contextlib import contextmanager

from dinoclassify.errors import UsageError


@contextmanager
def needs_train_extra() -> Iterator[None]:
    """Name the extra if an import in the block fails."""
    try:
        yield
    except ImportError:
        raise UsageError("train needs scikit-learn: pip install 'dinoclassify[train]'") from None
