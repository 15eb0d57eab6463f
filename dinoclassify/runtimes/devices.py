"""The devices of this machine, by their names in torch: ``cpu``, ``cuda:N`` and ``mps``."""

from dinoclassify.errors import UsageError
from dinoclassify.messages import nearest
from dinoclassify.system.processor import may_have_gpu


def find_devices(name: str) -> list[str]:
    """``cpu``, ``cuda:N`` or ``mps`` -> that device, or a UsageError; ``cuda`` -> all GPUs; ``auto`` -> the best.

    Imports torch, which takes seconds, only where there may be a GPU.
    """
    kind, colon, number = name.partition(":")
    if kind not in {"auto", "cpu", "cuda", "mps"} or (colon and not (kind == "cuda" and number.isdecimal())):
        near = nearest("cuda" if kind == "gpu" else name, ("auto", "cpu", "cuda", "mps"))
        raise UsageError(f"--device {name}{near}: choose auto, cpu, cuda or cuda:N (NVIDIA), or mps (Apple)")
    if kind == "cpu" or (kind == "auto" and not may_have_gpu()):
        return ["cpu"]
    import torch

    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UsageError("--device mps: this machine has no Metal device; use --device auto")
    count = torch.cuda.device_count() if kind == "cuda" else 0
    if kind == "cuda" and int(number or 0) >= count:
        raise UsageError(f"--device {name}: {count} CUDA devices found by torch {torch.__version__}; use --device auto")
    if kind != "cuda":
        return [kind]
    return [f"cuda:{index}" for index in ([int(number)] if number else range(count))]
