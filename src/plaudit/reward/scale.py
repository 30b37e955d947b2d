"""Any reward on the judge's own scale."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from plaudit.types import Prompt, RewardFunction


class Standardised:
    """A reward whose scores over the given responses average 0 with deviation 1, objective by objective; where they
    are all the same, its scale is left."""

    def __init__(self, reward: RewardFunction, prompts: Sequence[Prompt], responses: Sequence[str]) -> None:
        self.reward, self.objectives = reward, reward.objectives
        scores_BO = reward(prompts, responses)
        self.offset_O = scores_BO.mean(dim=0)
        deviation_O = scores_BO.std(dim=0, unbiased=False)
        # Responses that all score the same say nothing about the scale: leave it.
        self.scale_O = torch.where(deviation_O > 1e-6, deviation_O, torch.ones_like(deviation_O))

    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        return (self.reward(prompts, responses) - self.offset_O) / self.scale_O
