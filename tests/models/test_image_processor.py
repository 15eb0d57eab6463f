"""Sizes that an image processor names: those that can be used, and those that cannot."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dinoclassify.models.open import open_model
from dinoclassify.types.preprocessing import OpaqueProcessor, Preprocessing
from tests.helpers.checkpoints import edit_json
from tests.helpers.models import refusal


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop_size": {"shortest_edge": 56}}, 'its crop_size {"shortest_edge": 56} has no height and width'),
        ({"crop_size": {"longest_edge": 224}}, 'its crop_size {"longest_edge": 224} has no height and width'),
        ({"crop_size": {"height": 224}}, "crop_size must have one of the following set of keys"),
        ({"crop_size": "big"}, "Could not convert size input to size dict: big"),
        ({"crop_size": 0}, 'leaves no pixels, with size {"shortest_edge": 64} and crop_size {"height": 0, "width": 0}'),
        ({"crop_size": {"height": "a", "width": 5}}, 'and crop_size {"height": "a", "width": 5} ('),
        ({"size": {"longest_edge": 224}}, 'its image processor fails with size {"longest_edge": 224} and crop_size'),
        (
            {"size": {"height": 64.0, "width": 64.0}},
            'its image processor fails with size {"height": 64.0, "width": 64.0}',
        ),
        ({"size": {"height": 224}}, "size must have one of the following set of keys"),
        ({"size": {}}, "size must have one of the following set of keys"),
        (
            {"size": -1},
            'size {"shortest_edge": -1} and crop_size {"height": 56, "width": 56} (height and width must be',
        ),
        ({"size": [64]}, "list index out of range"),
    ],
)
def test_sizes_that_transformers_cannot_use_are_refused(copy: Path, settings: dict[str, object], message: str) -> None:
    edit_json(copy / "preprocessor_config.json", **settings)
    refused = refusal(copy)
    assert refused.startswith(f"{copy} cannot be loaded: "), refused
    assert message in refused
    assert refused.endswith(": mend its preprocessor_config.json, or take that of its base model")


def test_a_size_that_the_processor_of_a_family_cannot_use_is_named(
    checkpoints: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(checkpoints("convnext"), tmp_path / "convnext")
    edit_json(folder / "preprocessor_config.json", size={"longest_edge": 224})
    assert 'its image processor fails with size {"longest_edge": 224}: mend its preprocessor_config' in refusal(folder)


def test_sizes_that_transformers_can_use_are_taken(copy: Path) -> None:
    settings = copy / "preprocessor_config.json"
    edit_json(settings, crop_size={"height": 56.0, "width": 48.0})
    plain = open_model(str(copy)).preprocessing
    assert isinstance(plain, Preprocessing)
    assert json.dumps(plain.crop) == "[56, 48]", "whole numbers"
    edit_json(settings, crop_size={"shortest_edge": 56}, do_center_crop=False)  # which nothing uses
    assert isinstance(open_model(str(copy)).preprocessing, Preprocessing)
    crop = {"crop_size": {"shortest_edge": 64}, "size": {"shortest_edge": 384}, "do_center_crop": True}
    edit_json(settings, image_processor_type="BridgeTowerImageProcessor", **crop)
    assert open_model(str(copy)).preprocessing.output_size == (64, 64), "by its own rule"
    edit_json(settings, image_processor_type="BitImageProcessor", crop_size=56, resample="bicubic")  # not a number
    assert isinstance(open_model(str(copy)).preprocessing, OpaqueProcessor)
