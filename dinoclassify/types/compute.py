"""How a model is computed: by which runtime, in which precision."""

from typing import Literal

RuntimeName = Literal["auto", "torch", "openvino"]
Precision = Literal["fp32", "bf16", "fp16", "int8"]
RequestedPrecision = Literal["auto", Precision]
