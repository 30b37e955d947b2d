"""What to have judged next: the answers from which a judge would learn most, none of them twice.

A judge's heads are linear in its states, so what a ranking would teach them is known before anybody is asked: the
information gain of Bayesian linear regression, which counts only the differences between the answers shown together
(D-optimal design: Chaloner and Verdinelli 1995). What is chosen counts as learned when the next is chosen, so the same
question in other words comes late.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import torch
from torch import Tensor

from plaudit.types import Question


def ask_next(
    states: Sequence[Tensor], asked: Sequence[Tensor], *, shown: int | None, count: int | None = None
) -> list[Question]:
    """One question for each prompt, those that teach most first.

    `states`: of the answers to each prompt [K, D]; `asked`: of the answers that were ranked together already [k, D];
    `shown`: so many answers at a time (all of them where None, or where there are fewer). After `count` questions the
    rest keep the order in which they stood then: what is far down will be asked anew before its turn comes.
    """
    if not states:
        return []
    belief = Belief.before([*states, *asked])
    for one in asked:
        belief.learn(one)
    found: list[Question] = []
    waiting: list[tuple[float, int, tuple[int, ...]]] = []
    for place, states_KD in enumerate(states):
        chosen, gain = belief.best(states_KD, shown)
        waiting.append((-gain, place, chosen))
    heapq.heapify(waiting)
    while waiting and len(found) < (len(states) if count is None else count):
        # Gains only fall as more is learned, so who is still first after a second look is the best of all.
        _, place, _ = heapq.heappop(waiting)
        chosen, gain = belief.best(states[place], shown)
        if waiting and gain < -waiting[0][0] * (1 - 1e-9):
            heapq.heappush(waiting, (-gain, place, chosen))
            continue
        found.append(Question(place=place, shown=chosen, gain=gain))
        belief.learn(states[place][list(chosen)])
    rest = [Question(place=place, shown=chosen, gain=-negative) for negative, place, chosen in sorted(waiting)]
    return found + rest


class Belief:
    """How unsure a linear judge is: the covariance of its weights, in units of what one comparison tells."""

    def __init__(self, covariance_DD: Tensor, scale: float) -> None:
        self.covariance_DD, self.scale = covariance_DD, scale

    @classmethod
    def before(cls, states: Sequence[Tensor]) -> Belief:
        """Nothing is known. The prior is such that the difference between two answers to one prompt is as unsure, on
        average, as a comparison is noisy."""
        centred = [one.double() - one.double().mean(dim=0) for one in states]
        squares = sum(float((one**2).sum()) for one in centred)
        freedom = sum(max(1, len(one) - 1) for one in centred)
        scale = (freedom / squares / 2) ** 0.5 if squares > 0 else 1.0
        width = states[0].shape[1]
        return cls(torch.eye(width, dtype=torch.float64), scale)

    def best(self, states_KD: Tensor, shown: int | None) -> tuple[tuple[int, ...], float]:
        """(which answers, information gain in nats) of the best question about a prompt: the pair that differs most
        where the judge is unsure, then one answer after the other that adds most."""
        states_KD = states_KD.double() * self.scale
        unsure_KK = states_KD @ self.covariance_DD @ states_KD.T
        everything = len(states_KD) if shown is None else min(shown, len(states_KD))
        variance_K = unsure_KK.diagonal()
        apart_KK = variance_K[:, None] + variance_K[None, :] - 2 * unsure_KK
        first, second = divmod(int(apart_KK.argmax()), len(states_KD))
        chosen = [first, second] if first != second else [0, 1][: len(states_KD)]
        if everything == len(states_KD):
            chosen = list(range(everything))
        while len(chosen) < everything:
            others = [i for i in range(len(states_KD)) if i not in chosen]
            tried_CS = torch.tensor([[*chosen, i] for i in others])
            chosen.append(others[int(_gains(unsure_KK[tried_CS[:, :, None], tried_CS[:, None, :]]).argmax())])
        chosen.sort()
        return tuple(chosen), float(_gains(unsure_KK[chosen][:, chosen][None]))

    def learn(self, states_KD: Tensor) -> None:
        """These answers were ranked, or will be."""
        states_KD = states_KD.double() * self.scale
        differences_KD = states_KD - states_KD.mean(dim=0)
        moved_DK = self.covariance_DD @ differences_KD.T
        noisy_KK = torch.eye(len(states_KD), dtype=torch.float64) + differences_KD @ moved_DK
        self.covariance_DD = self.covariance_DD - moved_DK @ torch.linalg.solve(noisy_KK, moved_DK.T)


def _gains(unsure_CSS: Tensor) -> Tensor:
    """1/2 ln det(I + C S C') of each of C sets of answers, centred: their mean is common to all, and no ranking tells
    it."""
    centred_CSS = unsure_CSS - unsure_CSS.mean(dim=1, keepdim=True)
    centred_CSS = centred_CSS - centred_CSS.mean(dim=2, keepdim=True)
    return 0.5 * torch.linalg.slogdet(torch.eye(unsure_CSS.shape[-1], dtype=torch.float64) + centred_CSS).logabsdet
