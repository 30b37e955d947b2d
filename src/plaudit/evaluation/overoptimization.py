"""How far a judge can be followed: what it says and what is true, against the distance from the reference.

Distance is d = sqrt(KL). Forms and peaks of the curves: Gao, Schulman and Hilton 2022 (2210.10760).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from plaudit.intervals import Floats
from plaudit.types import InputError

Form = Literal["best_of_n", "rl"]
"""best_of_n: d (a - b d). rl: d (a - b ln d)."""
FURTHEST = 300.0
"""Logarithm of the distance from which on a peak is none: the curve is straight, and the KL soon has no number."""


def kl_of_best_of(n: int) -> float:
    """KL of best-of-n from what it draws from, in nats: ln n - (n - 1) / n (an upper bound where scores tie)."""
    return math.log(n) - (n - 1) / n


def best_of_n(judged_PN: Floats, measured_PN: Floats, n: int) -> Floats:
    """What the response that the judge likes best of n is worth by the other measure, for each prompt [P].

    The mean over every choice of n of the N samples: unbiased, and no choice is drawn. Of samples that the judge takes
    for equal each is as likely to be taken. Give the same array twice for the judge's own score.
    """
    prompts, samples = judged_PN.shape
    if measured_PN.shape != judged_PN.shape or not 1 <= n <= samples:
        raise InputError(f"best of {n} needs at least {n} samples of each prompt, judged and measured; got {samples}")
    order = np.argsort(-judged_PN, axis=1, kind="stable")
    judged = np.take_along_axis(judged_PN, order, axis=1)
    measured = np.take_along_axis(measured_PN, order, axis=1)
    # The i-th best is the best of those choices that hold it and n - 1 of the N - 1 - i behind it.
    weights = np.array([math.comb(samples - 1 - i, n - 1) for i in range(samples)]) / math.comb(samples, n)
    return np.array([float(weights @ _shared(judged[p], measured[p])) for p in range(prompts)])


def _shared(judged_N: Floats, measured_N: Floats) -> Floats:
    """The mean over those that the judge takes for equal, in place of each; sorted by the judge."""
    group_N = np.concatenate([[0], np.cumsum(np.diff(judged_N) != 0)]).astype(int)
    return (np.bincount(group_N, weights=measured_N) / np.bincount(group_N))[group_N]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A fit. Where b <= 0 the curve only rises in what was measured, and there is no peak."""

    form: Form
    a: float
    b: float

    def at(self, distance: float) -> float:
        """The gain at d = sqrt(KL)."""
        if distance == 0:
            return 0.0
        bend = distance if self.form == "best_of_n" else math.log(distance)
        return distance * (self.a - self.b * bend)

    @property
    def peak(self) -> tuple[float, float] | None:
        """(d, gain) where following the judge further begins to hurt."""
        if self.b <= 0:
            return None
        if self.form == "best_of_n":
            top = self.a / (2 * self.b)
        else:
            top = math.exp(min(self.a / self.b - 1, FURTHEST))
        return (top, self.at(top)) if 0 < top < math.exp(FURTHEST) else None


def fit(distances: Sequence[float], gains: Sequence[float], form: Form) -> Curve:
    """Least squares of a and b over the points with d > 0; the gain at d = 0 is 0."""
    points = [(d, gain) for d, gain in zip(distances, gains, strict=True) if d > 0]
    if len({d for d, _ in points}) < 2:
        raise InputError("a curve needs gains at two distances from the reference, or more")
    d = np.array([one for one, _ in points])
    columns = np.stack([d, -d * d if form == "best_of_n" else -d * np.log(d)], axis=1)
    (a, b), *_ = np.linalg.lstsq(columns, np.array([gain for _, gain in points]), rcond=None)
    return Curve(form=form, a=float(a), b=float(b))
