"""Operations with a way back of their own, from which the fast layers are made.

A product takes what stands before it along: norms and gates are cheap, so that they are computed once more on the way
back, and only their input is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch.nn.functional import rms_norm, silu

from plaudit import kernels
from plaudit.models.packed import Packed, multiply, multiply_and_add, transposed

# -- what stands before a product, computed once more on the way back -------------------------------------------------


class Entry(Protocol):
    """A cheap function of what is kept, whose result is multiplied."""

    def there(self, x: Tensor) -> Tensor: ...

    def back(self, x: Tensor, grad: Tensor) -> Tensor:
        """The gradient at x."""
        ...


class Plain:
    def there(self, x: Tensor) -> Tensor:
        return x

    def back(self, x: Tensor, grad: Tensor) -> Tensor:
        return grad


class Normed:
    """RMSNorm (Zhang and Sennrich 2019): x / rms(x) * w, with a frozen w."""

    def __init__(self, norm: Any) -> None:
        self.weight, self.eps = cast(Tensor, norm.weight).detach(), float(norm.variance_epsilon)

    def _scale(self, x: Tensor) -> Tensor:
        """1 / rms(x), [..., 1], in float32 at least."""
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))
        return norm.square_().div_(x.shape[-1]).add_(self.eps).rsqrt_()

    def there(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu":
            return (x * self._scale(x)).to(x.dtype).mul_(self.weight)
        return rms_norm(x, (x.shape[-1],), self.weight, self.eps)

    def back(self, x: Tensor, grad: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return self._by_autograd(x, grad)
        scale = self._scale(x)
        grad = grad.to(scale.dtype) * self.weight
        # d/dx (x s) = s - x x^T s^3 / D, with s = 1 / rms(x)
        along = torch.linalg.vecdot(grad, x.to(scale.dtype)).unsqueeze(-1).mul_(scale.pow(3)).div_(-x.shape[-1])
        return grad.mul_(scale).addcmul_(x, along).to(x.dtype)

    def _by_autograd(self, x: Tensor, grad: Tensor) -> Tensor:
        """On a GPU torch has kernels for both ways."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return torch.autograd.grad(self.there(x), x, grad)[0]


class Gated:
    """silu(gate) * up (Shazeer 2020), of gate and up side by side."""

    def there(self, x: Tensor) -> Tensor:
        if kernels.usable(x):
            return kernels.gate(x)
        gate, up = x.chunk(2, dim=-1)
        return silu(gate).mul_(up)

    def back(self, x: Tensor, grad: Tensor) -> Tensor:
        if kernels.usable(x):
            return kernels.gate_back(x, grad)
        gate, up = x.chunk(2, dim=-1)
        out = torch.empty_like(x)
        at_gate, at_up = out.chunk(2, dim=-1)
        torch.mul(grad, silu(gate), out=at_up)
        torch.ops.aten.silu_backward.grad_input(grad * up, gate, grad_input=at_gate)
        return out


PLAIN, GATE = Plain(), Gated()


# -- differentiable pieces --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Terms:
    """An adapter's term of one product: x -> scale * x A^T B^T."""

    A_RI: Tensor
    B_OR: Tensor
    scale: float


def product(x: Tensor, packed: Packed, entry: Entry, terms: Terms | None, *, to: Tensor | None = None) -> Tensor:
    """entry(x) W^T + b, with the adapter's terms, added `to` what is there."""
    a, b, scale = (None, None, 0.0) if terms is None else (terms.A_RI, terms.B_OR, terms.scale)
    return cast(Tensor, _Product.apply(x, a, b, to, packed, entry, scale))


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        A_RI: Tensor | None,
        B_OR: Tensor | None,
        to: Tensor | None,
        packed: Packed,
        entry: Entry,
        scale: float,
    ) -> Tensor:
        inputs_NI = entry.there(x).flatten(0, -2)
        out_NO = packed.there(inputs_NI)
        narrow_NR = None
        if A_RI is not None and B_OR is not None:
            narrow_NR = multiply(inputs_NI, A_RI).mul_(scale)
            out_NO = multiply_and_add(narrow_NR, B_OR, out_NO)
        if to is not None:
            out_NO += to.flatten(0, -2)
        ctx.save_for_backward(x, A_RI, B_OR, narrow_NR)
        ctx.packed, ctx.entry, ctx.scale, ctx.added = packed, entry, scale, to is not None
        return out_NO.unflatten(0, x.shape[:-1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, A_RI, B_OR, narrow_NR = ctx.saved_tensors
        entry, need = cast(Entry, ctx.entry), ctx.needs_input_grad[0]
        grad_NO = grads[0].flatten(0, -2).contiguous()
        grad_NI = cast(Packed, ctx.packed).back(grad_NO) if need else None
        grad_A = grad_B = None
        if A_RI is not None:
            inputs_NI = entry.there(x).flatten(0, -2)
            thin_NR = multiply(grad_NO, transposed(B_OR)).mul_(ctx.scale)
            grad_B = multiply(narrow_NR.t(), grad_NO.t()).t()
            grad_A = multiply(thin_NR.t(), inputs_NI.t())
            if grad_NI is not None:
                grad_NI = multiply_and_add(thin_NR, transposed(A_RI), grad_NI)
        grad_x = None if grad_NI is None else entry.back(x, grad_NI.unflatten(0, x.shape[:-1]))
        return grad_x, grad_A, grad_B, grads[0] if ctx.added else None, None, None, None


def normed(x: Tensor, norm: Normed) -> Tensor:
    return cast(Tensor, _Norm.apply(x, norm))


class _Norm(torch.autograd.Function):
    """A norm that nothing is multiplied by: the last one, and those of queries and keys."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, norm: Normed) -> Tensor:
        ctx.save_for_backward(x)
        ctx.norm = norm
        return norm.there(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return ctx.norm.back(x, grads[0]), None


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [B, S, heads, width], turned by angles [B, S, 1, width / 2]."""
    return cast(Tensor, _Turn.apply(x, cos, sin))


class _Turn(torch.autograd.Function):
    """Rotary positions (Su et al. 2021) in the half-split layout; the way back turns the other way."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return turned(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return turned(grads[0], cos, -sin), None, None


def pick(x: Tensor, rows: Tensor) -> Tensor:
    """Some rows of x, each once."""
    return cast(Tensor, _Picked.apply(x, rows))


def spread(x: Tensor, rows: Tensor, count: int) -> Tensor:
    """The other way round: rows to their places among `count`, zeros around them."""
    return cast(Tensor, _Spread.apply(x, rows, count))


class _Picked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.count = len(x)
        return x.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _put(grads[0], ctx.saved_tensors[0], ctx.count), None


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, count: int) -> Tensor:
        ctx.save_for_backward(rows)
        return _put(x, rows, count)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return grads[0].index_select(0, ctx.saved_tensors[0]), None, None


def _put(x: Tensor, rows: Tensor, count: int) -> Tensor:
    return x.new_zeros(count, *x.shape[1:]).index_copy_(0, rows, x)


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    out = torch.empty_like(x)
    (first, second), (one, other) = x.chunk(2, dim=-1), out.chunk(2, dim=-1)
    torch.mul(first, cos, out=one).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=other).addcmul_(first, sin)
    return out
