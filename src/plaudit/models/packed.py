"""Frozen weights, packed once for the processor that multiplies by them (oneDNN, float32, on a CPU).

A product with a plain weight packs it anew each time: for a few rows that costs more than the product itself, and for
a thousand still a fifth (docs/performance.md). On a GPU, in another precision, and where oneDNN is missing or does not
prove to give the same numbers, weights stay as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cache, cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

ROWS = 32
"""For how many rows weights are packed. The same packing was the fastest for 1024 rows too."""
NARROW = 96
"""Rows up to which a plain weight is multiplied from the left."""


class Packed:
    """x W^T + b for rows x [..., in] and weights that do not change, one below the other. Only x has a gradient.

    Several weights that cannot be packed become views of one tensor, so that nothing is held twice.
    """

    def __init__(self, *weights: Tensor, bias: Tensor | None = None) -> None:
        self.packs = can_pack(weights[0])
        self.dtype, self.bias = weights[0].dtype, bias
        kept = (weight.detach() for weight in weights) if self.packs else (side_by_side(weights),)
        self._weights: tuple[Tensor, ...] | None = tuple(kept)

    @classmethod
    def one_way(cls, *weights: Tensor, bias: Tensor | None = None) -> Packed:
        """For decoding: packed now, without gradients, and without a hold on the plain weights."""
        made = cls.__new__(cls)
        made.packs, made.dtype, made.bias = True, weights[0].dtype, bias
        made._weights = weights
        made._there  # noqa: B018  packed now
        made._weights = None
        return made

    def __call__(self, x: Tensor) -> Tensor:
        if x.requires_grad and torch.is_grad_enabled():
            return cast(Tensor, _Product.apply(x, self))
        return self.there(x)

    def there(self, x: Tensor) -> Tensor:
        """x W^T + b"""
        return _by_onednn(x, self._there, self.bias) if self.packs else plain_product(x, self._plain(), self.bias)

    def back(self, grad: Tensor) -> Tensor:
        """grad W: the gradient at x."""
        return _by_onednn(grad, self._back) if self.packs else grad @ self._plain()

    def _plain(self) -> Tensor:
        assert self._weights is not None, "a product of one way has no gradient"
        return self._weights[0] if len(self._weights) == 1 else torch.cat(self._weights)

    @cached_property
    def _there(self) -> Tensor:
        """Packed for the way there, when it is first gone."""
        return pack(self._plain())

    @cached_property
    def _back(self) -> Tensor:
        """Packed for the gradient's way back."""
        return pack(self._plain().t().contiguous())


