"""What torch and Pillow find on this machine: a program of its own, of which `diagnostics.doctor` reads the output."""

import json

import torch

from dinoclassify.decoding.decode import decoders
from dinoclassify.runtimes.devices import cpu_has_bf16, find_devices
from dinoclassify.system.environment import available_cpus


def print_found() -> None:
    """Print the devices as JSON, each with what is to be said of it, and the decoders, each with its version."""
    devices = {
        "auto": ", ".join(map(str, find_devices("auto"))),
        "cpu": f"{available_cpus()} processors, bf16 {'fast' if cpu_has_bf16() else 'not in hardware'}",
    }
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        devices[f"cuda:{number}"] = f"{properties.name}, {properties.total_memory / 2**30:.1f} GiB"
    if torch.backends.mps.is_available():
        devices["mps"] = "available"
    print(json.dumps({"devices": devices, "decoders": decoders()}))
