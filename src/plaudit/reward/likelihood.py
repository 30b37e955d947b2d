"""What the judge is trained to raise: the likelihood of what people said, and how far each is to be believed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from plaudit.rankings import aims_of, cross_entropy, mistaken, outcome_logprobs, pairs_of, plackett_luce_loss
from plaudit.recipe import Likelihood
from plaudit.types import Judgement

USUAL_MISTAKES = 0.08
"""What an annotator is taken for before anything is known of him: so many pairs of a hundred are named wrongly."""
SPREAD = 1.5
"""How far apart annotators are taken to be, as the deviation of the log-odds of a mistake, and half of it in units of
score for the first place."""


@dataclass(frozen=True, kw_only=True)
class Said:
    """What one judgement says of its K responses, and who said it."""

    ranks_K: Tensor
    first_M: Tensor
    second_M: Tensor
    chance_M: Tensor
    """Aimed at for "the first of the pair is better"; one half for a tie."""
    shift_M: Tensor
    """The margin that the first should be ahead by, at a margin of 1 per unit of strength."""
    ahead_M: Tensor
    """1 where the first of the pair was shown ahead of the second, -1 behind it, 0 where the order is not known."""
    news: float
    """Of the pairs, those that do not follow from others: what the judgement tells."""
    objective: int
    annotator: int


def said_by(judgement: Judgement, ranks_K: Tensor, *, objective: int, annotator: int) -> Said:
    unordered = judgement.unordered
    first, second, chance_M, shift_M = pairs_of(ranks_K, unordered=unordered, margin=judgement.strength or 0.0)
    place = {response: place for place, response in enumerate(judgement.display_order)}
    shown = [place.get(response) for response in range(len(ranks_K))]
    ahead = [
        0.0 if (a := shown[i]) is None or (b := shown[j]) is None else math.copysign(1.0, b - a)
        for i, j in zip(first.tolist(), second.tolist(), strict=True)
    ]
    return Said(
        ranks_K=ranks_K,
        first_M=first,
        second_M=second,
        chance_M=chance_M,
        shift_M=shift_M,
        ahead_M=torch.tensor(ahead),
        news=len(ranks_K) - 1.0 - max(0, len(unordered) - 1),
        objective=objective,
        annotator=annotator,
    )


class JudgementModel(nn.Module):
    """Scores -> what a judgement costs, in nats. What it learns beside the judge: how likely ties are, and annotators.

    The last of the annotators is nobody in particular: who was not there in training.
    """

    def __init__(self, config: Likelihood, *, objectives: int, annotators: Sequence[str]) -> None:
        super().__init__()
        self.config, self.names = config, tuple(annotators)
        self.number = {name: index for index, name in enumerate(self.names)}
        self.log_tie_O = nn.Parameter(torch.full((objectives,), -1.0), requires_grad=config.ties != "half")
        usual = math.log(2 * USUAL_MISTAKES / (1 - 2 * USUAL_MISTAKES))
        self.mistakes_A = nn.Parameter(torch.full((len(self.names) + 1,), usual), requires_grad=False)
        self.first_A = nn.Parameter(torch.zeros(len(self.names) + 1), requires_grad=False)

    def trained(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    @property
    def flip_A(self) -> Tensor:
        """Chance of each annotator to name the wrong one of a pair, 0 to 0.5."""
        return self.mistakes_A.sigmoid() / 2

    def index_of(self, annotator: str) -> int:
        return self.number.get(annotator, len(self.names))

    def losses(self, scores_BO: Tensor, said: Sequence[Said], *, own_mistakes: Tensor | None = None) -> Tensor:
        """The cost of each judgement [R]; rows of the scores are their responses, one judgement after the other.
        `own_mistakes`: chance that the judge itself has a pair the wrong way round, whoever judged it."""
        starts = [0]
        for one in said:
            starts.append(starts[-1] + len(one.ranks_K))
        if self.config.ranking == "plackett_luce":
            return torch.stack([
                plackett_luce_loss(scores_BO[start : start + len(one.ranks_K), one.objective], one.ranks_K)
                for start, one in zip(starts, said, strict=False)
            ])  # fmt: skip
        counts = torch.tensor([len(one.first_M) for one in said])
        rows = torch.arange(len(said)).repeat_interleave(counts).to(scores_BO.device)

        def joined(name: str, *, shifted: bool = False) -> Tensor:
            parts = [getattr(one, name) + (start if shifted else 0) for start, one in zip(starts, said, strict=False)]
            return torch.cat(parts).to(scores_BO.device)

        objective_M = torch.tensor([one.objective for one in said], device=scores_BO.device)[rows]
        first_M, second_M = joined("first_M", shifted=True), joined("second_M", shifted=True)
        differences_M = scores_BO[first_M, objective_M] - scores_BO[second_M, objective_M]
        differences_M = differences_M - self.config.margin * joined("shift_M")
        log_tie_M = self.log_tie_O[objective_M]
        if self.config.annotators == "alike":
            logprobs_M3 = outcome_logprobs(differences_M, ties=self.config.ties, log_tie=log_tie_M)
        else:
            annotator_M = torch.tensor([one.annotator for one in said], device=scores_BO.device)[rows]
            lead_M = self.first_A[annotator_M] * joined("ahead_M")
            logprobs_M3 = outcome_logprobs(differences_M + lead_M, ties=self.config.ties, log_tie=log_tie_M)
            if own_mistakes is not None:
                turned_M3 = outcome_logprobs(lead_M - differences_M, ties=self.config.ties, log_tie=log_tie_M)
                # What is never foreseen stays so; the sum of two log-probs of -inf has no gradient.
                either = [x.clamp(min=-1e4) for x in (logprobs_M3, turned_M3)]
                logprobs_M3 = torch.logaddexp(torch.log1p(-own_mistakes) + either[0], own_mistakes.log() + either[1])
            logprobs_M3 = mistaken(logprobs_M3, self.flip_A[annotator_M])
        aims_M3 = aims_of(joined("chance_M"), ties=self.config.ties, smoothing=self.config.smoothing)
        costs_M = cross_entropy(logprobs_M3, aims_M3) / counts.to(scores_BO.device)[rows]
        return torch.zeros(len(said), device=scores_BO.device).index_add(0, rows, costs_M)

    def find_annotators(self, said: Sequence[Said], scores: Sequence[Tensor]) -> None:
        """Set each annotator's mistakes and what the first place is worth to him to the likeliest, under the prior.

        `scores` [K, O] are the judge's from before it learned of these very judgements: what it has learned by heart
        nobody contradicts. What is wrong with the judge is found with them and is nobody's fault: a slope, since its
        scores are too small at first, and a chance to have a pair the wrong way round.
        """
        scores_BO = torch.cat(list(scores)).detach().to(self.mistakes_A.device)
        news_R = torch.tensor([one.news for one in said], device=scores_BO.device)
        log_slope, own = (torch.tensor(x, device=scores_BO.device, requires_grad=True) for x in (0.0, -1.0))
        found = [self.mistakes_A.requires_grad_(), self.first_A.requires_grad_()]
        solver = torch.optim.LBFGS([log_slope, own, *found], max_iter=100, line_search_fn="strong_wolfe")

        def cost() -> Tensor:
            solver.zero_grad()
            costs_R = self.losses(scores_BO * log_slope.exp(), said, own_mistakes=own.sigmoid() / 2)
            total = (news_R * costs_R).sum() + self.prior()
            total.backward()
            return total

        solver.step(cost)
        for parameter in found:
            parameter.requires_grad_(False)
        self.zero_grad()

    def prior(self) -> Tensor:
        """What it costs annotators to be unusual, in nats: few judgements say little of who made them."""
        usual = math.log(2 * USUAL_MISTAKES / (1 - 2 * USUAL_MISTAKES))
        odd = ((self.mistakes_A - usual) / SPREAD).square() + (self.first_A / (SPREAD / 2)).square()
        return odd.sum() / 2

    def figures(self, judgements: Sequence[Judgement]) -> dict[str, Any]:
        """What was learned of each annotator, for the summary; empty where they are taken to be alike."""
        if self.config.annotators == "alike":
            return {}
        many = {name: sum(j.annotator == name for j in judgements) for name in self.names}
        learned = zip(self.names, self.flip_A.tolist(), self.first_A.tolist(), strict=False)
        return {
            "annotators": {
                name: {"mistakes": flip, "first_place": first, "judgements": many[name]}
                for name, flip, first in learned
            }
        }
