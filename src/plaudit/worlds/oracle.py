"""The truth itself as a reward: the ceiling against which every learnt judge is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from plaudit.types import InputError, Prompt
from plaudit.worlds.truth import truth

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class OracleReward:
    """`plaudit.types.RewardFunction` with the hidden total as its one score."""

    objectives: tuple[str, ...] = ("total",)

    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        """[B, O] float32 on the CPU, in 0..1."""
        import torch

        if len(prompts) != len(responses):
            raise InputError(f"the oracle needs one prompt per response, got {len(prompts)} and {len(responses)}")
        rows = [truth(prompt, response) for prompt, response in zip(prompts, responses, strict=True)]
        return torch.tensor([[row[name] for name in self.objectives] for row in rows], dtype=torch.float32)


def oracle_reward() -> OracleReward:
    """The recipe names it `ppo.reward: plaudit.worlds.oracle:oracle_reward`."""
    return OracleReward()
