"""Rankings in their many spellings, as tie groups from best to worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

Groups = tuple[tuple[int, ...], ...]


def from_ranks(ranks: Sequence[float]) -> Groups:
    """One rank for each response, the lowest best; equal ranks are ties."""
    return tuple(tuple(i for i, rank in enumerate(ranks) if rank == level) for level in sorted(set(ranks)))


def from_scores(scores: Sequence[float]) -> Groups:
    """One score for each response, the highest best; equal scores are ties."""
    return from_ranks([-score for score in scores])


def from_comparisons(count: int, better: Mapping[tuple[int, int], int]) -> Groups | None:
    """The ranking that gives exactly these answers to "a or b?" (1: a, -1: b, 0: a tie), for a < b.

    None where a pair was not compared, or the answers fit no ranking: pairs are all that can be said then.
    """
    pairs = list(combinations(range(count), 2))
    if set(better) != set(pairs):
        return None
    wins = [0.0] * count
    for (a, b), answer in better.items():
        wins[a] += answer
        wins[b] -= answer
    groups = from_scores(wins)
    level = {index: number for number, group in enumerate(groups) for index in group}
    fits = all((level[b] > level[a]) - (level[b] < level[a]) == better[a, b] for a, b in pairs)
    return groups if fits else None


def of_pair(better: int) -> Groups:
    """The ranking of two responses: 1 the first is better, -1 the second, 0 a tie."""
    return {1: ((0,), (1,)), -1: ((1,), (0,)), 0: ((0, 1),)}[better]
