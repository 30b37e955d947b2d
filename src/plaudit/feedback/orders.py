"""A ranking as what it says of each pair of responses: 1, the first is better; 0, equal; -1, the second is better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

Ranking = Sequence[Sequence[int]]
"""Tie groups of response indices, from best to worst."""
Signs = Mapping[tuple[int, int], int]
"""(smaller index, larger index) -> sign."""


def signs(ranking: Ranking, unordered: Sequence[int] = ()) -> dict[tuple[int, int], int]:
    """Empty for an empty ranking: nothing was said. Nor is it of the pairs within `unordered`."""
    rank = {index: place for place, group in enumerate(ranking) for index in group}
    pairs = (pair for pair in combinations(sorted(rank), 2) if not {*pair} <= {*unordered})
    return {(a, b): (rank[a] < rank[b]) - (rank[a] > rank[b]) for a, b in pairs}


def agreement(said: Sequence[Signs]) -> float | None:
    """Of all pairs of responses and of judges, the share in which both say the same; None for fewer than two judges."""
    outcomes = [
        one[pair] == other[pair] for one, other in combinations(said, 2) for pair in sorted(one.keys() & other.keys())
    ]
    return sum(outcomes) / len(outcomes) if outcomes else None


def right_pairs(said: Ranking, truth: Ranking, unordered: Sequence[int] = ()) -> tuple[float, int]:
    """(pairs in the order of the truth, a tie counting half; pairs that the truth decides), but for those within
    `unordered`, of which nothing was asked."""
    heard = signs(said, unordered)
    decided = {pair: sign for pair, sign in signs(truth, unordered).items() if sign}
    return sum((1 + sign * heard.get(pair, 0)) / 2 for pair, sign in decided.items()), len(decided)
