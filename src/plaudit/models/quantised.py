"""Frozen linear layers in four bits (NF4, Dettmers et al. 2023); adapters on top of them stay in float32.

A weight is 0.5 byte, and one float32 for each block. It is made whole again for the length of a product, and by
`weight`, so that merging, decoding and exporting read a layer like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import PreTrainedModel

from plaudit.models.structure import find_layers
from plaudit.types import InputError

BLOCK = 64
"""Weights that share a scale, their largest absolute value."""
BYTES_PER_WEIGHT = 0.5 + 4 / BLOCK


class NF4Linear(nn.Module):
    """A frozen linear layer: `packed` holds two weights a byte, `scales` the largest of each block."""

    packed: Tensor
    scales: Tensor

    def __init__(self, like: nn.Linear, device: torch.device) -> None:
        super().__init__()
        self.in_features, self.out_features, self.dtype = like.in_features, like.out_features, like.weight.dtype
        weight = like.weight.detach().to(device).contiguous()
        packed, state = _library().quantize_4bit(weight, blocksize=BLOCK, quant_type="nf4")
        self.register_buffer("packed", packed)
        self.register_buffer("scales", state.absmax)
        self.bias = cast(nn.Parameter | None, like.bias)

    @property
    def weight(self) -> Tensor:
        """The weight [out, in] as it counts, in the network's own dtype; made anew at each call."""
        library = _library()
        shape = torch.Size([self.out_features, self.in_features])
        state = library.QuantState(absmax=self.scales, shape=shape, dtype=self.dtype, blocksize=BLOCK, quant_type="nf4")
        return cast(Tensor, library.dequantize_4bit(self.packed, state))

    def forward(self, x: Tensor) -> Tensor:
        product = cast(Callable[[Tensor, NF4Linear], Tensor], _Product.apply)
        return product(x, self)

    def plain(self) -> nn.Linear:
        """The same layer with its weight whole."""
        made = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        made.weight = nn.Parameter(self.weight, requires_grad=False)
        if self.bias is not None:
            made.bias = self.bias
        return made


class _Product(torch.autograd.Function):
    """x W^T + b, which keeps neither x nor W for its backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: NF4Linear) -> Tensor:
        ctx.layer = layer
        return linear(x, layer.weight, layer.bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] @ ctx.layer.weight, None


def quantise(model: PreTrainedModel, device: torch.device) -> None:
    """Put the linear layers inside the decoder layers into four bits on `device`; embeddings, head and norms stay."""
    _library()
    _, layers = find_layers(model)
    linears = [(name, module) for name, module in layers.named_modules() if isinstance(module, nn.Linear)]
    if not linears:
        raise InputError("this model keeps its linear layers in a form that nf4 cannot hold; set model.quantise: none")
    for name, module in linears:
        layers.set_submodule(name, NF4Linear(module, device))


def is_quantised(model: nn.Module) -> bool:
    return any(isinstance(module, NF4Linear) for module in model.modules())


def numel(module: nn.Module) -> int:
    """Weights of a module, quantised ones among them."""
    packed = sum(m.in_features * m.out_features for m in module.modules() if isinstance(m, NF4Linear))
    return packed + sum(p.numel() for p in module.parameters())


def make_plain(model: PreTrainedModel) -> None:
    """Make every quantised layer whole again."""
    for name, module in list(model.named_modules()):
        if isinstance(module, NF4Linear):
            model.set_submodule(name, module.plain())


def _library() -> Any:
    # By name: the package is an extra, and has no types.
    try:
        return import_module("bitsandbytes.functional")
    except ImportError as error:
        raise InputError("model.quantise: nf4 needs bitsandbytes: pip install 'plaudit[quantised]'") from error
