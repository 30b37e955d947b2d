"""Does a judge mean what it says? Its chances for pairs, sigma(difference), against what people decided.

The temperature that fits best is found on other prompts than those it is measured on. How far from 0 the calibration
error of a perfect judge would be by chance alone, on as many pairs, is simulated and stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit

from plaudit.intervals import Floats, mean_interval
from plaudit.types import InputError

BINS = 15
"""Of the chance of the likelier answer, 0.5 to 1 (Guo et al. 2017 take as many)."""
COLDEST, HOTTEST = 1e-2, 1e3
"""Temperatures that are tried."""
FOLDS = 5
SIMULATIONS = 1000


@dataclass(frozen=True, kw_only=True)
class Differences:
    """Pairs of responses: the judge's difference of scores, first less second, and what people said of them."""

    differences_M: Floats
    first_wins_M: Floats
    """1: the first is better, 0: the second, one half: a tie."""
    prompts: Sequence[str]
    """The prompt of each pair: pairs of one prompt are drawn, and left out, together."""

    def __post_init__(self) -> None:
        if len(self.differences_M) == 0:
            raise InputError("no pairs to measure calibration on")

    def at(self, temperature: float | Floats) -> Differences:
        return Differences(
            differences_M=self.differences_M / temperature, first_wins_M=self.first_wins_M, prompts=self.prompts
        )


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Pairs with like chances, for the reliability diagram."""

    chance: float
    """The judge's mean chance for the answer that it takes for the likelier."""
    right: float
    """How often that answer was preferred; a tie is half right."""
    pairs: int


def nll(pairs: Differences) -> Floats:
    """-log of the chance that the judge gave to what was said [M], nats; a tie is half of each."""
    d, y = pairs.differences_M, pairs.first_wins_M
    return -(y * log_expit(d) + (1 - y) * log_expit(-d))


def brier(pairs: Differences) -> Floats:
    """(chance - outcome) squared [M]."""
    return (expit(pairs.differences_M) - pairs.first_wins_M) ** 2


def reliability(pairs: Differences) -> list[Bin]:
    """Bins of equal width over the chance of the likelier answer; empty ones are left out."""
    chance_M, right_M = _sure(pairs)
    place_M = _places(chance_M)
    found = [(place_M == place) for place in range(BINS)]
    return [
        Bin(chance=float(chance_M[own].mean()), right=float(right_M[own].mean()), pairs=int(own.sum()))
        for own in found
        if own.any()
    ]


def calibration_error(pairs: Differences) -> float:
    """Expected calibration error: the mean over pairs of |chance - how often right| of their bin."""
    chance_M, right_M = _sure(pairs)
    return _error(chance_M, right_M, _places(chance_M))


def error_of_a_perfect_judge(pairs: Differences, *, seed: int = 0) -> float:
    """The 97.5 % point of the calibration error of a judge whose chances are true, at these very chances."""
    chance_M, _ = _sure(pairs)
    place_M, rng = _places(chance_M), np.random.default_rng(seed)
    drawn = [
        _error(chance_M, (rng.random(len(chance_M)) < chance_M).astype(np.float64), place_M) for _ in range(SIMULATIONS)
    ]
    return float(np.percentile(drawn, 97.5))


def best_temperature(pairs: Differences) -> float:
    """The T at which sigma(difference / T) gives what was said the highest likelihood."""

    def cost(log_temperature: float) -> float:
        return float(nll(pairs.at(np.exp(log_temperature))).mean())

    found: Any = minimize_scalar(cost, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded")
    return float(np.exp(found.x))


def scaled(pairs: Differences, *, folds: int = FOLDS, seed: int = 0) -> Differences:
    """Each pair at the temperature that fits best on the other folds, which are of whole prompts."""
    prompts = sorted(set(pairs.prompts))
    if len(prompts) < 2:
        raise InputError("one prompt alone: a temperature is to be found on other prompts than it is measured on")
    order: list[int] = np.random.default_rng(seed).permutation(len(prompts)).tolist()
    fold_of = {prompts[index]: place % folds for place, index in enumerate(order)}
    fold_M = np.array([fold_of[prompt] for prompt in pairs.prompts])
    temperature_M = np.ones(len(fold_M))
    for fold in np.unique(fold_M):
        others = fold_M != fold
        seen = Differences(
            differences_M=pairs.differences_M[others],
            first_wins_M=pairs.first_wins_M[others],
            prompts=[prompt for prompt, other in zip(pairs.prompts, others, strict=True) if other],
        )
        temperature_M[~others] = best_temperature(seen)
    return pairs.at(temperature_M)


def calibration(pairs: Differences, *, resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """NLL, Brier score and calibration error, as the judge is and after scaling, with the diagram of both."""

    def figures(these: Differences) -> dict[str, Any]:
        options: dict[str, Any] = {"groups": these.prompts, "resamples": resamples, "seed": seed}
        return {
            "nll": mean_interval(nll(these), **options).as_dict(),
            "brier": mean_interval(brier(these), **options).as_dict(),
            "ece": calibration_error(these),
            "ece_of_a_perfect_judge": error_of_a_perfect_judge(these, seed=seed),
            "reliability": [{"chance": b.chance, "right": b.right, "pairs": b.pairs} for b in reliability(these)],
        }

    found = figures(pairs) | {"temperature": best_temperature(pairs)}
    return found | ({"scaled": figures(scaled(pairs, seed=seed))} if len(set(pairs.prompts)) > 1 else {})


def _sure(pairs: Differences) -> tuple[Floats, Floats]:
    """(chance of the likelier answer, was it right) [M]; where the judge is undecided the answer is half right."""
    d, y = pairs.differences_M, pairs.first_wins_M
    return expit(np.abs(d)), np.where(d > 0, y, np.where(d < 0, 1 - y, 0.5))


def _places(chance_M: Floats) -> Floats:
    return np.minimum(((chance_M - 0.5) * 2 * BINS).astype(int), BINS - 1)


def _error(chance_M: Floats, right_M: Floats, place_M: Floats) -> float:
    gaps = np.bincount(place_M.astype(int), weights=chance_M - right_M, minlength=BINS)
    return float(np.abs(gaps).sum() / len(chance_M))
