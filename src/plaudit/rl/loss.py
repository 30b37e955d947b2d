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


def value_loss(values_N: Tensor, old_values_N: Tensor, returns_N: Tensor, *, clip: float) -> Tensor:
    """0.5 * max((V - R)^2, (clip(V, V_old +- clip) - R)^2) for each token [N]."""
    clipped_N = old_values_N + (values_N - old_values_N).clamp(-clip, clip)
    return 0.5 * torch.maximum((values_N - returns_N).square(), (clipped_N - returns_N).square())


def approximate_kl(logprobs_N: Tensor, old_logprobs_N: Tensor) -> Tensor:
    """KL(old || new) per token from tokens of the old policy, as (rho - 1) - log rho: never negative."""
    log_ratio_N = logprobs_N - old_logprobs_N
    return torch.expm1(log_ratio_N) - log_ratio_N
