"""The devices of this machine, and whether they compute in bf16."""

import torch

from dinoclassify.errors import UsageError
from dinoclassify.messages import nearest


def find_devices(name: str) -> list[torch.device]:
    """``cpu``, ``cuda:N`` or ``mps`` -> that device; ``cuda`` -> all GPUs; ``auto`` -> the best of this machine.

    Raises:
        UsageError: there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in {"cpu", "cuda", "mps"} or (number and not (kind == "cuda" and number.isdecimal())):
        near = nearest("cuda" if kind == "gpu" else name, ("auto", "cpu", "cuda", "mps"))
        raise UsageError(f"--device {name}{near}: choose auto, cpu, cuda or cuda:N (NVIDIA), or mps (Apple)")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UsageError("--device mps: this machine has no Metal device; use --device auto")
    count = torch.cuda.device_count() if kind == "cuda" else 0
    if kind == "cuda" and int(number or 0) >= count:
        raise UsageError(f"--device {name}: {count} CUDA devices found by torch {torch.__version__}; use --device auto")
    return [torch.device("cuda", index) for index in range(count)] if name == "cuda" else [torch.device(name)]


def has_bf16(device: torch.device) -> bool:
    """Whether the device computes in bf16 itself, rather than emulate it."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and cpu_has_bf16()


def cpu_has_bf16() -> bool:
    """Whether the processor has instructions that multiply matrices in bf16."""
    if not hasattr(torch.cpu, "get_capabilities"):  # before torch 2.10
        return bool(torch.cpu._is_avx512_bf16_supported())
    flags = torch.cpu.get_capabilities()
    return any(flags.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))  # the last on ARM
