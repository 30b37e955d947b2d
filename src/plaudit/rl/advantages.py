"""Generalised advantage estimation (Schulman et al. 2016). Shapes: B responses, T response tokens."""

from __future__ import annotations

import torch
from torch import Tensor


def gae(rewards_BT: Tensor, values_BT: Tensor, mask_BT: Tensor, *, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """(advantages, returns), both [B, T] and 0 outside the mask.

    Terminal convention: the value after the last real token is 0, whether the response ended by itself or at the
    limit. The mask's real tokens are contiguous from t = 0. Computed on the CPU: thousands of operations on few
    numbers, each of which a GPU would take longer to start than to do.
    """
    device = rewards_BT.device
    rewards_BT, values_BT, mask_BT = (x.cpu() for x in (rewards_BT, values_BT, mask_BT))
    advantages_BT = torch.zeros_like(rewards_BT)
    following_B = torch.zeros_like(rewards_BT[:, 0])
    next_value_B = torch.zeros_like(following_B)
    for t in reversed(range(rewards_BT.shape[1])):
        real_B = mask_BT[:, t]
        delta_B = rewards_BT[:, t] + gamma * next_value_B - values_BT[:, t]
        following_B = torch.where(real_B, delta_B + gamma * lam * following_B, torch.zeros_like(delta_B))
        next_value_B = torch.where(real_B, values_BT[:, t], torch.zeros_like(delta_B))
        advantages_BT[:, t] = following_B
    returns_BT = torch.where(mask_BT, advantages_BT + values_BT, torch.zeros_like(values_BT))
    return advantages_BT.to(device), returns_BT.to(device)
