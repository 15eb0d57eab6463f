"""Devices: which are found, and which of them `auto` takes."""

import pytest
import torch

from dinoclassify.errors import UsageError
from dinoclassify.runtimes.devices import find_devices


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cpu:0", "cpu:", "cuda:", "cuda:-1", "mps:1", ""])
def test_invalid_device_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="choose auto, cpu, cuda or cuda:N"):
        find_devices(name)


def test_missing_devices_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert find_devices("cuda:0") == ["cuda:0"]
    with pytest.raises(UsageError, match="--device cuda:1: 1 CUDA devices found"):
        find_devices("cuda:1")
    with pytest.raises(UsageError, match="no Metal device"):
        find_devices("mps")


def test_auto_takes_the_best_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dinoclassify.runtimes.devices.may_have_gpu", lambda: True)
    for cuda, mps, expected in [(True, False, ["cuda:0", "cuda:1"]), (False, True, ["mps"]), (False, False, ["cpu"])]:
        monkeypatch.setattr(torch.cuda, "is_available", lambda value=cuda: value)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda value=mps: value)
        assert find_devices("auto") == expected


def test_all_gpus_are_used_unless_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert find_devices("cuda") == ["cuda:0", "cuda:1", "cuda:2"]
    for name in ("cuda:2", "cuda:02"):
        assert find_devices(name) == ["cuda:2"]
