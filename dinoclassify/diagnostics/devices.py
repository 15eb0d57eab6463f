"""The devices of torch and the decoders of Pillow, as JSON: `diagnostics.doctor` runs this in a subprocess."""

import json

import torch

from dinoclassify.decoding.decode import decoders
from dinoclassify.runtimes.devices import find_devices
from dinoclassify.system.environment import available_cpus
from dinoclassify.system.processor import cpu_has_bf16


def print_json() -> None:
    """Print a JSON object with ``devices``, name to description, and ``decoders``, name to version or null."""
    devices = {
        "auto": ", ".join(find_devices("auto")),
        "cpu": f"{available_cpus()} processors, bf16 {'fast' if cpu_has_bf16() else 'not in hardware'}",
    }
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        devices[f"cuda:{number}"] = f"{properties.name}, {properties.total_memory / 2**30:.1f} GiB"
    if torch.backends.mps.is_available():
        devices["mps"] = "available"
    print(json.dumps({"devices": devices, "decoders": decoders()}))
