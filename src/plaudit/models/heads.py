"""Numbers read off the states: scores per objective, and the value."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn


class ScoreHead(nn.Module):
    """States [..., D] -> raw scores [..., O]. Starts as N(0, 1/(D+1)) without bias (Stiennon et al. 2020)."""

    def __init__(self, width: int, objectives: int, *, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(objectives, width, generator=generator) / math.sqrt(width + 1))

    def forward(self, states: Tensor) -> Tensor:
        return states.float() @ self.weight.T


class ValueHead(nn.Module):
    """States [..., D] -> values [...]. Starts at 0, or from a judge."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, states: Tensor) -> Tensor:
        return states.float() @ self.weight + self.bias


@dataclass(frozen=True, kw_only=True)
class ValueStart:
    """Where the value begins: a judge's adapter on the same trunk, and its heads joined by the recipe's weights."""

    part: str
    """Name of the judge's part on the trunk."""
    weight_D: Tensor
    bias: float
