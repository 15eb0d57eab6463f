"""Checkpoints that are refused: with one line that names the cure."""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from dinoclassify.errors import ModelError
from dinoclassify.models.checkpoint import load_encoder
from dinoclassify.models.open import open_model
from tests.helpers.checkpoints import edit_json
from tests.helpers.models import refusal


def test_a_missing_head_is_refused(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    save_file({k: v for k, v in weights.items() if "classifier" not in k}, copy / "model.safetensors", {"format": "pt"})
    assert "is not a trained classifier, it lacks classifier.bias, classifier.weight" in refusal(copy)
    assert "choose one of small" in refusal(copy)


def test_a_bare_backbone_is_refused(tmp_path: Path, checkpoints: Callable[[str], Path]) -> None:
    hf.Dinov2Model.from_pretrained(checkpoints("dinov2")).save_pretrained(tmp_path)
    shutil.copy(checkpoints("dinov2") / "preprocessor_config.json", tmp_path)
    assert "is not a trained classifier" in refusal(tmp_path)


def test_labels_that_do_not_fit_the_head_are_refused(copy: Path) -> None:
    edit_json(copy / "config.json", id2label=None, label2id=None)
    assert "do its labels (id2label) and sizes match its weights?" in refusal(copy)
    edit_json(copy / "config.json", id2label={"0": "a", "2": "b"})
    assert "has no label for some classes" in refusal(copy)


def test_pickles_are_never_opened(copy: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
            return os.system, (f"touch {tmp_path}/opened",)

    (copy / "model.safetensors").unlink()
    torch.save({"classifier.weight": Evil()}, copy / "pytorch_model.bin")
    assert "if its weights are pickled (.bin), which can run code and is never opened, save them" in refusal(copy)
    assert not (tmp_path / "opened").exists()


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
def test_code_is_never_run(copy: Path, tmp_path: Path, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (copy / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    names = {
        "AutoConfig": "evil.Evil",
        "AutoModelForImageClassification": "evil.Evil",
        "AutoImageProcessor": "evil.Evil",
    }
    edit_json(copy / file, auto_map=names, model_type="evil" if file == "config.json" else None)
    monkeypatch.setattr(sys, "stdin", None)
    assert "brings Python code of its own, which is never run" in refusal(copy)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "it has no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is not a JSON object"),
        (lambda folder: (folder / "preprocessor_config.json").unlink(), "has no preprocessor_config.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "has no model.safetensors: fetch it again"),
        (lambda folder: os.truncate(folder / "model.safetensors", 9000), "damaged or cut short"),
        (lambda folder: (folder / "model.safetensors").write_text("version https://git-lfs"), "damaged or cut short"),
        (
            lambda folder: edit_json(folder / "config.json", model_type="bert"),
            "is a bert model, not an image classifier",
        ),
        (lambda folder: edit_json(folder / "config.json", model_type="nonesuch"), "cannot be loaded"),
        (lambda folder: edit_json(folder / "config.json", problem_type="regression"), "gives measurements"),
        (lambda folder: shutil.rmtree(folder), "there is no folder"),
        (lambda folder: (folder / "model.safetensors.index.json").write_text('{"weight_map": []}'), "does not list"),
        (lambda folder: (folder / "model.safetensors.index.json").write_text("{"), "does not list the weights"),
        (lambda folder: (folder / "config.json").write_text("[" * 100_000), "config.json is not a JSON object"),
        (lambda folder: edit_json(folder / "config.json", id2label={}), "has no label for some classes"),
        (
            lambda folder: (folder / "processor_config.json").write_text(
                '{"image_processor": {"auto_map": {"A": "b"}}}'
            ),
            "brings Python code of its own",
        ),
    ],
)
def test_damaged_folders_are_refused_with_the_reason(copy: Path, spoil: Callable[[Path], object], message: str) -> None:
    spoil(copy)
    refused = refusal(copy)
    assert message in refused
    assert str(copy) in refused


def test_an_encoder_without_all_weights_is_refused(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    missing = next(name for name in weights if "attention" in name)
    save_file(
        {name: weight for name, weight in weights.items() if name != missing},
        copy / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(ModelError) as raised:
        load_encoder(str(copy), "m", (56, 56))
    said = r"m is not a whole model, its weights lack [\w.]*attention[\w.]*: fetch it again"
    assert re.fullmatch(said, str(raised.value)), raised.value


def test_a_missing_shard_is_named(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    names = list(weights)
    parts = {"model-00001-of-00002.safetensors": names[:9], "model-00002-of-00002.safetensors": names[9:]}
    for file, keys in parts.items():
        save_file({key: weights[key] for key in keys}, copy / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {key: file for file, keys in parts.items() for key in keys}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    assert open_model(str(copy)).load() is not None
    (copy / "model-00002-of-00002.safetensors").unlink()
    assert "is not a whole model, it has no model-00002-of-00002.safetensors: fetch it again" in refusal(copy)
