"""The layers of the fast decoder: a network's weights side by side, and the cheap functions between their products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm

from plaudit.models.family import GATED, PROJECTIONS
from plaudit.models.fused_layers import FusedLayers
from plaudit.models.packed import Halved, Packed, can_halve, can_pack, can_pack_rounded, plain_product


class Matrix:
    """Linear layers over one input as one product: x -> x [W1; W2; ...]^T + b.

    When it is first used after a change it reads the layers' own weights, or those that were set in their place: of
    all of them or of none, since nothing but the product is kept. `shared` is their product where it is packed already;
    `dtype` is that of x and of the product, where it is not the weights'; with `few` rows are so few that the weights
    are kept in half precision.
    """

    def __init__(
        self,
        *sources: nn.Linear,
        shared: Packed | None = None,
        dtype: torch.dtype | None = None,
        few: bool = False,
    ) -> None:
        self.sources, self.shared, self.dtype, self.few = sources, shared, dtype, few
        self._replaced: dict[int, Tensor] = {}
        self._ready: Callable[[Tensor], Tensor] | None = None

    def __call__(self, x: Tensor) -> Tensor:
        if self._ready is None:
            self._ready = self._make()
        return self._ready(x)

    def replace(self, index: int, weight: Tensor) -> None:
        """Take this weight [out, in] for the layer's."""
        self._replaced[index] = weight
        self._ready = None

    def reread(self) -> None:
        """The layers have been trained."""
        self._ready = None

    @torch.no_grad()
    def _make(self) -> Callable[[Tensor], Tensor]:
        if not self._replaced and self.shared is not None:
            return self.shared
        weights = [self._replaced.get(i, source.weight.data) for i, source in enumerate(self.sources)]
        biases = [source.bias.data for source in self.sources if cast("Tensor | None", source.bias) is not None]
        assert len(self._replaced) in (0, len(self.sources)), "a weight was set for some of the layers alone"
        self._replaced = {}
        bias = torch.cat(biases) if biases else None
        if self.dtype is not None:
            weights = [weight.to(self.dtype) for weight in weights]
            bias = None if bias is None else bias.to(self.dtype)
        if self.few and can_halve(weights):
            return Halved(*weights, bias=bias)
        return _product_of(weights, bias)


def _product_of(weights: Sequence[Tensor], bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    if can_pack(weights[0]) or can_pack_rounded(weights[0]):
        return Packed.one_way(*weights, bias=bias)
    return partial(plain_product, weight=torch.cat(list(weights)) if len(weights) > 1 else weights[0], bias=bias)


@dataclass
class Layer:
    """One decoder layer; q over k over v, gate over up."""

    norm: nn.Module
    qkv: Matrix
    q_norm: nn.Module | None
    k_norm: nn.Module | None
    out: Matrix
    mlp_norm: nn.Module
    gate_up: Matrix
    down: Matrix


def rotate(x: Tensor, cos: Tensor, signed_sin: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021) in the half-split layout of transformers; of the first half the sines are
    negative."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, dims=-1), signed_sin)


class Norm(nn.Module):
    """RMSNorm as one operation."""

    def __init__(self, like: Any) -> None:
        super().__init__()
        self.weight, self.eps = like.weight, like.variance_epsilon

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float32 or x.device.type != "cpu":
            return rms_norm(x, (x.shape[-1],), self.weight, self.eps)
        scale = x.square().mean(dim=-1, keepdim=True).add_(self.eps).rsqrt_()
        return (x * scale).mul_(self.weight)


def fuse(module: Any, path: str, shared: FusedLayers | None, dtype: torch.dtype | None, *, few: bool) -> Layer:
    """One layer's weights, side by side."""
    attention = module.self_attn
    normed = hasattr(attention, "q_norm")

    def matrix(within: str, *names: str) -> Matrix:
        sources = (getattr(getattr(module, within), name) for name in names)
        ready = None if shared is None or dtype is not None else shared.packed(f"{path}.{within}.{names[0]}")
        return Matrix(*sources, shared=ready, dtype=dtype, few=few)

    return Layer(
        norm=Norm(module.input_layernorm),
        qkv=matrix("self_attn", *PROJECTIONS),
        q_norm=Norm(attention.q_norm) if normed else None,
        k_norm=Norm(attention.k_norm) if normed else None,
        out=matrix("self_attn", "o_proj"),
        mlp_norm=Norm(module.post_attention_layernorm),
        gate_up=matrix("mlp", *GATED),
        down=matrix("mlp", "down_proj"),
    )


def places(layer: Layer) -> list[tuple[str, tuple[Matrix, int]]]:
    """Where each linear layer stands: the product that it is part of, and its place there."""
    return [
        *((f"self_attn.{name}", (layer.qkv, i)) for i, name in enumerate(PROJECTIONS)),
        ("self_attn.o_proj", (layer.out, 0)),
        ("mlp.gate_proj", (layer.gate_up, 0)),
        ("mlp.up_proj", (layer.gate_up, 1)),
        ("mlp.down_proj", (layer.down, 0)),
    ]
