# pyright: basic, reportInvalidTypeForm=false
"""Kernels for CUDA devices, where what stands around the matrix products takes longer than the products themselves.

Each does in one pass over memory what torch does in several. Written for Triton, which comes with torch where there is
CUDA; without it, on a CPU, and for what is not covered here, callers have plain ways. `TRITON_INTERPRET=1` runs them on
a CPU, for tests.
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
HALF = (torch.bfloat16, torch.float16)

HAS_TRITON = find_spec("triton") is not None
if not HAS_TRITON:  # functions are functions then, and `usable` says no
    triton: Any = SimpleNamespace(jit=lambda function: function)
    tl: Any = triton
else:
    triton, tl = import_module("triton"), import_module("triton.language")


def usable(x: Tensor) -> bool:
    """Whether the kernels take this tensor: half precision on a CUDA device. In float32 the plain ways stand, which
    tests compare with a CPU."""
    return (x.is_cuda or INTERPRETED) and x.dtype in HALF and HAS_TRITON


# -- silu(gate) * up --------------------------------------------------------------------------------------------------


@triton.jit
def _gate_kernel(x, out, width, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    gate = tl.load(x + row * 2 * width + column, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(x + row * 2 * width + width + column, mask=inside, other=0.0).to(tl.float32)
    result = gate * tl.sigmoid(gate) * up
    tl.store(out + row * width + column, result.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _gate_back_kernel(x, grad, out, width, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    gate = tl.load(x + row * 2 * width + column, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(x + row * 2 * width + width + column, mask=inside, other=0.0).to(tl.float32)
    given = tl.load(grad + row * width + column, mask=inside, other=0.0).to(tl.float32)
    share = tl.sigmoid(gate)
    at_gate = given * up * share * (1.0 + gate * (1.0 - share))
    at_up = given * gate * share
    tl.store(out + row * 2 * width + column, at_gate.to(out.dtype.element_ty), mask=inside)
    tl.store(out + row * 2 * width + width + column, at_up.to(out.dtype.element_ty), mask=inside)


GATE_BLOCK = 1024


def gate(x: Tensor) -> Tensor:
    """silu(gate) * up [..., M] of both side by side [..., 2 M]."""
    x = x.contiguous()
    out = x.new_empty(*x.shape[:-1], x.shape[-1] // 2)
    rows, width = out.numel() // out.shape[-1], out.shape[-1]
    _gate_kernel[(rows, -(-width // GATE_BLOCK))](x, out, width, BLOCK=GATE_BLOCK)
    return out


def gate_back(x: Tensor, grad: Tensor) -> Tensor:
    """The gradient at x [..., 2 M], of that at what `gate` gave [..., M]."""
    x, grad = x.contiguous(), grad.contiguous()
    out = torch.empty_like(x)
    rows, width = grad.numel() // grad.shape[-1], grad.shape[-1]
    _gate_back_kernel[(rows, -(-width // GATE_BLOCK))](x, grad, out, width, BLOCK=GATE_BLOCK)
    return out


# -- log-probs of chosen tokens ---------------------------------------------------------------------------------------


@triton.jit
def _chosen_kernel(logits, tokens, logprobs, totals, entropies, vocabulary, scale, BLOCK: tl.constexpr):
    """One row: the log of the sum of exponentials, read once, and the mean logit for the entropy."""
    row = tl.program_id(0).to(tl.int64)
    start = logits + row * vocabulary
    largest = float("-inf")
    total = 0.0
    weighted = 0.0
    for first in range(0, vocabulary, BLOCK):
        column = first + tl.arange(0, BLOCK)
        inside = column < vocabulary
        z = tl.load(start + column, mask=inside, other=float("-inf")).to(tl.float32) * scale
        higher = tl.maximum(largest, tl.max(z, axis=0))
        shrunk = tl.exp(largest - higher)
        share = tl.exp(z - higher)
        total = total * shrunk + tl.sum(share, axis=0)
        weighted = weighted * shrunk + tl.sum(share * tl.where(share > 0.0, z, 0.0), axis=0)
        largest = higher
    token = tl.load(tokens + row)
    chosen = tl.load(start + token).to(tl.float32) * scale
    log_total = largest + tl.log(total)
    tl.store(logprobs + row, chosen - log_total)
    tl.store(totals + row, log_total)
    tl.store(entropies + row, log_total - weighted / total)


@triton.jit
def _chosen_back_kernel(logits, tokens, totals, grads, vocabulary, scale, BLOCK: tl.constexpr):
    """(1 at the token - softmax) * grad, over the logits themselves."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < vocabulary
    at = logits + row * vocabulary + column
    z = tl.load(at, mask=inside, other=0.0).to(tl.float32) * scale
    chance = tl.exp(z - tl.load(totals + row))
    one = tl.where(column == tl.load(tokens + row), 1.0, 0.0)
    grad = (one - chance) * tl.load(grads + row) * scale
    tl.store(at, grad.to(logits.dtype.element_ty), mask=inside)


