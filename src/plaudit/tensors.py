"""The shared maths: tensors in, tensors out, nothing remembered.

Shapes: B sequences, T response tokens, N real tokens (flattened), D width, V vocabulary.
A mask is boolean, True where a value counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from plaudit import kernels

LOWEST = torch.finfo(torch.float32).min


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


def logprobs_and_entropy(logits_NV: Tensor, tokens_N: Tensor) -> tuple[Tensor, Tensor]:
    """Log-prob of each token and entropy of each distribution, in float32: ([N], [N]). The entropy has no gradient."""
    logits_NV = logits_NV.float()
    chosen_N, chances_NV = cast(tuple[Tensor, Tensor], ChosenLogprobs.apply(logits_NV, tokens_N))
    with torch.no_grad():
        total_N = logits_NV.gather(-1, tokens_N.unsqueeze(-1)).squeeze(-1) - chosen_N
        entropy_N = total_N - torch.linalg.vecdot(chances_NV, logits_NV)
        if bool(entropy_N.isnan().any()):
            # Tokens outside the nucleus, at -inf, add nothing: their chance is 0, and 0 * -inf is NaN.
            entropy_N = total_N - torch.linalg.vecdot(chances_NV, logits_NV.clamp(min=LOWEST))
    return chosen_N, entropy_N


class ChosenLogprobs(torch.autograd.Function):
    """Log-probs of chosen tokens, and the distributions (no gradient). One softmax serves the log-probs, the entropy
    and the backward pass: memory is what the head of a small model waits for."""

    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, tokens_N: Tensor) -> tuple[Tensor, Tensor]:
        chances_NV = logits_NV.softmax(dim=-1)
        largest_N1, where_N1 = logits_NV.max(dim=-1, keepdim=True)
        # The largest chance is no smaller than 1/V; that of a chosen token may be 0 in float32.
        total_N1 = largest_N1 - chances_NV.gather(-1, where_N1).log()
        ctx.save_for_backward(chances_NV, tokens_N)
        ctx.mark_non_differentiable(chances_NV)
        return (logits_NV.gather(-1, tokens_N.unsqueeze(-1)) - total_N1).squeeze(-1), chances_NV

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        chances_NV, tokens_N = ctx.saved_tensors
        grad_N1 = grads[0].unsqueeze(-1)
        return (chances_NV * -grad_N1).scatter_add_(-1, tokens_N.unsqueeze(-1), grad_N1), None


@dataclass(frozen=True, kw_only=True)
class Head:
    """How logits come of states."""

    unembed: Callable[[Tensor], Tensor]
    """States [n, D] -> logits [n, V]."""
    frozen: bool
    """Nothing in it is trained: only the states have a gradient."""
    chunk: int
    """Tokens whose logits exist at a time."""


def logits_chunk(vocabulary: int, *, frozen: bool, cpu: bool) -> int:
    """How many tokens' logits should exist at a time. On a CPU so few that they stay near its caches and below the
    size (32 MB) from which each is a mapping of its own. A trained head is computed twice where there are several."""
    return max(32, 2**22 // vocabulary) if frozen and cpu else 1024


def token_logprobs(
    states_ND: Tensor, tokens_N: Tensor, head: Head, *, temperature: float = 1.0, top_p: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Log-probs and entropies of `tokens_N` predicted from `states_ND`: ([N], [N]), float32.

    Logits exist for `head.chunk` tokens at a time, in the backward pass too, so that [N, V] never exists.
    Temperature and top-p are those of sampling, or the ratio would not be 1.
    """

    def one(states: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        logits = head.unembed(states)
        if kernels.usable(logits) and top_p >= 1.0:
            return kernels.chosen_logprobs(logits, tokens, temperature)
        logits = logits.float()
        if temperature != 1.0:
            logits = logits / temperature
        return logprobs_and_entropy(nucleus(logits, top_p, keep=tokens), tokens)

    trained = torch.is_grad_enabled() and (states_ND.requires_grad or not head.frozen)
    chunks = list(zip(states_ND.split(head.chunk), tokens_N.split(head.chunk), strict=True))
    if not len(tokens_N):
        empty = states_ND.new_zeros(0, dtype=torch.float32)
        return empty, empty
    if trained and head.frozen:
        return cast(tuple[Tensor, Tensor], _LogprobsOfRows.apply(states_ND, chunks, one))
    parts: list[tuple[Tensor, Tensor]] = []
    for states, tokens in chunks:
        if trained and len(chunks) > 1:
            parts.append(checkpoint(one, states, tokens, use_reentrant=False))  # pyright: ignore[reportArgumentType]
        else:
            parts.append(one(states, tokens))
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


class _LogprobsOfRows(torch.autograd.Function):
    """Log-probs under a frozen head. Each is a function of its own row of states alone, so that its gradient is a
    vector [D] that the way there can leave: the logits are computed once, and need not stay for the way back."""

    @staticmethod
    def forward(
        ctx: Any, states_ND: Tensor, chunks: list[tuple[Tensor, Tensor]], one: Callable[..., tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        logprobs: list[Tensor] = []
        entropies: list[Tensor] = []
        gradients: list[Tensor] = []
        for states, tokens in chunks:
            with torch.enable_grad():
                rows = states.detach().requires_grad_()
                logprobs_n, entropy_n = one(rows, tokens)
                gradients += torch.autograd.grad(logprobs_n.sum(), rows)
            logprobs.append(logprobs_n.detach())
            entropies.append(entropy_n)
        ctx.save_for_backward(torch.cat(gradients))
        entropy_N = torch.cat(entropies)
        ctx.mark_non_differentiable(entropy_N)
        return torch.cat(logprobs), entropy_N

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (gradient_ND,) = ctx.saved_tensors
        return grads[0].unsqueeze(-1).to(gradient_ND.dtype) * gradient_ND, None, None
