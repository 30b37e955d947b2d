"""Blind pairwise comparison of two checkpoints on the same prompts."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from plaudit.intervals import mean_interval, proportion_interval
from plaudit.types import Annotator, Estimate, InputError, Prompt, Response

Prefer = Callable[[Prompt, str, str], float]
"""(prompt, text 1, text 2) -> probability in 0..1 that text 1 is the better; not told who wrote which."""


def win_rate(
    prompts: Sequence[Prompt],
    texts_a: Sequence[str],
    texts_b: Sequence[str],
    prefer: Prefer,
    *,
    seed: int = 0,
    resamples: int = 2000,
) -> Estimate:
    """How often A is preferred to B; equal texts count 0.5 and are not asked about.

    Which text is shown first is drawn from (seed, prompt, how often the prompt came before), so that neither the
    order of the prompts nor a judge that likes the first place moves the result. Raises InputError where lengths
    differ or `prefer` leaves 0..1.
    """
    if not len(prompts) == len(texts_a) == len(texts_b):
        raise InputError(f"{len(prompts)} prompts, {len(texts_a)} texts of A, {len(texts_b)} of B: give one each")
    seen: Counter[str] = Counter()
    outcomes: list[float] = []
    for prompt, a, b in zip(prompts, texts_a, texts_b, strict=True):
        first = _a_is_first(seed, prompt.id, seen[prompt.id])
        seen[prompt.id] += 1
        if a == b:
            outcomes.append(0.5)
        elif first:
            outcomes.append(_probability(prefer(prompt, a, b), prompt))
        else:
            outcomes.append(1.0 - _probability(prefer(prompt, b, a), prompt))
    return _share(outcomes, [prompt.id for prompt in prompts], resamples, seed)


def from_scores(
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    *,
    groups: Sequence[Hashable] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """How often A scores above B, item by item; equal scores count 0.5. `groups`: the prompt of each item."""
    a, b = np.asarray(scores_a, dtype=np.float64), np.asarray(scores_b, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InputError(f"win rate: needs two lists of finite scores, paired; got shapes {a.shape} and {b.shape}")
    outcomes = [0.5 + 0.5 * float(sign) for sign in np.sign(a - b)]
    return _share(outcomes, range(len(outcomes)) if groups is None else groups, resamples, seed)


def _share(outcomes: Sequence[float], groups: Sequence[Hashable], resamples: int, seed: int) -> Estimate:
    """Wilson's interval where every prompt came once, since a bootstrap of all wins has no width; else by prompt."""
    if len(set(groups)) == len(outcomes):
        return proportion_interval(sum(outcomes), len(outcomes))
    return mean_interval(outcomes, groups=groups, resamples=resamples, seed=seed)


def _a_is_first(seed: int, prompt_id: str, occurrence: int) -> bool:
    return hashlib.sha256(f"{seed}/{prompt_id}/{occurrence}".encode()).digest()[0] % 2 == 0


def _probability(value: float, prompt: Prompt) -> float:
    if not 0.0 <= value <= 1.0:
        raise InputError(f"prefer gave {value} for prompt {prompt.id}: a probability in 0..1 is expected")
    return value


def by_panel(panel: Sequence[Annotator]) -> Prefer:
    """Share of the annotators who put the first text above the second; a tie counts half."""

    def prefer(prompt: Prompt, one: str, two: str) -> float:
        responses = [Response(text=one), Response(text=two)]
        rankings = [annotator.judge(prompt, responses, seed=0).ranking for annotator in panel]
        return sum(0.5 if len(ranking) == 1 else float(0 in ranking[0]) for ranking in rankings) / len(rankings)

    return prefer


def by_scores(score: Callable[[Sequence[Prompt], Sequence[str]], Sequence[float]]) -> Prefer:
    """The text with the higher score; equal scores count half."""

    def prefer(prompt: Prompt, one: str, two: str) -> float:
        first, second = score([prompt, prompt], [one, two])
        return 0.5 if first == second else float(first > second)

    return prefer
