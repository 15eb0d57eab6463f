"""Fixtures of the tests of runtimes."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from tests.helpers.toy import Toy


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "dinoclassify"


@pytest.fixture
def overflowing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU has: `auto` is fp16, bf16 is there too, and bright images are too much for fp16."""
    forward = Toy.forward

    def overflow(self: Toy, pixel_values: Tensor) -> SimpleNamespace:
        answer = forward(self, pixel_values)
        if pixel_values.dtype == torch.float16:
            answer.logits[pixel_values.mean(dim=(1, 2, 3)) > 1] = torch.inf
        return answer

    monkeypatch.setattr(Toy, "forward", overflow)
    monkeypatch.setattr("dinoclassify.runtimes.pytorch._choose_precision", lambda *_: "fp16")
    monkeypatch.setattr("dinoclassify.runtimes.pytorch.has_bf16", lambda *_: True)
