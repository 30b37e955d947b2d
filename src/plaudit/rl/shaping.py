"""From scores to a reward per token: the KL leash, the score at the end, the price of not ending.

Shapes: B responses, T response tokens, O objectives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from plaudit.types import InputError, Judged

USUAL = 0.95
"""Share of held-out answers beyond whose distance a response counts as unfamiliar."""


def kl_estimate(logprobs: Tensor, ref_logprobs: Tensor, estimator: Literal["k1", "k2", "k3"]) -> Tensor:
    """Per-token estimate of KL(policy || reference) from tokens the policy sampled (Schulman 2020).

    k1 = log(pi/ref), unbiased; k2 = k1^2/2, biased, low variance; k3 = exp(-k1) - 1 + k1, unbiased, never negative.
    """
    k1 = logprobs - ref_logprobs
    match estimator:
        case "k1":
            return k1
        case "k2":
            return k1.square() / 2
        case "k3":
            return torch.expm1(-k1) + k1


def cautious(scores_BEO: Tensor, take: Literal["mean", "lower", "worst"], *, deviations: float) -> Tensor:
    """What to believe of E members' scores [B, E, O]: their mean, the mean less so many of their deviations, or the
    worst of them (Coste et al. 2023). Members that agree are taken at their word by all three."""
    match take:
        case "mean":
            return scores_BEO.mean(dim=1)
        case "lower":
            return scores_BEO.mean(dim=1) - deviations * scores_BEO.std(dim=1, unbiased=False)
        case "worst":
            return scores_BEO.amin(dim=1)


def combine_objectives(scores_BO: Tensor, objectives: Sequence[str], weights: Mapping[str, float]) -> Tensor:
    """One score per response [B]: the weighted sum; an objective that is not named weighs 1."""
    unknown = sorted(set(weights) - set(objectives))
    if unknown:
        raise InputError(
            f"ppo.objective_weights names {', '.join(unknown)}, but the reward's objectives are {', '.join(objectives)}"
        )
    weights_O = torch.tensor([weights.get(o, 1.0) for o in objectives])
    return scores_BO @ weights_O.to(scores_BO)


def bend_scores(score_B: Tensor, way: Literal["none", "sigmoid", "clip"], *, limit: float) -> Tensor:
    """Scores [B] with their far ends drawn in, where a judge knows least and PPO goes first.

    sigmoid: the score of 0, "as good as the first model was", is where the slope is 1, and no score passes `limit`
    (sigma(r - r_ref), Fu et al. 2025, in units that leave the leash its length). clip: cut at +-limit.
    """
    match way:
        case "none":
            return score_B
        case "sigmoid":
            return 2 * limit * ((2 / limit * score_B).sigmoid() - 0.5)
        case "clip":
            return score_B.clamp(-limit, limit)


def is_unfamiliar(said: Judged) -> Tensor:
    """True [B] where a response is stranger to the judge than nineteen in twenty of the answers held out in its
    training; nowhere, where it cannot say."""
    if said.strange_B is None:
        return torch.zeros(len(said.scores_BEO), dtype=torch.bool)
    return said.strange_B > USUAL


def leave_one_out(score_B: Tensor, responses_per_prompt: int) -> Tensor:
    """Each score [B] less the mean of the other responses to its prompt (RLOO, Kool et al. 2019).

    Responses to one prompt stand next to each other. The difference of means does not depend on the response
    itself, so that the gradient stays unbiased.
    """
    score_PK = score_B.reshape(-1, responses_per_prompt)
    others_PK = (score_PK.sum(dim=1, keepdim=True) - score_PK) / (responses_per_prompt - 1)
    return (score_PK - others_PK).reshape(-1)


def shape_rewards(score_B: Tensor, kl_BT: Tensor, mask_BT: Tensor, *, coefficient: float) -> Tensor:
    """Reward per token [B, T]: -coefficient * KL everywhere, and the score at the last real token.

    Convention (detail: many codes pay one place after the EOS): the last real token, EOS or the token at the
    limit, receives the whole score itself. Rewards outside the mask are 0.
    """
    rewards_BT = torch.where(mask_BT, -coefficient * kl_BT, torch.zeros_like(kl_BT))
    last_B = mask_BT.sum(dim=1) - 1
    rewards_BT[torch.arange(len(score_B), device=score_B.device), last_B] += score_B
    return rewards_BT
