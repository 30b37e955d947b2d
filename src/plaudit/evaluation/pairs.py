"""How often a judge orders two responses as people did, against rules that need no judge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from plaudit.intervals import Floats, paired_difference, share_interval
from plaudit.types import Estimate, InputError, Judgement


@dataclass(frozen=True, kw_only=True, slots=True)
class PairOutcome:
    """Two responses of which people preferred one."""

    prompt: str
    """The prompt's id."""
    correct: float
    """1: the judge scores the preferred one higher, 0: lower, 0.5: the same."""
    length_sign: int
    """1: the preferred one is longer (in characters), -1: shorter, 0: as long."""


def pair_outcomes(judgements: Sequence[Judgement], scores: Sequence[Sequence[float]]) -> list[PairOutcome]:
    """Every ordered pair of every ranking; `scores[j][r]` is the judge's score of response r of judgement j.

    Pairs within a tie group are left out. Raises InputError where a score is missing or not finite.
    """
    if len(scores) != len(judgements):
        raise InputError(f"{len(scores)} rows of scores for {len(judgements)} judgements")
    outcomes: list[PairOutcome] = []
    for judgement, row in zip(judgements, scores, strict=True):
        if len(row) != len(judgement.responses) or not np.isfinite(np.asarray(row, dtype=np.float64)).all():
            raise InputError(
                f"judgement {judgement.id}: needs {len(judgement.responses)} finite scores, got {list(row)}"
            )
        for better, worse in _ordered_pairs(judgement):
            outcomes.append(
                PairOutcome(
                    prompt=judgement.prompt.id,
                    correct=0.5 + 0.5 * _sign(row[better] - row[worse]),
                    length_sign=_length_sign(judgement, better, worse),
                )
            )
    return outcomes


def pair_accuracy(outcomes: Sequence[PairOutcome], *, resamples: int = 2000, seed: int = 0) -> Estimate:
    """Share of pairs ordered as people did, resampled by prompt. Raises InputError without a single pair."""
    _need_pairs(outcomes)
    groups = [pair.prompt for pair in outcomes]
    return share_interval([pair.correct for pair in outcomes], groups=groups, resamples=resamples, seed=seed)


def length_baseline(judgements: Sequence[Judgement]) -> dict[str, float]:
    """Accuracy of "the longer wins" and "the shorter wins", and the `best` of the two; equal lengths count 0.5."""
    signs = [_length_sign(judgement, *pair) for judgement in judgements for pair in _ordered_pairs(judgement)]
    return _two_rules("longer", "shorter", signs)


def display_baseline(judgements: Sequence[Judgement]) -> dict[str, float]:
    """Accuracy of "the first shown wins" and "the last shown wins", and the `best`: what position alone buys.

    Where the display order is not known a pair counts 0.5: the order in a file is no order on a screen.
    """
    signs = [_display_sign(judgement, *pair) for judgement in judgements for pair in _ordered_pairs(judgement)]
    return _two_rules("first", "last", signs)


def cross_fitted_length_baseline(judgements: Sequence[Judgement], *, folds: int = 5, seed: int = 0) -> Floats:
    """Per pair, in the order of `pair_outcomes`: is the length rule right that was chosen on the OTHER folds?

    Choosing between longer and shorter on the very pairs it is measured on would flatter the rule. Folds are of
    whole prompts; where the other folds favour neither rule (or are empty) the pair counts 0.5.
    """
    if folds < 2:
        raise InputError(f"folds is {folds}: cross-fitting needs at least two")
    pairs = [(j.prompt.id, _length_sign(j, *pair)) for j in judgements for pair in _ordered_pairs(j)]
    prompts = sorted({prompt for prompt, _ in pairs})
    order: list[int] = np.random.default_rng(seed).permutation(len(prompts)).tolist()
    fold_of = {prompts[index]: place % folds for place, index in enumerate(order)}
    leaning = [0] * folds
    for prompt, sign in pairs:
        leaning[fold_of[prompt]] += sign
    total = sum(leaning)
    return np.array([0.5 + 0.5 * sign * _sign(total - leaning[fold_of[prompt]]) for prompt, sign in pairs])


def beats_length(
    judgements: Sequence[Judgement],
    scores: Sequence[Sequence[float]],
    *,
    folds: int = 5,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """The judge's accuracy less the cross-fitted length rule's, paired and resampled by prompt.

    Each objective has a length rule of its own: people may like the longer answer for one and the shorter for another.
    """
    correct: list[float] = []
    rule: list[float] = []
    groups: list[str] = []
    for objective in sorted({j.objective for j in judgements}):
        chosen = [i for i, j in enumerate(judgements) if j.objective == objective]
        rankings = [judgements[i] for i in chosen]
        outcomes = pair_outcomes(rankings, [scores[i] for i in chosen])
        correct += [pair.correct for pair in outcomes]
        groups += [pair.prompt for pair in outcomes]
        rule += cross_fitted_length_baseline(rankings, folds=folds, seed=seed).tolist()
    if not correct:
        raise InputError("no pair of responses of which one is preferred: every ranking is tied, or there is none")
    return paired_difference(correct, rule, groups=groups, resamples=resamples, seed=seed)


def _ordered_pairs(judgement: Judgement) -> Iterator[tuple[int, int]]:
    """(better, worse) response indices."""
    for place, group in enumerate(judgement.ranking):
        for below in judgement.ranking[place + 1 :]:
            for better in group:
                for worse in below:
                    yield better, worse


def _length_sign(judgement: Judgement, better: int, worse: int) -> int:
    return _sign(len(judgement.responses[better].text) - len(judgement.responses[worse].text))


def _display_sign(judgement: Judgement, better: int, worse: int) -> int:
    order = judgement.display_order
    if better not in order or worse not in order:
        return 0
    return _sign(order.index(worse) - order.index(better))


def _two_rules(name: str, opposite: str, signs: Sequence[int]) -> dict[str, float]:
    share = 0.5 + 0.5 * float(np.mean(signs)) if signs else 0.5
    return {name: share, opposite: 1.0 - share, "best": max(share, 1.0 - share)}


def _sign(difference: float) -> int:
    return (difference > 0) - (difference < 0)


def _need_pairs(outcomes: Sequence[PairOutcome]) -> None:
    if not outcomes:
        raise InputError("no ordered pair to measure on: every ranking is one tie; hold out more prompts")
