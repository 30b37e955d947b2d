"""What to have judged next: the answers from which a judge would learn most, none of them twice.

A judge's heads are linear in its states, so what a ranking would teach them is known before anybody is asked: the
information gain of Bayesian linear regression, which counts only the differences between the answers shown together
(D-optimal design: Chaloner and Verdinelli 1995). What is chosen counts as learned when the next is chosen, so the same
question in other words comes late.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from plaudit.intervals import Floats
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
    could, known = ([one.double().numpy() for one in each] for each in (states, asked))
    belief = Belief.before([*could, *known])
    for one in known:
        belief.learn(one)
    found: list[Question] = []
    waiting: list[tuple[float, int, tuple[int, ...]]] = []
    for place, states_KD in enumerate(could):
        chosen, gain = belief.best(states_KD, shown)
        waiting.append((-gain, place, chosen))
    heapq.heapify(waiting)
    while waiting and len(found) < (len(states) if count is None else count):
        # Gains only fall as more is learned, so who is still first after a second look is the best of all.
        _, place, _ = heapq.heappop(waiting)
        chosen, gain = belief.best(could[place], shown)
        if waiting and gain < -waiting[0][0] * (1 - 1e-9):
            heapq.heappush(waiting, (-gain, place, chosen))
            continue
        found.append(Question(place=place, shown=chosen, gain=gain))
        belief.learn(could[place][list(chosen)])
    rest = [Question(place=place, shown=chosen, gain=-negative) for negative, place, chosen in sorted(waiting)]
    return found + rest


class Belief:
    """How unsure a linear judge is: the covariance of its weights, in units of what one comparison tells."""

    def __init__(self, covariance_DD: Floats, scale: float) -> None:
        self.covariance_DD, self.scale = covariance_DD, scale

    @classmethod
    def before(cls, states: Sequence[Floats]) -> Belief:
        """Nothing is known. The prior is such that the difference between two answers to one prompt is as unsure, on
        average, as a comparison is noisy."""
        squares = sum(float(((one - one.mean(axis=0)) ** 2).sum()) for one in states)
        freedom = sum(max(1, len(one) - 1) for one in states)
        scale = (freedom / squares / 2) ** 0.5 if squares > 0 else 1.0
        return cls(np.eye(states[0].shape[1]), scale)

    def best(self, states_KD: Floats, shown: int | None) -> tuple[tuple[int, ...], float]:
        """(which answers, information gain in nats) of the best question about a prompt: the pair that differs most
        where the judge is unsure, then one answer after the other that adds most."""
        many = len(states_KD)
        unsure_KK = self.scale**2 * states_KD @ self.covariance_DD @ states_KD.T
        if shown is None or shown >= many:
            return tuple(range(many)), float(_gains(unsure_KK[None])[0])
        variance_K = unsure_KK.diagonal()
        apart_KK = np.triu(variance_K[:, None] + variance_K[None, :] - 2 * unsure_KK, k=1)
        first, second = divmod(int(apart_KK.argmax()), many)
        chosen = [first, second] if first != second else [0, 1]
        while len(chosen) < shown:
            others = [i for i in range(many) if i not in chosen]
            tried_CS = np.array([[*chosen, i] for i in others])
            chosen.append(others[int(_gains(unsure_KK[tried_CS[:, :, None], tried_CS[:, None, :]]).argmax())])
        chosen.sort()
        return tuple(chosen), float(_gains(unsure_KK[np.ix_(chosen, chosen)][None])[0])

    def learn(self, states_KD: Floats) -> None:
        """These answers were ranked, or will be."""
        differences_KD = self.scale * (states_KD - states_KD.mean(axis=0))
        moved_DK = self.covariance_DD @ differences_KD.T
        noisy_KK = np.eye(len(states_KD)) + differences_KD @ moved_DK
        self.covariance_DD = self.covariance_DD - moved_DK @ np.linalg.solve(noisy_KK, moved_DK.T)


def _gains(unsure_CSS: Floats) -> Floats:
    """1/2 ln det(I + M S M) of each of C sets of answers. M takes their mean away, which is common to all, and no
    ranking tells it; since M M = M, and det(I + A B) = det(I + B A), it is enough to do so from one side."""
    centred_CSS = unsure_CSS - unsure_CSS.mean(axis=1, keepdims=True)
    return 0.5 * np.linalg.slogdet(np.eye(unsure_CSS.shape[-1]) + centred_CSS)[1]
