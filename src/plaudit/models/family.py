"""Llama's family: decoders whose layers have Llama's modules under Llama's names, with or without norms of queries and
keys (Llama, Qwen2, Qwen3, Mistral without a window, SmolLM, ...)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor
from transformers import PreTrainedModel

PROJECTIONS = ("q_proj", "k_proj", "v_proj")
GATED = ("gate_proj", "up_proj")
ROUNDED = 0.05
"""How far half precision may lead two ways to one number apart, as a share of the largest: a network that is another
one is farther off."""


@dataclass(frozen=True)
class Shape:
    heads: int
    kv_heads: int
    head_width: int
    scaling: float
    activation: Callable[[Tensor], Tensor]

    @property
    def group(self) -> int:
        return self.heads // self.kv_heads

    @property
    def turning(self) -> int:
        """Width of queries and keys together, which are turned by their positions."""
        return (self.heads + self.kv_heads) * self.head_width


def shape_of_layer(module: Any) -> Shape:
    attention = module.self_attn
    return Shape(
        heads=attention.q_proj.out_features // attention.head_dim,
        kv_heads=attention.k_proj.out_features // attention.head_dim,
        head_width=attention.head_dim,
        scaling=attention.scaling,
        activation=module.mlp.act_fn,
    )


def is_of_the_family(model: PreTrainedModel) -> bool:
    """Llama's modules under Llama's names, with or without norms of queries and keys; no window, no bias in the MLP."""
    base, config = model.base_model, model.config.get_text_config()
    if set(dict(base.named_children())) != {"embed_tokens", "layers", "norm", "rotary_emb"}:
        return False
    kinds = getattr(config, "layer_types", None) or ["full_attention"]
    if set(kinds) != {"full_attention"} or getattr(config, "sliding_window", None) is not None:
        return False
    attention = {*PROJECTIONS, "o_proj"}
    for layer in cast(Any, base).layers:
        names = set(dict(layer.named_children()))
        if names != {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}:
            return False
        if set(dict(layer.self_attn.named_children())) not in (attention, attention | {"q_norm", "k_norm"}):
            return False
        if set(dict(layer.mlp.named_children())) != {"gate_proj", "up_proj", "down_proj", "act_fn"}:
            return False
        if any(m.bias is not None for m in (layer.mlp.gate_proj, layer.mlp.up_proj, layer.mlp.down_proj)):
            return False
    return True
