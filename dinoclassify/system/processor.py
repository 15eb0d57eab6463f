"""The processor and the GPUs of this machine, found without the libraries that compute on them: these take seconds."""

import ctypes
import glob
import hashlib
import platform
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version

_INFO = "/proc/cpuinfo"
_BF16 = ("avx512_bf16", "amx_bf16", "bf16")  # the last on ARM
_APPLE_BF16 = b"hw.optional.arm.FEAT_BF16"
# Devices of NVIDIA's drivers (the second is that of Jetson boards), of AMD's, and of both under Windows.
_GPU_DEVICES = ("/dev/nvidia*", "/dev/nvmap", "/dev/kfd", "/dev/dxg")


def cpu_has_bf16() -> bool:
    """Whether the processor has instructions that multiply matrices in bf16."""
    if sys.platform == "darwin":
        value = ctypes.c_int(0)
        size = ctypes.c_size_t(ctypes.sizeof(value))
        is_known = ctypes.CDLL(None).sysctlbyname(_APPLE_BF16, ctypes.byref(value), ctypes.byref(size), None, 0) == 0
        return is_known and bool(value.value)
    return any(flag in _flags() for flag in _BF16)


def cpu_has_amx() -> bool:
    """Whether the processor multiplies whole tiles of bf16 matrices (Intel's AMX)."""
    return "amx_bf16" in _flags()


def cpu_name() -> str:
    """The name of the processor, in words."""
    return _field("model name") or platform.processor() or platform.machine()


def cpu_identity() -> str:
    """The name of the processor and a digest of its instructions: code compiled for one may not run on another."""
    return f"{cpu_name()} {hashlib.sha256(' '.join(sorted(_flags())).encode()).hexdigest()[:16]}"


def may_have_gpu() -> bool:
    """Whether torch may find a GPU here: only torch knows, and importing it takes seconds.

    False is certain: this is no Mac, and there is no device of a GPU's driver, or torch is built without GPUs.
    """
    if sys.platform == "darwin":
        return True
    try:
        is_cpu_build = version("torch").endswith("+cpu")
    except PackageNotFoundError:
        is_cpu_build = False
    return not is_cpu_build and any(glob.glob(pattern) for pattern in _GPU_DEVICES)


@cache
def _flags() -> frozenset[str]:
    return frozenset((_field("flags") or _field("Features")).split())


@cache
def _field(name: str) -> str:
    """The first value of a field of Linux's description of the processors; empty if it has none."""
    try:
        with open(_INFO, encoding="utf-8", errors="replace") as lines:
            return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
    except OSError:
        return ""
