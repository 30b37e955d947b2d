"""The shared maths: tensors in, tensors out, nothing remembered.

Shapes: B sequences, T response tokens, N real tokens (flattened), D width, V vocabulary.
A mask is boolean, True where a value counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

LOWEST = torch.finfo(torch.float32).min
Unembed = Callable[[Tensor], Tensor]
"""states [n, D] -> logits [n, V]."""


def masked_sum(x: Tensor, mask: Tensor) -> Tensor:
    """Sum of the values where the mask is True. What lies outside may be anything, NaN included."""
    return torch.where(mask, x, torch.zeros_like(x)).sum()


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of the values where the mask is True; 0 if there are none."""
    return masked_sum(x, mask) / mask.sum().clamp(min=1)


def masked_variance(x: Tensor, mask: Tensor) -> Tensor:
    """Population variance (divisor N, as the TensorFlow original; algorithms' detail: not torch's default)."""
    return masked_mean((x - masked_mean(x, mask)) ** 2, mask)


def whiten(x: Tensor, mask: Tensor, *, shift_mean: bool = True, eps: float = 1e-8) -> Tensor:
    """Scale to variance 1 over the mask, and to mean 0 unless `shift_mean` is False; exactly 0 outside."""
    mean = masked_mean(x, mask)
    centred = (x - mean) * torch.rsqrt(masked_variance(x, mask) + eps)
    whitened = centred if shift_mean else centred + mean
    return torch.where(mask, whitened, torch.zeros_like(whitened))


def nucleus(logits: Tensor, top_p: float, keep: Tensor | None = None) -> Tensor:
    """Logits [..., V] with -inf outside the smallest set of tokens whose probability reaches `top_p`.

    `keep` [...] names a token that always stays: the sampled one, which must keep a log-prob when the
    model has moved since it was drawn. (Holtzman et al. 2020.)
    """
    if top_p >= 1.0:
        return logits
    ordered, order = logits.sort(dim=-1, descending=True)
    before = ordered.softmax(dim=-1).cumsum(dim=-1) - ordered.softmax(dim=-1)
    outside = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before >= top_p)
    if keep is not None:
        outside = outside.scatter(-1, keep.unsqueeze(-1), False)
    return logits.masked_fill(outside, float("-inf"))


class ChosenLogprobs(torch.autograd.Function):
    """Log-probs of chosen tokens, with a backward pass that touches [N, V] twice: autograd's own would make a log
    softmax, its exponential, a scatter and their sum, and memory is what the head of a small model waits for."""

    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, tokens_N: Tensor) -> tuple[Tensor, Tensor]:
        total_N = logits_NV.logsumexp(dim=-1)
        ctx.save_for_backward(logits_NV, tokens_N, total_N)
        ctx.mark_non_differentiable(total_N)
        return logits_NV.gather(-1, tokens_N.unsqueeze(-1)).squeeze(-1) - total_N, total_N

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        logits_NV, tokens_N, total_N = ctx.saved_tensors
        grad_N = grads[0].unsqueeze(-1)
        grad_NV = (logits_NV - total_N.unsqueeze(-1)).exp_().mul_(-grad_N)
        return grad_NV.scatter_add_(-1, tokens_N.unsqueeze(-1), grad_N), None


def logprobs_and_entropy(logits_NV: Tensor, tokens_N: Tensor) -> tuple[Tensor, Tensor]:
    """Log-prob of each token and entropy of each distribution, in float32: ([N], [N]). The entropy has no gradient."""
    logits_NV = logits_NV.float()
    chosen_N, total_N = cast(tuple[Tensor, Tensor], ChosenLogprobs.apply(logits_NV, tokens_N))
    with torch.no_grad():
        chances_NV = (logits_NV - total_N.unsqueeze(-1)).exp_()
        entropy_N = total_N - torch.linalg.vecdot(chances_NV, logits_NV)
        if bool(entropy_N.isnan().any()):
            # Tokens outside the nucleus, at -inf, add nothing: their chance is 0, and 0 * -inf is NaN.
            entropy_N = total_N - torch.linalg.vecdot(chances_NV, logits_NV.clamp(min=LOWEST))
    return chosen_N, entropy_N


def token_logprobs(
    states_ND: Tensor,
    tokens_N: Tensor,
    unembed: Unembed,
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
    chunk: int = 1024,
) -> tuple[Tensor, Tensor]:
    """Log-probs and entropies of `tokens_N` predicted from `states_ND`: ([N], [N]), float32.

    Logits exist for `chunk` tokens at a time, in the backward pass too (they are computed again there),
    so that [N, V] never exists. Temperature and top-p are those of sampling, or the ratio would not be 1.
    """

    def one(states: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        logits = unembed(states).float() / temperature
        return logprobs_and_entropy(nucleus(logits, top_p, keep=tokens), tokens)

    several = states_ND.shape[0] > chunk and torch.is_grad_enabled() and states_ND.requires_grad
    parts: list[tuple[Tensor, Tensor]] = []
    for states, tokens in zip(states_ND.split(chunk), tokens_N.split(chunk), strict=True):
        if several:
            parts.append(checkpoint(one, states, tokens, use_reentrant=False))  # pyright: ignore[reportArgumentType]
        else:
            parts.append(one(states, tokens))
    if not parts:
        empty = states_ND.new_zeros(0, dtype=torch.float32)
        return empty, empty
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