def side_by_side(weights: Sequence[Tensor]) -> Tensor:
    """Weights one below the other; each is a view of the whole from now on."""
    if len(weights) == 1:
        return weights[0].detach()
    whole = torch.cat([weight.detach() for weight in weights])
    for weight, part in zip(weights, whole.split([len(weight) for weight in weights]), strict=True):
        weight.data = part
    return whole


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, packed: Packed) -> Tensor:
        ctx.packed = packed
        return packed.there(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.packed.back(grads[0].contiguous()), None


class PackedLinear(nn.Linear):
    """A linear layer whose weight is frozen. Its copies are plain: they may be trained or merged into."""

    packed: Packed

    def forward(self, input: Tensor) -> Tensor:
        """Few rows are not worth the memory of a packed weight: a layer that sees no more of them never has one."""
        many = input.numel() >= ROWS * self.in_features
        return self.packed(input) if many and input.dtype == torch.float32 else super().forward(input)

    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Linear:
        plain = nn.Linear.__new__(nn.Linear)
        memo[id(self)] = plain
        plain.__dict__.update(copy.deepcopy({k: v for k, v in self.__dict__.items() if k != "packed"}, memo))
        return plain


def pack_linears(module: nn.Module) -> None:
    """Pack every plain linear layer inside a frozen module, in place, where this processor allows it."""
    for child in module.modules():
        if type(child) is nn.Linear and can_pack(child.weight):
            child.__class__ = PackedLinear
            child.__dict__["packed"] = Packed(child.weight, bias=child.bias)


def can_pack(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and packing_works()


def can_pack_rounded(weight: Tensor) -> bool:
    """The same for bfloat16, in which nothing but decoding multiplies."""
    if weight.device.type != "cpu" or weight.dtype != torch.bfloat16:
        return False
    return packing_works() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@cache
def packing_works() -> bool:
    """Whether oneDNN's products are there and give the numbers of plain ones."""
    if not torch.backends.mkldnn.is_available():
        return False
    weight, x = torch.linspace(-1, 1, 24 * 40).view(24, 40), torch.linspace(-2, 1, 3 * 40).view(3, 40)
    bias = torch.linspace(0, 1, 24)
    try:
        found = _by_onednn(x, pack(weight), bias)
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    return torch.allclose(found, linear(x, weight, bias), atol=1e-5, rtol=1e-5)


def pack(weight: Tensor) -> Tensor:
    """An opaque tensor that `multiply` takes for the weight [out, in]."""
    return cast(Tensor, torch.ops.mkldnn._reorder_linear_weight(weight, ROWS))


def _by_onednn(x: Tensor, packed: Tensor, bias: Tensor | None = None) -> Tensor:
    out = torch.ops.mkldnn._linear_pointwise(x.flatten(0, -2), packed, bias, "none", [], "")
    return cast(Tensor, out).unflatten(0, x.shape[:-1])


def multiply(x: Tensor, weight: Tensor) -> Tensor:
    """x W^T for a weight [out, in], packed or plain: for thin plain ones, too, oneDNN is up to four times as fast."""
    return _by_onednn(x, weight) if can_pack(x) else linear(x, weight)


def transposed(weight: Tensor) -> Tensor:
    """A thin weight the other way round: for oneDNN as it would lie there, which is faster than by its strides."""
    return weight.t().contiguous() if can_pack(weight) else weight.t()


def multiply_and_add(x_NI: Tensor, weight_OI: Tensor, to_NO: Tensor) -> Tensor:
    """x W^T + `to`, in one pass over what is added to, which may be overwritten."""
    if not can_pack(x_NI):
        return to_NO.addmm_(x_NI, weight_OI.t())
    return cast(Tensor, torch.ops.mkldnn._linear_pointwise.binary(x_NI, to_NO, weight_OI, None, "add"))


# -- few rows ---------------------------------------------------------------------------------------------------------

FEW = 24
"""Rows up to which reading the weights is what a product waits for."""


class Halved:
    """x W^T + b where rows are few, for weights one below the other: kept in float16, multiplied in float32 (FBGEMM).

    Half the bytes, for weights that float16 holds exactly (`can_halve`), as it does most of those that were published
    in bfloat16. More rows are multiplied by the plain weights, which are not held twice: they stay their owner's.
    """

    def __init__(self, *weights: Tensor, bias: Tensor | None = None) -> None:
        self.weights, self.bias = weights, bias
        whole = torch.cat(list(weights))
        self._half = torch.ops.quantized.linear_prepack_fp16(whole.float(), bias)

    def __call__(self, x: Tensor) -> Tensor:
        if x.numel() <= FEW * x.shape[-1]:
            out = torch.ops.quantized.linear_dynamic_fp16(x.flatten(0, -2), self._half)
            return cast(Tensor, out).unflatten(0, x.shape[:-1])
        out = torch.cat([multiply(x, weight) for weight in self.weights], dim=-1)
        return out if self.bias is None else out.add_(self.bias)


def can_halve(weights: Sequence[Tensor]) -> bool:
    """float32 on a processor that FBGEMM knows, and every one of them a float16 too."""
    if not all(w.device.type == "cpu" and w.dtype == torch.float32 for w in weights) or not halving_works():
        return False
    return all(torch.equal(weight.half().float(), weight) for weight in weights)


@cache
def halving_works() -> bool:
    """Whether FBGEMM's products are there and give the numbers of plain ones."""
    weight, x = torch.linspace(-1, 1, 24 * 40).view(24, 40), torch.linspace(-2, 1, 3 * 40).view(3, 40)
    bias = torch.linspace(0, 1, 24)
    try:
        found = torch.ops.quantized.linear_dynamic_fp16(x, torch.ops.quantized.linear_prepack_fp16(weight, bias))
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    return torch.allclose(found, linear(x, weight.half().float(), bias), atol=1e-5, rtol=1e-5)


def plain_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x W^T + b for rows x [..., in] and a weight that is not packed. A few rows on a CPU, as in decoding, are
    multiplied as columns from the left: MKL then reads the weights as they lie, where x W^T makes it pack them anew for
    every step."""
    if x.dim() != 2 or len(x) > NARROW or x.device.type != "cpu":
        return linear(x, weight, bias)
    out = (weight @ x.t()).t()
    return out if bias is None else out + bias