CHOSEN_BLOCK = 4096


class ChosenLogprobs(torch.autograd.Function):
    """Log-probs of chosen tokens and entropies [N], float32, of logits [N, V] in half precision, divided by a
    temperature. The way back writes its gradient over the logits, which nobody reads any more."""

    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, tokens_N: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        logits_NV, tokens_N = logits_NV.contiguous(), tokens_N.contiguous()
        count, vocabulary = logits_NV.shape
        logprobs_N, totals_N, entropies_N = torch.empty(3, count, device=logits_NV.device).unbind()
        _chosen_kernel[(count,)](
            logits_NV,
            tokens_N,
            logprobs_N,
            totals_N,
            entropies_N,
            vocabulary,
            1 / temperature,
            BLOCK=CHOSEN_BLOCK,
            num_warps=8,
        )
        ctx.save_for_backward(logits_NV, tokens_N, totals_N)
        ctx.temperature = temperature
        ctx.mark_non_differentiable(entropies_N)
        return logprobs_N, entropies_N

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        logits_NV, tokens_N, totals_N = ctx.saved_tensors
        count, vocabulary = logits_NV.shape
        grid = (count, -(-vocabulary // CHOSEN_BLOCK))
        _chosen_back_kernel[grid](
            logits_NV,
            tokens_N,
            totals_N,
            grads[0].contiguous(),
            vocabulary,
            1 / ctx.temperature,
            BLOCK=CHOSEN_BLOCK,
            num_warps=8,
        )
        return logits_NV, None, None


def chosen_logprobs(logits_NV: Tensor, tokens_N: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """(log-probs, entropies), both [N]; the logits may be overwritten on the way back."""
    return cast("tuple[Tensor, Tensor]", ChosenLogprobs.apply(logits_NV, tokens_N, temperature))


# -- a token of decoding: queries and keys turned, keys and values put in their places --------------------------------


@triton.jit
def _turn_and_put_kernel(
    mixed,
    cos,
    sin,
    places,
    queries,
    keys,
    values,
    heads,
    kv_heads,
    num_places,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One head of one row; q over k over v in `mixed`."""
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    within = tl.arange(0, BLOCK)
    inside = within < WIDTH
    start = mixed + (row * (heads + 2 * kv_heads) + head) * WIDTH
    x = tl.load(start + within, mask=inside, other=0.0)
    place = tl.load(places + row)
    if head < heads + kv_heads:
        other = tl.load(start + (within + WIDTH // 2) % WIDTH, mask=inside, other=0.0).to(tl.float32)
        along = tl.load(cos + row * WIDTH + within, mask=inside, other=0.0).to(tl.float32)
        across = tl.load(sin + row * WIDTH + within, mask=inside, other=0.0).to(tl.float32)
        x = (x.to(tl.float32) * along + other * across).to(x.dtype)
    if head < heads:
        tl.store(queries + (row * heads + head) * WIDTH + within, x, mask=inside)
    else:
        kv = (head - heads) % kv_heads
        at = ((row * kv_heads + kv) * num_places + place) * WIDTH + within
        if head < heads + kv_heads:
            tl.store(keys + at, x, mask=inside)
        else:
            tl.store(values + at, x, mask=inside)


def turn_and_put(
    mixed_BI: Tensor,
    rotation: tuple[Tensor, Tensor],
    places_B: Tensor,
    keys_BHMD: Tensor,
    values_BHMD: Tensor,
) -> Tensor:
    """Queries [B, Q, D] of one token a row, turned by (cos, signed sin) [B, D]; its keys and values go to their place.

    `mixed_BI` has q over k over v.
    """
    rows, kv_heads, num_places, width = keys_BHMD.shape
    heads = mixed_BI.shape[1] // width - 2 * kv_heads
    cos_BD, sin_BD = (part.reshape(rows, width) for part in rotation)
    queries_BQD = mixed_BI.new_empty(rows, heads, width)
    block = 1 << (width - 1).bit_length()
    _turn_and_put_kernel[(rows, heads + 2 * kv_heads)](
        mixed_BI,
        cos_BD,
        sin_BD,
        places_B,
        queries_BQD,
        keys_BHMD,
        values_BHMD,
        heads,
        kv_heads,
        num_places,
        WIDTH=width,
        BLOCK=block,
    )
    return queries_BQD
