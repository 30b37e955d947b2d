"""Figures with 95 % intervals. Responses to one prompt resemble each other, so resampling is by prompt."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from plaudit.types import Estimate, InputError

Floats = NDArray[np.float64]
Groups = Sequence[Hashable]

_Z = 1.959963984540054
"""The 97.5 % point of the normal distribution."""
_CELLS_AT_ONCE = 4_000_000
"""Bound on resamples x groups held at one time (32 MB)."""


def mean_interval(values: ArrayLike, *, groups: Groups | None = None, resamples: int = 2000, seed: int = 0) -> Estimate:
    """Mean of `values` with its percentile bootstrap interval; whole groups (prompts) are drawn where given.

    One group says nothing about the spread: its interval is the point. Raises InputError for empty input,
    lengths that differ and values that are not finite.
    """
    numbers = _column("values", values)
    drawn = drawn_means([numbers], groups=groups, resamples=resamples, seed=seed)
    return _percentiles(float(numbers.mean()), drawn[:, 0])


def share_interval(values: ArrayLike, *, groups: Groups, resamples: int = 2000, seed: int = 0) -> Estimate:
    """Mean of values in 0..1 with its bootstrap interval. Where all are the same a bootstrap has no width: then
    Wilson's, in which each group (prompt) counts once."""
    numbers = _column("values", values)
    if len(set(numbers.tolist())) > 1 and len(set(groups)) > 1:
        return mean_interval(numbers, groups=groups, resamples=resamples, seed=seed)
    many = len(set(groups))
    return proportion_interval(float(numbers.mean()) * many, many)


def drawn_means(
    columns: Sequence[ArrayLike], *, groups: Groups | None = None, resamples: int = 2000, seed: int = 0
) -> Floats:
    """Means of several columns over the same bootstrap draws of whole groups [resamples, columns]: for what is worked
    out of several means together."""
    found = [_column("values", column) for column in columns]
    sums = _per_group(groups, np.ones_like(found[0]), *found)
    drawn = np.concatenate([weights @ sums for weights in _weights(len(sums), resamples, seed)])
    return drawn[:, 1:] / drawn[:, :1]


def paired_difference(
    a: ArrayLike, b: ArrayLike, *, groups: Groups | None = None, resamples: int = 2000, seed: int = 0
) -> Estimate:
    """Mean of a - b, item by item on the same prompts, with its bootstrap interval."""
    first, second = _column("a", a), _column("b", b)
    _same_length("a", first, "b", second)
    return mean_interval(first - second, groups=groups, resamples=resamples, seed=seed)


def proportion_interval(successes: float, total: float) -> Estimate:
    """A share with Wilson's score interval, which stays honest at 0 and at 1; half successes (ties) may count.

    Raises InputError unless 0 <= successes <= total and total > 0.
    """
    if not (math.isfinite(total) and total > 0 and 0 <= successes <= total):
        raise InputError(f"a share needs 0 <= successes <= total and total > 0, got {successes} of {total}")
    share, z2 = successes / total, _Z * _Z
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = _Z / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total * total))
    return Estimate(value=share, low=max(0.0, min(share, centre - half)), high=min(1.0, max(share, centre + half)))


def intercept_interval(
    y: ArrayLike, x: ArrayLike, *, groups: Groups | None = None, resamples: int = 2000, seed: int = 0
) -> Estimate:
    """Intercept a of the least squares line y = a + b x, with its bootstrap interval.

    With x the difference in length and y the difference in score, it is the gain in score at equal length.
    Where all x are the same no slope can be seen and b is taken as 0.
    """
    ys, xs = _column("y", y), _column("x", x)
    _same_length("y", ys, "x", xs)
    moments = _per_group(groups, np.ones_like(xs), ys, xs, xs * xs, xs * ys)
    drawn = np.concatenate([_intercepts(w @ moments) for w in _weights(len(moments), resamples, seed)])
    return _percentiles(float(_intercepts(moments.sum(axis=0, keepdims=True))[0]), drawn)


def _intercepts(moments: Floats) -> Floats:
    """Rows of sums (1, y, x, x², xy) -> one intercept per row."""
    n, sy, sx, sxx, sxy = moments.T
    spread = n * sxx - sx * sx
    flat = spread <= 1e-12 * np.maximum(n * sxx, 1e-300)  # rounding leaves a little where x is constant
    slope = np.where(flat, 0.0, (n * sxy - sx * sy) / np.where(flat, 1.0, spread))
    return (sy - slope * sx) / n


def _per_group(groups: Groups | None, *columns: Floats) -> Floats:
    """Sums of each column within each group: [groups, columns]. Without groups every item is its own."""
    stacked = np.stack(columns, axis=1)
    if groups is None:
        return stacked
    if len(groups) != len(stacked):
        raise InputError(f"{len(groups)} groups for {len(stacked)} values: give one group (prompt) per value")
    numbered: dict[Hashable, int] = {}
    index = [numbered.setdefault(group, len(numbered)) for group in groups]
    sums = np.zeros((len(numbered), len(columns)))
    np.add.at(sums, index, stacked)
    return sums


def _weights(count: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each of `count` groups is drawn, one row per resample, in blocks of bounded size."""
    if resamples < 1:
        raise InputError(f"resamples is {resamples}: an interval needs at least one")
    rng = np.random.default_rng(seed)
    block = max(1, _CELLS_AT_ONCE // count)
    shares = np.full(count, 1.0 / count)
    for start in range(0, resamples, block):
        yield rng.multinomial(count, shares, size=min(block, resamples - start)).astype(np.float64)


def _percentiles(value: float, drawn: Floats) -> Estimate:
    low, high = np.percentile(drawn, [2.5, 97.5])
    # A skewed sample can put the mean itself a hair outside; an interval that excludes its figure misleads.
    return Estimate(value=value, low=min(value, float(low)), high=max(value, float(high)))


def _column(name: str, values: ArrayLike) -> Floats:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or numbers.size == 0:
        raise InputError(f"{name}: an interval needs a list of at least one number, got shape {numbers.shape}")
    if not np.isfinite(numbers).all():
        raise InputError(f"{name}: number {int(np.flatnonzero(~np.isfinite(numbers))[0])} is not finite")
    return numbers


def _same_length(name_a: str, a: Floats, name_b: str, b: Floats) -> None:
    if len(a) != len(b):
        raise InputError(f"{name_a} has {len(a)} values and {name_b} has {len(b)}: they must be paired")
