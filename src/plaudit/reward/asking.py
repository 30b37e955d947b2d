"""What to have judged next: of each prompt the answers among which a judge's members name others as best and worst.

What a choice would tell is the mutual information between it and the member who foresees it: the entropy of the mean
chances, less the mean entropy of the members' own (BALD: Houlsby et al. 2011, 1112.5745). It is large where each member
is sure and they contradict each other, and small where all of them take the answers for equals. Chances are those of
Plackett and Luce: a softmax of the scores for the best, of their negatives for the worst.

Which prompts are asked about is left to chance. Whoever takes those that would tell most has the judge learn of the few
kinds of prompts that it knows least, to the cost of all others (measured: docs/judge.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from plaudit.types import Question


def ask_next(scores: Sequence[Tensor], *, shown: int | None) -> list[Question]:
    """One question for each prompt, in the order in which the prompts came.

    `scores` [K, E, O]: of the answers to each prompt by every member on each objective, in log-odds; `shown`: so many
    answers at a time (all of them where None, or where there are fewer).
    """
    return [
        Question(place=place, shown=tuple(chosen), gain=gain)
        for place, (chosen, gain) in enumerate(best_of(scores_KEO, shown) for scores_KEO in scores)
    ]


def best_of(scores_KEO: Tensor, shown: int | None) -> tuple[list[int], float]:
    """(which answers, ascending, what they tell): the pair that tells most, then one after the other that adds most."""
    count = len(scores_KEO)
    sets = [list(range(count))] if shown is None or shown >= count else list(map(list, combinations(range(count), 2)))
    while True:
        told_C = told(scores_KEO[torch.tensor(sets)])
        chosen, gain = sets[int(told_C.argmax())], float(told_C.max())
        if shown is None or len(chosen) >= min(shown, count):
            return sorted(chosen), gain
        sets = [[*chosen, one] for one in range(count) if one not in chosen]


def told(scores_CSEO: Tensor) -> Tensor:
    """What naming the best and naming the worst of each of C sets of S answers would tell of the members [C], each by
    itself, in nats, summed over the objectives."""
    sides_2CSEO = torch.stack([scores_CSEO, -scores_CSEO]).double()
    logs_2CSEO = sides_2CSEO.log_softmax(dim=2)
    own_2CO = -(logs_2CSEO.exp() * logs_2CSEO).sum(dim=2).mean(dim=2)
    mean_2CSO = logs_2CSEO.exp().mean(dim=3)
    of_all_2CO = -torch.xlogy(mean_2CSO, mean_2CSO).sum(dim=2)
    return (of_all_2CO - own_2CO).clamp(min=0).sum(dim=(0, 2))
