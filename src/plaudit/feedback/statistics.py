"""How good labels are: pure functions of judgements. Intervals draw whole prompts: pairs of one are alike."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import median

import numpy as np

from plaudit.feedback.orders import Ranking, Signs, right_pairs, signs
from plaudit.feedback.records import Figures, PersonFigures
from plaudit.intervals import mean_interval, share_interval
from plaudit.types import Estimate, Judgement

RESAMPLES = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Labels:
    """What the figures are of."""

    work: Sequence[Judgement]
    """First judgements of the real tasks."""
    gold: Sequence[tuple[Judgement, Ranking]] = ()
    """With what is known to be right."""
    repeats: Sequence[tuple[Judgement, Judgement]] = ()
    """(the first, the same annotator's second)."""
    names: Mapping[str, str] = field(default_factory=dict[str, str])
    """Handle -> name, of people with an account."""
    excluded: frozenset[str] = frozenset()
    """Counted by themselves, and left out of everything else."""
    seconds: Mapping[str, Sequence[float]] = field(default_factory=dict[str, Sequence[float]])
    """Handle -> time of each submission; of others, what their judgements say."""


def figures_of(labels: Labels, *, resamples: int = RESAMPLES, seed: int = 0) -> Figures:
    """All figures. A share without anything to count is None."""
    drawn = _Drawn(resamples=resamples, seed=seed)
    counted = [one for one in labels.work if one.annotator not in labels.excluded]
    shared = shared_items(counted)
    decided = drawn.share((w, float(a == b)) for w, a, b in _compared(shared) if a and b)
    said = [(one.prompt.id, sign) for one in counted for sign in _said(one).values()]
    everybody = dict.fromkeys([*labels.names, *(one.annotator for one in labels.work)])
    return Figures(
        judgements=len(counted),
        prompts=len({one.prompt.id for one in counted}),
        annotators=len({one.annotator for one in counted}),
        pairs=len(said),
        tie_share=sum(sign == 0 for _, sign in said) / len(said) if said else None,
        agreement=drawn.share((where, float(a == b)) for where, a, b in _compared(shared)),
        decided_agreement=decided,
        alpha=krippendorff_alpha(shared, resamples=resamples, seed=seed),
        kendall_tau=drawn.mean(_taus(shared)),
        ceiling=None if decided is None else ceiling(decided),
        first_preferred=drawn.share(pair for one in counted for pair in _first_shown_wins(one)),
        longer_preferred=drawn.share(pair for one in counted for pair in _longer_wins(one)),
        people=tuple(_person(handle, labels, drawn) for handle in everybody),
    )


def _person(handle: str, labels: Labels, drawn: _Drawn) -> PersonFigures:
    his = [one for one in labels.work if one.annotator == handle]
    others = [one for one in labels.work if one.annotator == handle or one.annotator not in labels.excluded]
    seconds = labels.seconds.get(handle) or [one.seconds for one in his if one.seconds is not None]
    gold = [
        (one.prompt.id, *right_pairs(one.ranking, truth, one.unordered))
        for one, truth in labels.gold
        if one.annotator == handle
    ]
    again = [(first, second) for first, second in labels.repeats if first.annotator == handle]
    return PersonFigures(
        annotator=handle,
        name=labels.names.get(handle, ""),
        excluded=handle in labels.excluded,
        judgements=len(his),
        skipped=sum("skip" in one.flags for one in his),
        agreement=drawn.share((where, float(a == b)) for where, a, b in _compared(shared_items(others), handle)),
        gold=drawn.share((where, right / pairs) for where, right, pairs in gold if pairs for _ in range(pairs)),
        self_consistency=drawn.share(
            (first.prompt.id, float(a == b)) for first, second in again for a, b in _both(_said(first), _said(second))
        ),
        median_seconds=median(seconds) if seconds else None,
        total_seconds=float(sum(seconds)),
        first_preferred=drawn.share(pair for one in his for pair in _first_shown_wins(one)),
        longer_preferred=drawn.share(pair for one in his for pair in _longer_wins(one)),
    )


def ceiling(agreement: Estimate) -> Estimate:
    """The best accuracy on single labels, from the share p of decided pairs on which two annotators agree.

    Where each annotator is right with the same chance a, independently, two agree with p = a² + (1 - a)²; a judge that
    is always right then agrees with a label with chance a = (1 + sqrt(2p - 1)) / 2. Below p = 1/2 it is taken as 1/2.
    """
    value, low, high = (
        (1 + math.sqrt(max(0.0, 2 * p - 1))) / 2 for p in (agreement.value, agreement.low, agreement.high)
    )
    return Estimate(value=value, low=low, high=high)


def ceiling_of(judgements: Sequence[Judgement], *, resamples: int = RESAMPLES, seed: int = 0) -> Estimate | None:
    """`ceiling` of the pairs that two annotators or more have decided; None where there are none."""
    drawn = _Drawn(resamples=resamples, seed=seed)
    agreed = drawn.share((w, float(a == b)) for w, a, b in _compared(shared_items(judgements)) if a and b)
    return None if agreed is None else ceiling(agreed)


def kendall_tau_b(one: Signs, other: Signs) -> float | None:
    """Concordant less discordant pairs, over the geometric mean of the pairs that each does not tie."""
    pairs = one.keys() & other.keys()
    mine, yours = sum(one[p] != 0 for p in pairs), sum(other[p] != 0 for p in pairs)
    if not mine or not yours:
        return None
    return sum(one[p] * other[p] for p in pairs) / math.sqrt(mine * yours)


Item = tuple[str, tuple[str, ...], str]
"""What was judged: prompt, texts, objective."""


def krippendorff_alpha(
    items: Mapping[Item, Sequence[tuple[str, Signs]]], *, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate | None:
    """Krippendorff's alpha for ordinal data: the units are pairs of responses, the values worse, equal, better.

    From the coincidences: value v beside value w in a unit of m annotators counts 1 / (m - 1). None where nothing
    could have disagreed: no unit of two annotators, or one value throughout.
    """
    by_prompt: dict[str, list[list[float]]] = {}
    for (prompt, _, _), said in items.items():
        for pair in sorted({pair for _, one in said for pair in one}):
            values = [one[pair] + 1 for _, one in said if pair in one]
            counts = by_prompt.setdefault(prompt, [[0.0] * 3 for _ in range(3)])
            for i, v in enumerate(values):
                for j, w in enumerate(values):
                    if i != j:
                        counts[v][w] += 1 / (len(values) - 1)
    coincidences = np.array(list(by_prompt.values())).reshape(-1, 9)
    if not len(coincidences) or not coincidences.any():
        return None
    value = _alpha(coincidences.sum(axis=0, keepdims=True))[0]
    if np.isnan(value):
        return None
    rng = np.random.default_rng(seed)
    count = len(coincidences)
    weights = (rng.multinomial(count, np.full(count, 1 / count)) for _ in range(resamples))
    drawn = _alpha(np.stack([one @ coincidences for one in weights]))
    low, high = np.nanpercentile(np.append(drawn, value), [2.5, 97.5])
    return Estimate(value=float(value), low=min(float(value), float(low)), high=max(float(value), float(high)))


def _alpha(coincidences: np.ndarray) -> np.ndarray:
    """Rows of nine coincidences (value by value) -> one alpha per row; nan where a row has one value alone."""
    table = coincidences.reshape(-1, 3, 3)
    n = table.sum(axis=2)
    total = n.sum(axis=1)
    distance = np.zeros_like(table)
    for v in range(3):
        for w in range(v + 1, 3):
            between = n[:, v : w + 1].sum(axis=1) - (n[:, v] + n[:, w]) / 2
            distance[:, v, w] = distance[:, w, v] = between**2
    observed = (table * distance).sum(axis=(1, 2))
    expected = (n[:, :, None] * n[:, None, :] * distance).sum(axis=(1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(expected > 0, 1 - (total - 1) * observed / expected, np.nan)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Drawn:
    """Means with their intervals, all drawn alike."""

    resamples: int
    seed: int

    def share(self, outcomes: Iterable[tuple[str, float]]) -> Estimate | None:
        """Of (prompt, 0..1)."""
        found = list(outcomes)
        if not found:
            return None
        prompts: list[Hashable] = [prompt for prompt, _ in found]
        values = [value for _, value in found]
        return share_interval(values, groups=prompts, resamples=self.resamples, seed=self.seed)

    def mean(self, values: Iterable[tuple[str, float]]) -> Estimate | None:
        found = list(values)
        if not found:
            return None
        prompts: list[Hashable] = [prompt for prompt, _ in found]
        return mean_interval([value for _, value in found], groups=prompts, resamples=self.resamples, seed=self.seed)


def _said(judgement: Judgement) -> Signs:
    return signs(judgement.ranking, judgement.unordered)


def shared_items(judgements: Sequence[Judgement]) -> dict[Item, list[tuple[str, Signs]]]:
    """What each annotator said of each thing judged; a second judgement of his is passed over."""
    items: dict[Item, dict[str, Signs]] = defaultdict(dict)
    for one in judgements:
        if one.ranking:
            item = (one.prompt.id, tuple(response.text for response in one.responses), one.objective)
            items[item].setdefault(one.annotator, _said(one))
    return {item: list(said.items()) for item, said in items.items()}


def _compared(
    items: Mapping[Item, Sequence[tuple[str, Signs]]], handle: str | None = None
) -> Iterable[tuple[str, int, int]]:
    """(prompt, what one said, what another said) of each pair of responses; with `handle`, where he is one of them."""
    for (prompt, _, _), said in items.items():
        for (one, mine), (other, yours) in combinations(said, 2):
            if handle is None or handle in (one, other):
                for a, b in _both(mine, yours):
                    yield prompt, a, b


def _both(mine: Signs, yours: Signs) -> list[tuple[int, int]]:
    return [(mine[pair], yours[pair]) for pair in sorted(mine.keys() & yours.keys())]


def _taus(items: Mapping[Item, Sequence[tuple[str, Signs]]]) -> Iterable[tuple[str, float]]:
    for (prompt, _, _), said in items.items():
        for (_, mine), (_, yours) in combinations(said, 2):
            tau = kendall_tau_b(mine, yours)
            if tau is not None:
                yield prompt, tau


def _first_shown_wins(judgement: Judgement) -> Iterable[tuple[str, float]]:
    """Of each decided pair: whether what was shown further ahead won."""
    place = {index: position for position, index in enumerate(judgement.display_order)}
    for (a, b), sign in _said(judgement).items():
        if sign and a in place and b in place:
            yield judgement.prompt.id, float((place[a] < place[b]) == (sign > 0))


def _longer_wins(judgement: Judgement) -> Iterable[tuple[str, float]]:
    """Of each decided pair of unequal length (characters): whether the longer won."""
    for (a, b), sign in _said(judgement).items():
        difference = len(judgement.responses[a].text) - len(judgement.responses[b].text)
        if sign and difference:
            yield judgement.prompt.id, float((difference > 0) == (sign > 0))
