"""How good a judge would be with more labels: accuracy against rankings so far and to come, and what a point costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from plaudit.evaluation.pairs import PairOutcome, pair_accuracy
from plaudit.intervals import Floats, drawn_means
from plaudit.types import Estimate, InputError

TO_COME = (2, 4)
"""Times the labels there are, at which the curve is told."""
POINT = 0.01
LEAST_GAP = 1e-3
"""A curve that has come so near to its ceiling is taken to be that far from it: a logarithm needs some distance."""
STEEPEST = 1.0
"""Of the exponent. Judges in the literature have less than half; from few pairs chance alone makes more."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A judge that learned from part of the rankings, on the held-out pairs: the same ones for every part."""

    rankings: int
    outcomes: Sequence[PairOutcome]


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """accuracy(n) = ceiling - distance n^-steepness."""

    ceiling: float
    distance: float
    steepness: float

    def at(self, rankings: float) -> float:
        return self.ceiling - self.distance * rankings**-self.steepness

    def needed(self, accuracy: float) -> float:
        """Rankings at which the accuracy is reached; infinite where it never is."""
        if accuracy >= self.ceiling or self.steepness <= 0:
            return math.inf
        logarithm = math.log(self.distance / (self.ceiling - accuracy)) / self.steepness
        return math.exp(logarithm) if logarithm < 300 else math.inf


def fit_power_law(rankings: Sequence[float], accuracy: Sequence[float], *, ceiling: float) -> PowerLaw:
    """Least squares of ln(ceiling - accuracy) over ln n. Points count by the square of their distance from the ceiling,
    since the logarithm of a short one is mostly noise. The ceiling is given: a few points do not tell it."""
    if len(set(rankings)) < 2:
        raise InputError("a learning curve needs accuracies at two numbers of rankings, or more")
    x = np.log(np.asarray(rankings, dtype=np.float64))
    gaps = np.maximum(LEAST_GAP, ceiling - np.asarray(accuracy, dtype=np.float64))
    y, weight = np.log(gaps), gaps**2 / (gaps**2).sum()
    mean_x, mean_y = weight @ x, weight @ y
    slope = float(weight @ ((x - mean_x) * (y - mean_y)) / (weight @ (x - mean_x) ** 2))
    steepness = min(STEEPEST, max(0.0, -slope))
    return PowerLaw(ceiling=ceiling, distance=math.exp(mean_y + steepness * mean_x), steepness=steepness)


def learning_curve(
    tried: Sequence[Tried],
    *,
    ceiling: float | None,
    judgements_per_ranking: float,
    seconds_per_judgement: float | None,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """What was measured, what is to come with its band, and the price of the next hundredth of accuracy.

    The band is that of the held-out prompts, drawn anew and fitted anew; the judges are not trained anew. `ceiling`:
    what the best judge could reach on such labels, where annotators' agreement tells it; 1 elsewhere. The price is None
    where no number of labels buys the point, or its end where the band has none.

    Rankings are what the judge learns from. `judgements_per_ranking`: how many people make for each of them, since some
    are held out or another judge's; their number and hours are told beside it.
    """
    most = tried[-1].rankings
    top = max(ceiling or 1.0, *(float(np.mean([pair.correct for pair in one.outcomes])) for one in tried))
    drawn = _drawn(tried, resamples=resamples, seed=seed)
    numbers = [float(one.rankings) for one in tried]
    law = fit_power_law(numbers, [float(np.mean([p.correct for p in one.outcomes])) for one in tried], ceiling=top)
    laws = [fit_power_law(numbers, row.tolist(), ceiling=top) for row in drawn]

    def told(values: Sequence[float], value: float) -> dict[str, float]:
        low, high = np.percentile(values, [2.5, 97.5])
        return Estimate(value=value, low=min(value, float(low)), high=max(value, float(high))).as_dict()

    price = law.needed(law.at(most) + POINT) - most
    prices = np.sort([one.needed(one.at(most) + POINT) - most for one in laws])
    ends = [float(prices[round(q * (len(prices) - 1))]) for q in (0.025, 0.975)]
    judgements = price * judgements_per_ranking
    return {
        "points": [
            {
                "rankings": one.rankings,
                "accuracy": pair_accuracy(one.outcomes, resamples=resamples, seed=seed).as_dict(),
            }
            for one in tried
        ],
        "to_come": [
            {"rankings": most * times, "accuracy": told([one.at(most * times) for one in laws], law.at(most * times))}
            for times in (1, *TO_COME)
        ],
        "ceiling": ceiling,
        "steepness": told([one.steepness for one in laws], law.steepness),
        "next_point": {
            "rankings": _finite(price),
            "low": _finite(min(ends[0], price)),
            "high": _finite(max(ends[1], price)),
            "judgements": _finite(judgements),
            "hours": None if seconds_per_judgement is None else _finite(judgements * seconds_per_judgement / 3600),
        },
    }


def _drawn(tried: Sequence[Tried], *, resamples: int, seed: int) -> Floats:
    """Accuracy of every part on the same draws of the held-out prompts [resamples, parts]."""
    prompts = [pair.prompt for pair in tried[0].outcomes]
    if any([pair.prompt for pair in one.outcomes] != prompts for one in tried):
        raise InputError("the parts of a learning curve must be measured on the same pairs")
    columns = [[pair.correct for pair in one.outcomes] for one in tried]
    return drawn_means(columns, groups=prompts, resamples=resamples, seed=seed)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
