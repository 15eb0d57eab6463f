"""The processor and the GPUs of a machine, found without torch: as torch finds them."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from dinoclassify.system import processor
from dinoclassify.system.processor import cpu_has_amx, cpu_has_bf16, cpu_identity, cpu_name, may_have_gpu


def test_bf16_is_found_as_torch_finds_it() -> None:
    if not hasattr(torch.cpu, "get_capabilities"):  # before torch 2.10
        assert cpu_has_bf16() >= torch.cpu._is_avx512_bf16_supported()
        return
    flags = torch.cpu.get_capabilities()
    assert cpu_has_bf16() == any(flags.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    assert cpu_has_amx() == bool(flags.get("amx_bf16"))


@pytest.mark.parametrize(
    ("lines", "bf16", "amx"),
    [
        ("model name\t: An Intel\nflags\t\t: fpu avx512f avx512_bf16 amx_bf16 amx_tile\n", True, True),
        ("model name\t: An AMD\nflags\t\t: fpu avx512f avx512_bf16\n", True, False),
        ("model name\t: An old one\nflags\t\t: fpu avx2\n", False, False),
        ("processor\t: 0\nFeatures\t: fp asimd bf16\n", True, False),
        ("processor\t: 0\nFeatures\t: fp asimd\n", False, False),
        ("", False, False),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="/proc/cpuinfo is Linux's")
def test_flags_are_those_of_the_kernel(
    lines: str, bf16: bool, amx: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described(lines, tmp_path, monkeypatch)
    assert (cpu_has_bf16(), cpu_has_amx()) == (bf16, amx)
    assert cpu_name()


def test_other_instructions_are_another_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    identities = set()
    for flags in ("fpu avx2", "avx2 fpu", "fpu avx512f"):
        described(f"model name\t: An Intel\nflags\t\t: {flags}\n", tmp_path, monkeypatch)
        identities.add(cpu_identity())
    assert len(identities) == 2, "and their order does not matter"


@pytest.mark.skipif(sys.platform != "linux", reason="a Mac may always have one")
def test_a_gpu_needs_a_device_and_a_torch_that_uses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "_GPU_DEVICES", (str(tmp_path / "nvidia*"), str(tmp_path / "kfd")))
    monkeypatch.setattr(processor, "version", lambda _: "2.9.0+cu128")
    assert not may_have_gpu(), "there is no device"
    (tmp_path / "nvidia0").touch()
    assert may_have_gpu()
    monkeypatch.setattr(processor, "version", lambda _: "2.9.0+cpu")
    assert not may_have_gpu(), "torch is built without GPUs"
    monkeypatch.setattr(processor, "version", lambda _: "2.9.0")
    assert may_have_gpu(), "as on PyPI, with CUDA on Linux"


@pytest.mark.skipif(sys.platform != "linux", reason="a Mac may always have one")
def test_no_gpu_of_torch_is_overlooked() -> None:
    assert may_have_gpu() or not torch.cuda.is_available()


@pytest.fixture(autouse=True)
def _nothing_is_remembered() -> Iterator[None]:
    forget()
    yield
    forget()


def described(lines: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the kernel describe the processors so."""
    (folder / "cpuinfo").write_text(lines)
    monkeypatch.setattr(processor, "_INFO", str(folder / "cpuinfo"))
    forget()


def forget() -> None:
    processor._flags.cache_clear()
    processor._field.cache_clear()
