"""Features are what the head of the classifier takes, of every family, in every runtime, for every input."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor, AutoModelForImageClassification, Dinov2Model
from transformers.image_utils import load_image

from dinoclassify import Classifier, Encoder, ModelError, UsageError
from dinoclassify.types.compute import RuntimeName
from dinoclassify.types.embedding import Embedding
from tests.conftest import PHOTOS
from tests.helpers.checkpoints import FAMILIES, save_dinov2_small

IMAGES = sorted(map(str, PHOTOS.glob("*.jpg")))


def features(embeddings: list[Embedding]) -> torch.Tensor:
    return torch.tensor(np.stack([row.features for row in embeddings if row.features is not None]))


def by_hand(backbone: Dinov2Model, folder: str) -> torch.Tensor:
    """The class token and the mean of the patch tokens."""
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    with torch.inference_mode():
        states = backbone(**processor([load_image(path) for path in IMAGES], return_tensors="pt")).last_hidden_state
    return torch.cat([states[:, 0], states[:, 1:].mean(dim=1)], dim=1)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_dinov2_small_gives_768_features(tmp_path: Path, runtime: RuntimeName) -> None:
    save_dinov2_small(tmp_path)
    folder = str(tmp_path)
    made = features(list(Encoder(folder, runtime=runtime, precision="fp32").embed(IMAGES, exact=True)))
    assert made.shape == (len(IMAGES), 768)
    torch.testing.assert_close(made, by_hand(Dinov2Model.from_pretrained(folder).eval(), folder), atol=1e-4, rtol=0)


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
@pytest.mark.parametrize("bare", [False, True])
def test_dinov2_gives_the_class_token_and_the_mean_of_the_patches(
    tiny: str, tmp_path: Path, runtime: RuntimeName, bare: bool
) -> None:
    backbone = Dinov2Model.from_pretrained(tiny).eval()
    name = tiny
    if bare:
        name = str(tmp_path)
        backbone.save_pretrained(tmp_path)
        shutil.copy(Path(tiny, "preprocessor_config.json"), tmp_path)
        with pytest.raises(ModelError, match="is not a trained classifier"):
            Classifier(name, runtime="torch")
    encoder = Encoder(name, runtime=runtime, precision="fp32")
    made = features(list(encoder.embed(IMAGES, exact=True)))
    expected = by_hand(backbone, tiny)
    assert encoder.width == expected.shape[1] == 64
    torch.testing.assert_close(made, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_on_the_features_gives_the_logits(checkpoints: Callable[[str], Path], family: str) -> None:
    folder = str(checkpoints(family))
    model = AutoModelForImageClassification.from_pretrained(folder).eval()
    made = features(list(Encoder(folder, runtime="torch", precision="fp32").embed(IMAGES)))
    with torch.inference_mode():
        scores = model.classifier(made).softmax(dim=1)
    predictions = list(Classifier(folder, runtime="torch", precision="fp32").predict(IMAGES, top_k=7))
    for row, prediction in zip(scores.tolist(), predictions, strict=True):
        assert {label.index: label.score for label in prediction.top} == pytest.approx(dict(enumerate(row)), abs=1e-5)


def test_the_builtin_model_has_features_too() -> None:
    encoder = Encoder("builtin", runtime="torch")
    (row,) = encoder.embed(IMAGES[0], dtype="fp16", normalized=True)
    assert row.features is not None
    assert row.features.shape == (1280,)
    assert row.features.dtype == np.float16
    assert np.linalg.norm(row.features.astype(np.float64)) == pytest.approx(1, abs=1e-3)


def test_failures_are_rows_in_their_place(tiny: str, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    paths = [IMAGES[0], str(tmp_path / "text.jpg"), str(tmp_path / "gone.jpg"), IMAGES[1]]
    rows = list(Encoder(tiny).embed(paths, batch_size=3))
    assert [row.path for row in rows] == paths
    assert [row.failure.code if row.failure else row.status for row in rows] == ["ok", "not_image", "vanished", "ok"]
    assert [row.features is None for row in rows] == [False, True, True, False]


def test_int8_is_refused(tiny: str) -> None:
    with pytest.raises(UsageError, match="int8 is for labels, not for features"):
        Encoder(tiny, precision="int8")
