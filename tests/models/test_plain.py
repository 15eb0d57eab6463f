"""Models in plain torch: the same logits as those of transformers' classes, bit for bit, or not loaded at all."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dinoclassify.models import builtin_weights
from dinoclassify.models.checkpoint import load_weights
from dinoclassify.models.open import open_encoder, open_model
from dinoclassify.models.plain import load_plain
from tests.helpers.checkpoints import CLASSES, FAMILIES, edit_json

DINOV2: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 56,
    "patch_size": 14,
    "layerscale_value": 0.5,
    "num_labels": CLASSES,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gives_the_logits_of_transformers(family: str, checkpoints: Callable[[str], Path]) -> None:
    folder = checkpoints(family)
    size = 384 if family == "convnext_384" else 64 if family not in ("dinov2", "dinov2_with_registers") else 56
    model = open_model(str(folder))
    theirs = hf.AutoModelForImageClassification.from_pretrained(folder, dtype=torch.float32).eval()
    pixels = _pixels(3, *(model.preprocessing.output_size or (size, size)))
    assert torch.equal(_logits(model.load(), pixels), _logits(theirs, pixels))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("settings", [{}, {"use_swiglu_ffn": True}, {"qkv_bias": False, "use_mask_token": False}])
@pytest.mark.parametrize("registers", [None, 0, 4])
def test_all_of_dinov2_is_written_here(
    settings: dict[str, Any], registers: int | None, dtype: torch.dtype, tmp_path: Path
) -> None:
    _save_dinov2(tmp_path, settings, registers)
    plain, theirs = load_plain(str(tmp_path)), load_weights(str(tmp_path), "m")
    assert plain is not None
    assert not plain.training
    plain, theirs = plain.to(dtype), theirs.to(dtype)
    for size in [(56, 56), (70, 70), (28, 98), (60, 64)]:  # that of the weights, and others
        pixels = _pixels(2, *size).to(dtype)
        assert torch.equal(_logits(plain, pixels), _logits(theirs, pixels)), size


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_in_half_precision_are_loaded_in_float32(copy: Path, dtype: torch.dtype) -> None:
    weights = load_file(copy / "model.safetensors")
    save_file({key: value.to(dtype) for key, value in weights.items()}, copy / "model.safetensors", {"format": "pt"})
    _assert_same(copy)


def test_shards_are_put_together(copy: Path) -> None:
    hf.Dinov2ForImageClassification.from_pretrained(copy).save_pretrained(copy, max_shard_size="20KB")
    (copy / "model.safetensors").unlink()
    assert len(list(copy.glob("model-*.safetensors"))) > 1
    _assert_same(copy)


def test_the_builtin_model_equals_that_of_transformers() -> None:
    plain, theirs = builtin_weights.load(), builtin_weights.load_transformers()
    pixels = _pixels(2, 224, 224)
    assert torch.equal(_logits(plain, pixels), _logits(theirs, pixels))


def test_features_are_those_that_the_head_of_transformers_takes(checkpoints: Callable[[str], Path]) -> None:
    encoder = open_encoder(str(checkpoints("dinov2")))
    with_head, head = encoder.load_with_head()
    pixels = _pixels(2, 56, 56)
    features = _logits(encoder.load(), pixels)
    assert features.shape == (2, 64)
    with torch.inference_mode():
        assert torch.equal(with_head.get_submodule(head)(features), _logits(with_head, pixels))


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_act": "relu"},
        {"num_channels": 4},
        {"layer_norm_eps": None},
        {"mlp_ratio": 2},
        {"patch_size": [14, 14]},
        {"num_hidden_layers": 1},
        {"num_hidden_layers": 3},
        {"num_attention_heads": 3},
        {"qkv_bias": 1},
        {"use_mask_token": False},
        {"use_swiglu_ffn": True},
        {"id2label": None},
        {"id2label": {"0": "one label"}},
        {"model_type": "vit"},
        {"model_type": "dinov2_with_registers"},
        {"quantization_config": {"quant_method": "bitsandbytes"}},
        {"a_setting_of_tomorrow": True},
    ],
)
def test_what_is_not_known_here_is_left_to_transformers(copy: Path, changes: dict[str, Any]) -> None:
    edit_json(copy / "config.json", **changes)
    assert load_plain(str(copy)) is None


def test_other_weights_are_left_to_transformers(copy: Path) -> None:
    weights, file = load_file(copy / "model.safetensors"), copy / "model.safetensors"
    renamed = {key.replace("attention.attention.query", "attention.q_proj"): value for key, value in weights.items()}
    quantised = weights | {"classifier.bias": torch.zeros(CLASSES, dtype=torch.int8)}
    for others in (renamed, quantised, weights | {"more": torch.zeros(1)}, dict(list(weights.items())[1:])):
        save_file(others, file, {"format": "pt"})
        assert load_plain(str(copy)) is None
    for metadata in (None, {"format": "mlx"}):
        save_file(weights, file, metadata)
        assert load_plain(str(copy)) is None
    save_file(weights, file, {"format": "pt"})
    assert load_plain(str(copy)) is not None
    (copy / "adapter_config.json").write_text("{}")
    assert load_plain(str(copy)) is None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["builtin", "dinov2"])
def test_a_warm_load_imports_nothing_but_torch(name: str, copy: Path) -> None:
    code = (
        "import sys; from dinoclassify.models.open import open_model; open_model(sys.argv[1]).load(); "
        "print([name for name in ('transformers', 'torch._dynamo', 'sympy', 'scipy') if name in sys.modules])"
    )
    model = name if name == "builtin" else str(copy)
    open_model(model)
    command = [sys.executable, "-c", code, model]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


def _save_dinov2(folder: Path, settings: dict[str, Any], registers: int | None) -> None:
    torch.manual_seed(0)
    model: nn.Module
    if registers is None:
        model = hf.Dinov2ForImageClassification(hf.Dinov2Config(**DINOV2, **settings))
    else:
        config = hf.Dinov2WithRegistersConfig(**DINOV2, **settings, num_register_tokens=registers)
        model = hf.Dinov2WithRegistersForImageClassification(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)


def _assert_same(folder: Path) -> None:
    plain, theirs = load_plain(str(folder)), load_weights(str(folder), "m")
    assert plain is not None
    assert {value.dtype for value in plain.state_dict().values()} == {torch.float32}
    pixels = _pixels(2, 56, 56)
    assert torch.equal(_logits(plain, pixels), _logits(theirs, pixels))


def _pixels(count: int, height: int, width: int) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def _logits(module: nn.Module, pixels: Tensor) -> Tensor:
    logits: Tensor = module(pixel_values=pixels).logits
    return logits
