"""Any reward on the judge's own scale."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from plaudit.types import Prompt, RewardFunction


class Standardised:
    """A reward whose scores over the given responses average 0 with deviation 1, objective by objective."""

    def __init__(self, reward: RewardFunction, prompts: Sequence[Prompt], responses: Sequence[str]) -> None:
        self.reward, self.objectives = reward, reward.objectives
        scores_BO = reward(prompts, responses)
        self.offset_O = scores_BO.mean(dim=0)
        self.scale_O = scores_BO.std(dim=0, unbiased=False).clamp(min=1e-6)

    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        return (self.reward(prompts, responses) - self.offset_O) / self.scale_O
