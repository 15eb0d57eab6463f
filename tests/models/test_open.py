"""Opening a model: its labels, quiet logging, and the settings cached from the first time."""

import hashlib
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers as hf

from dinoclassify.models.checkpoint import read_preprocessing
from dinoclassify.models.names import settings_files, weights_files
from dinoclassify.models.open import open_encoder, open_model
from dinoclassify.storage.cache import digests
from dinoclassify.storage.cache.manifest import sha256
from tests.helpers import prepared
from tests.helpers.checkpoints import LABELS, edit_json


def test_a_checkpoint_opens_with_its_labels(checkpoints: Callable[[str], Path]) -> None:
    model = open_model(str(checkpoints("dinov2")))
    assert model.labels == tuple(LABELS)
    assert (model.revision, model.multi_label) == (None, False)
    module = model.load()
    assert not module.training
    assert next(module.parameters()).dtype == torch.float32


def test_a_label_that_is_not_valid_text_is_replaced(copy: Path) -> None:
    edit_json(copy / "config.json", id2label={str(n): "\ud83d" if n == 3 else f"label {n}" for n in range(7)})
    assert open_model(str(copy)).labels[3] == "?"


def test_a_multi_label_model_is_recognised(copy: Path) -> None:
    edit_json(copy / "config.json", problem_type="multi_label_classification")
    assert open_model(str(copy)).multi_label


def test_transformers_logging_is_silenced_and_restored(copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    hf.utils.logging.set_verbosity_info()
    try:
        open_model(str(copy)).load()
        assert hf.utils.logging.get_verbosity() == logging.INFO
    finally:
        hf.utils.logging.set_verbosity_warning()
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_a_model_used_before_opens_without_transformers(copy: Path) -> None:
    code = (
        "import sys; from dinoclassify.models.open import open_model; model = open_model(sys.argv[1]); "
        "print(len(model.labels), model.preprocessing.crop, 'transformers' in sys.modules)"
    )

    def run() -> str:
        command = [sys.executable, "-c", code, str(copy)]
        return prepared.run(command).stdout

    edit_json(copy / "preprocessor_config.json", crop_size={"height": 50, "width": 50})
    assert run() == "7 (50, 50) True\n"
    assert run() == "7 (50, 50) False\n"
    edit_json(copy / "preprocessor_config.json", crop_size={"height": 40, "width": 40})
    assert run() == "7 (40, 40) True\n", "other settings are another model"


def test_cached_settings_equal_those_first_read(checkpoints: Callable[[str], Path]) -> None:
    for family in ("dinov2", "convnext", "efficientnet", "mobilevit"):
        folder = str(checkpoints(family))
        first, second = open_model(folder), open_model(folder)
        assert first.labels == second.labels == tuple(LABELS)
        assert first.multi_label == second.multi_label
        assert type(first.preprocessing) is type(second.preprocessing)
        if family != "mobilevit":
            assert first.preprocessing == second.preprocessing == read_preprocessing(folder, family)


def test_weights_are_not_hashed_at_each_start(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(copy.parent / "cache"))
    monkeypatch.setattr(digests, "_RACY", 0)
    time.sleep(0.02)  # longer than the ticks of the clock of a file system
    first = open_model(str(copy)).digest()
    assert first == sha256([*settings_files(str(copy)), *weights_files(str(copy))])
    model, encoder = open_model(str(copy)), open_encoder(str(copy))
    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("it is known"))
        assert model.digest() == first
        assert encoder.digest() != first
    edit_json(copy / "config.json", more=1)
    assert open_model(str(copy)).digest() != first
