"""Numbers read off the states: scores per objective, and the value."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn


class ScoreHead(nn.Module):
    """States [..., D] -> raw scores [..., E, O] of E members. Starts as N(0, 1/(D+1)) without bias (Stiennon et al.
    2020), and remembers where: members differ by what they began as."""

    start_EOD: Tensor

    def __init__(self, width: int, objectives: int, *, members: int = 1, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        start_EOD = torch.randn(members, objectives, width, generator=generator) / math.sqrt(width + 1)
        self.register_buffer("start_EOD", start_EOD)
        self.weight_EOD = nn.Parameter(start_EOD.clone())

    def strayed(self) -> Tensor:
        """-log of the prior that each weight was drawn from, at where it is now (nats, less a constant)."""
        return (self.weight_EOD - self.start_EOD).square().sum() * (self.weight_EOD.shape[-1] + 1) / 2

    def forward(self, states: Tensor) -> Tensor:
        members, objectives, width = self.weight_EOD.shape
        return (states.float() @ self.weight_EOD.reshape(-1, width).T).unflatten(-1, (members, objectives))


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
