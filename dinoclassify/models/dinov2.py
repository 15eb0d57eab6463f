"""DINOv2, with and without registers, in plain torch: the operations of transformers' classes, without their import.

That import takes longer than to load the model and classify an image. The names of the parameters are those in
checkpoints.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

_FAMILIES = ("dinov2", "dinov2_with_registers")
_SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "mlp_ratio", "image_size", "patch_size")
# These concern training, use as a backbone or the file; or transformers ignores them: intermediate_size, interpolate_*.
_WITHOUT_EFFECT = frozenset(
    {
        "_name_or_path",
        "apply_layernorm",
        "architectures",
        "attention_probs_dropout_prob",
        "drop_path_rate",
        "dtype",
        "finetuning_task",
        "hidden_dropout_prob",
        "initializer_range",
        "intermediate_size",
        "interpolate_antialias",
        "interpolate_offset",
        "label2id",
        "layerscale_value",
        "out_features",
        "out_indices",
        "problem_type",
        "reshape_hidden_states",
        "stage_names",
        "torch_dtype",
        "transformers_version",
    }
)


class Output(NamedTuple):
    """What a model gives: ``logits``, B x classes."""

    logits: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Dinov2Config:
    """The settings in a config.json that change what is computed."""

    model_type: str
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    mlp_ratio: int
    image_size: int
    patch_size: int
    layer_norm_eps: float
    qkv_bias: bool
    use_swiglu_ffn: bool
    use_mask_token: bool
    registers: int
    classes: int

    @classmethod
    def from_json(cls, settings: dict[str, Any]) -> Self | None:
        """The settings of a checkpoint; None if it is another model, or something in it is not known here."""
        known = dict(settings)
        family = known.pop("model_type", None)
        labels = known.pop("id2label", None)
        fixed = {"hidden_act": known.pop("hidden_act", None), "num_channels": known.pop("num_channels", None)}
        sizes = {name: known.pop(name, None) for name in _SIZES}
        flags = {name: known.pop(name, None) for name in ("qkv_bias", "use_swiglu_ffn")}
        flags["use_mask_token"] = known.pop("use_mask_token", True)
        eps = known.pop("layer_norm_eps", None)
        sizes["registers"] = known.pop("num_register_tokens", None) if family == _FAMILIES[1] else 0
        if (
            family not in _FAMILIES
            or fixed != {"hidden_act": "gelu", "num_channels": 3}
            or not isinstance(labels, dict)
            or not all(type(flag) is bool for flag in flags.values())
            or not all(type(size) is int and size >= (name != "registers") for name, size in sizes.items())
            or sizes["hidden_size"] % sizes["num_attention_heads"]
            or type(eps) is not float
            or not known.keys() <= _WITHOUT_EFFECT
        ):
            return None
        return cls(model_type=family, layer_norm_eps=eps, classes=len(labels), **sizes, **flags)


class Dinov2(nn.Module):
    """A classifier: pixels, B x 3 x H x W -> logits."""

    head: ClassVar[str] = "classifier"

    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        self.base_name, self.registers = config.model_type, config.registers
        self.add_module(self.base_name, _Base(config))
        self.classifier = nn.Linear(2 * config.hidden_size, config.classes)

    def forward(self, pixel_values: Tensor) -> Output:
        """Compute the logits."""
        tokens: Tensor = self.get_submodule(self.base_name)(pixel_values)
        patches = tokens[:, 1 + self.registers :]
        return Output(self.classifier(torch.cat([tokens[:, 0], patches.mean(dim=1)], dim=1)))


class _Base(nn.Module):
    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        self.embeddings = _Embeddings(config)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))})
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, pixels: Tensor) -> Tensor:
        tokens: Tensor = self.embeddings(pixels)
        for layer in cast(nn.ModuleList, self.encoder["layer"]):
            tokens = layer(tokens)
        return cast(Tensor, self.layernorm(tokens))


class _Embeddings(nn.Module):
    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        width, patch = config.hidden_size, config.patch_size
        self.patch, self.grid = patch, config.image_size // patch
        self.has_registers = config.model_type == "dinov2_with_registers"
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        if config.use_mask_token or self.has_registers:  # only training uses it
            self.mask_token = nn.Parameter(torch.empty(1, width))
        if self.has_registers:
            self.register_tokens = nn.Parameter(torch.empty(1, config.registers, width))
        self.patch_embeddings = nn.ModuleDict({"projection": nn.Conv2d(3, width, patch, stride=patch)})
        self.position_embeddings = nn.Parameter(torch.empty(1, self.grid**2 + 1, width))

    def forward(self, pixels: Tensor) -> Tensor:
        count, _, height, width = pixels.shape
        patches = self.patch_embeddings["projection"](pixels).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(count, -1, -1), patches], dim=1)
        tokens = tokens + self._positions(int(height), int(width), patches=int(patches.shape[1]))
        if self.has_registers:
            tokens = torch.cat([tokens[:, :1], self.register_tokens.expand(count, -1, -1), tokens[:, 1:]], dim=1)
        return tokens

    def _positions(self, height: int, width: int, *, patches: int) -> Tensor:
        if patches == self.grid**2 and height == width:
            return self.position_embeddings
        places = self.position_embeddings[:, 1:].reshape(1, self.grid, self.grid, -1).permute(0, 3, 1, 2)
        resized = functional.interpolate(
            places.to(torch.float32),
            size=(height // self.patch, width // self.patch),
            mode="bicubic",
            align_corners=False,
            antialias=self.has_registers,
        ).to(places.dtype)
        resized = resized.permute(0, 2, 3, 1).reshape(1, -1, places.shape[1])
        return torch.cat([self.position_embeddings[:, :1], resized], dim=1)


class _Layer(nn.Module):
    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = _Attention(config)
        self.layer_scale1 = _Scale(config.hidden_size)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = _GatedMlp(config) if config.use_swiglu_ffn else _Mlp(config)
        self.layer_scale2 = _Scale(config.hidden_size)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = self.layer_scale1(self.attention(self.norm1(tokens))) + tokens
        return cast(Tensor, self.layer_scale2(self.mlp(self.norm2(tokens))) + tokens)


class _Attention(nn.Module):
    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        width = config.hidden_size
        self.head_width = width // config.num_attention_heads
        self.attention = nn.ModuleDict(
            {name: nn.Linear(width, width, bias=config.qkv_bias) for name in ("query", "key", "value")}
        )
        self.output = nn.ModuleDict({"dense": nn.Linear(width, width)})

    def forward(self, tokens: Tensor) -> Tensor:
        heads = (*tokens.shape[:-1], -1, self.head_width)
        query, key, value = (layer(tokens).view(heads).transpose(1, 2) for layer in self.attention.values())
        mixed = functional.scaled_dot_product_attention(query, key, value, scale=self.head_width**-0.5)
        return cast(Tensor, self.output["dense"](mixed.transpose(1, 2).reshape(tokens.shape)))


class _Scale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.lambda1 = nn.Parameter(torch.empty(width))

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens * self.lambda1


class _Mlp(nn.Module):
    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.hidden_size * config.mlp_ratio)
        self.fc2 = nn.Linear(config.hidden_size * config.mlp_ratio, config.hidden_size)

    def forward(self, tokens: Tensor) -> Tensor:
        return cast(Tensor, self.fc2(functional.gelu(self.fc1(tokens))))


class _GatedMlp(nn.Module):
    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        hidden = (int(config.hidden_size * config.mlp_ratio * 2 / 3) + 7) // 8 * 8
        self.weights_in = nn.Linear(config.hidden_size, 2 * hidden)
        self.weights_out = nn.Linear(hidden, config.hidden_size)

    def forward(self, tokens: Tensor) -> Tensor:
        halves = zip(self.weights_in.weight.chunk(2), self.weights_in.bias.chunk(2), strict=True)
        gate, values = (functional.linear(tokens, *half) for half in halves)  # one product rounds otherwise
        return cast(Tensor, self.weights_out(functional.silu(gate) * values))
