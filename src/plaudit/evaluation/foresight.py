"""Does a judge know where it errs? How well a sign of doubt tells wrong pairs from right ones."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from scipy.stats import rankdata

from plaudit.intervals import Floats
from plaudit.types import Estimate, InputError


def auroc(doubt_M: Floats, wrong_M: Floats) -> float:
    """The chance that a wrong pair is doubted more than a right one; 0.5: the sign says nothing. Ties count half.

    `wrong_M` is 1 for a wrong pair and 0 for a right one. InputError where all are wrong, or none.
    """
    wrong = wrong_M > 0.5
    many, rest = int(wrong.sum()), int((~wrong).sum())
    if not many or not rest:
        raise InputError("a sign of doubt needs pairs that are wrong and pairs that are right")
    ranks_M = rankdata(doubt_M)
    return float((ranks_M[wrong].sum() - many * (many + 1) / 2) / (many * rest))


def auroc_interval(
    doubt_M: Sequence[float],
    wrong_M: Sequence[float],
    *,
    groups: Sequence[Hashable],
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """`auroc` with its percentile bootstrap interval; whole groups (prompts) are drawn."""
    doubt, wrong = np.asarray(doubt_M, dtype=np.float64), np.asarray(wrong_M, dtype=np.float64)
    value = auroc(doubt, wrong)
    places: dict[Hashable, list[int]] = {}
    for place, group in enumerate(groups):
        places.setdefault(group, []).append(place)
    members = [np.array(own) for own in places.values()]
    rng, drawn = np.random.default_rng(seed), list[float]()
    for _ in range(resamples):
        chosen = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        if 0 < wrong[chosen].sum() < len(chosen):
            drawn.append(auroc(doubt[chosen], wrong[chosen]))
    low, high = np.percentile(drawn or [value], [2.5, 97.5])
    return Estimate(value=value, low=float(low), high=float(high))
