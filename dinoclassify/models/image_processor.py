"""A transformers image processor -> a `Preprocessing`.

The settings of the processor are read into a `Preprocessing`, which is compared with the processor itself on generated
images. If the results differ, the processor does more than its settings say: it runs itself, as an `OpaqueProcessor`.
"""

import json
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from dinoclassify.decoding.batch import Pixels
from dinoclassify.decoding.decode import preprocess_exactly
from dinoclassify.messages import first_line
from dinoclassify.types.preprocessing import ImageProcessor, OpaqueProcessor, PerChannel, Preprocessing, Size

CURE = "mend its preprocessor_config.json, or take that of its base model"

BILINEAR = 2  # transformers' default filter
CONVNEXT_WHOLE = 384  # from this size up ConvNeXT uses the whole image, below it a central part


def read_processor(processor: ImageProcessor) -> Preprocessing | OpaqueProcessor:
    """The preprocessing of ``processor``: plain numbers, if they give the same pixels.

    Raises ValueError if it fails, or does not give one image of three channels for one image.
    """
    opaque = OpaqueProcessor(processor, output_size=None)
    probes = [_noise(301, 211), _noise(97, 143), _noise(40, 400)]
    try:
        expected = [preprocess_exactly(probe, opaque) for probe in probes]
    except Exception as error:  # transformers raises many kinds for wrong settings
        raise ValueError(_why_it_fails(processor, error)) from error
    if any(values.size == 0 for values in expected):
        raise ValueError(f"its image processor leaves no pixels, with {_in_words(_sizes(processor))}: {CURE}")
    if any(values.ndim != 3 or values.shape[0] != 3 for values in expected):
        raise ValueError(
            "its image processor does not make one image of three channels, so that it cannot be used here"
        )
    plain = None
    with suppress(TypeError, ValueError):  # unused settings may hold anything
        plain = _plain(processor)
    if plain is not None and all(map(_agree, (_normalised(probe, plain) for probe in probes), expected)):
        return plain
    sizes: set[Size] = {(values.shape[1], values.shape[2]) for values in expected}
    return OpaqueProcessor(processor, output_size=sizes.pop() if len(sizes) == 1 else None)


def _plain(processor: ImageProcessor) -> Preprocessing | None:
    """The processor's settings as a `Preprocessing`; None if that cannot express them."""

    def setting(name: str) -> Any:  # settings have any type
        return getattr(processor, name, None)

    resize: Size | int | None = None
    if setting("do_resize"):
        size = dict(setting("size"))
        if size.get("height") and size.get("width"):
            resize = size["height"], size["width"]
        elif size.get("shortest_edge") and not size.get("longest_edge"):
            resize = size["shortest_edge"]
        else:
            return None
    crop: Size | None = None
    if setting("do_center_crop"):
        size = dict(setting("crop_size"))
        if not (size.get("height") and size.get("width")):
            return None
        crop = int(size["height"]), int(size["width"])
    if setting("crop_pct") and isinstance(resize, int):
        if resize < CONVNEXT_WHOLE:
            resize, crop = int(resize / setting("crop_pct")), (resize, resize)
        else:
            resize = resize, resize

    # value = ((pixel * factor - offset) - mean) / std / std_again, in the form (pixel - mean) / std
    factor = setting("rescale_factor") if setting("do_rescale") else 1.0
    offset = 1.0 if setting("rescale_offset") else 0.0
    mean, std = (setting("image_mean"), setting("image_std")) if setting("do_normalize") else (0.0, 1.0)
    std_again = setting("image_std") if setting("include_top") else 1.0
    return Preprocessing(
        resize=resize,
        crop=crop,
        resample=int(BILINEAR if setting("resample") is None else setting("resample")),
        mean=_per_channel((np.asarray(mean) + offset) / factor),
        std=_per_channel(np.asarray(std) * std_again / factor),
        on_white=bool(setting("do_convert_rgb")),
    )


def _why_it_fails(processor: ImageProcessor, error: Exception) -> str:
    """The reason, in words: transformers often does not name the wrong setting."""
    sizes = _sizes(processor)
    crop = sizes.get("crop_size")
    if crop is not None and not crop.keys() >= {"height", "width"}:
        return f"its crop_size {json.dumps(crop)} has no height and width: {CURE}"
    reason = "" if "SizeDict" in str(error) else f" ({first_line(error)})"  # transformers failed to word its own error
    return f"its image processor fails with {_in_words(sizes)}{reason}: {CURE}"


def _sizes(processor: ImageProcessor) -> dict[str, dict[str, Any]]:
    """The sizes that the processor uses, by the names of their settings."""
    sizes: dict[str, dict[str, Any]] = {}
    for name, step in (("size", "do_resize"), ("crop_size", "do_center_crop")):
        if getattr(processor, step, None):
            with suppress(TypeError, ValueError):  # dict() of a plain number
                sizes[name] = dict(getattr(processor, name))
    return sizes


def _in_words(sizes: dict[str, dict[str, Any]]) -> str:
    return " and ".join(f"{name} {json.dumps(size)}" for name, size in sizes.items()) or "its settings"


def _normalised(rgb: npt.NDArray[np.uint8], preprocessing: Preprocessing) -> npt.NDArray[np.float32]:
    mean = np.array(preprocessing.mean, np.float32).reshape(3, 1, 1)
    std = np.array(preprocessing.std, np.float32).reshape(3, 1, 1)
    return (preprocess_exactly(rgb, preprocessing) - mean) / std


def _agree(ours: Pixels, theirs: Pixels) -> bool:
    return ours.shape == theirs.shape and np.allclose(ours, theirs, rtol=1e-6, atol=1e-6)


def _per_channel(values: npt.NDArray[np.float64]) -> PerChannel:
    red, green, blue = np.broadcast_to(values, 3).tolist()
    return red, green, blue


def _noise(height: int, width: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
