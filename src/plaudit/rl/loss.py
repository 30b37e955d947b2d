"""The clipped losses of PPO (Schulman et al. 2017), per token; N real tokens, flattened."""

from __future__ import annotations

import torch
from torch import Tensor


def policy_loss(logprobs_N: Tensor, old_logprobs_N: Tensor, advantages_N: Tensor, *, clip: float) -> Tensor:
    """-min(rho A, clip(rho, 1 - clip, 1 + clip) A) for each token [N].

    The gradient is 0 just where the step has gone far enough: A > 0 and rho > 1 + clip, or A < 0 and rho < 1 - clip.
    """
    ratio_N = (logprobs_N - old_logprobs_N).exp()
    return -torch.minimum(ratio_N * advantages_N, ratio_N.clamp(1 - clip, 1 + clip) * advantages_N)


def sampler_weights(logprobs_N: Tensor, sampler_logprobs_N: Tensor, *, cap: float | None) -> Tensor:
    """min(pi(token) / sampler(token), cap) for each token [N], pi being the policy before the update; 1 where no cap.

    Truncated importance sampling (Ionides 2008): tokens were drawn by the sampler, the loss is about the policy. The
    cap bounds the variance; the weights of a sampler that agrees are exactly 1.
    """
    if cap is None:
        return torch.ones_like(logprobs_N)
    return (logprobs_N - sampler_logprobs_N).exp().clamp(max=cap)


def value_loss(values_N: Tensor, old_values_N: Tensor, returns_N: Tensor, *, clip: float) -> Tensor:
    """0.5 * max((V - R)^2, (clip(V, V_old +- clip) - R)^2) for each token [N]."""
    clipped_N = old_values_N + (values_N - old_values_N).clamp(-clip, clip)
    return 0.5 * torch.maximum((values_N - returns_N).square(), (clipped_N - returns_N).square())


def approximate_kl(logprobs_N: Tensor, old_logprobs_N: Tensor) -> Tensor:
    """KL(old || new) per token from tokens of the old policy, as (rho - 1) - log rho: never negative."""
    log_ratio_N = logprobs_N - old_logprobs_N
    return torch.expm1(log_ratio_N) - log_ratio_N
