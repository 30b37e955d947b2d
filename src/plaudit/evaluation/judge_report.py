"""What rankings say about a judge: how often it is right and on what, whether it means what it says, and what moves it
that should not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from plaudit.evaluation.calibration import Differences, calibration
from plaudit.evaluation.foresight import auroc_interval
from plaudit.evaluation.judge import Heard, hear, judge_figures
from plaudit.evaluation.sensitivity import sensitivity
from plaudit.intervals import share_interval
from plaudit.types import InputError, Judgement, Prompt, RewardFunction

MOST_RESAMPLES = 500
"""Of the chances that a sign of doubt is right, which take long."""
MOST_CHANGED = 256
"""Answers that are changed and scored again."""
LENGTHS = (20, 5)
"""Words by which the preferred answer is longer or shorter, at which slices begin."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedPair:
    """Two responses of a judgement, the preferred one first (of a tie: the one that stands first)."""

    prompt: str
    difference: float
    """The judge's score of the first less that of the second."""
    spread: float
    """Deviation between the members' differences; 0 of a judge that has one."""
    strange: float | None
    """How strange the stranger of the two is to the judge."""
    tied: bool
    longer_by: int
    """Words of the first less those of the second."""
    strength: float | None
    annotator: str
    objective: str
    source: str

    @property
    def correct(self) -> float:
        return 0.5 + 0.5 * float(np.sign(self.difference))


def report_on_judge(
    judge: RewardFunction,
    judgements: Sequence[Judgement],
    *,
    sources: Sequence[str] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Figures of a judge on rankings that it has not seen, for `plaudit reward evaluate` and the report.

    `sources`: where each judgement is from (a file). Where nothing was held out, or no pair was decided, there is
    nothing to be right about, and no figure. InputError where the judge does not know an objective that the judgements
    speak of.
    """
    if not judgements:
        return {}
    judgements, sources = _spoken_to(judge, judgements, sources)
    heard = hear(judge, judgements)
    rows = [one.scores_K for one in heard]
    pairs = judged_pairs(judgements, heard, sources)
    figures = judge_figures(judge.objectives, judgements, rows, resamples=resamples, seed=seed)
    if "accuracy" not in figures:
        return figures
    calibrated = calibration(
        Differences(
            differences_M=np.array([pair.difference for pair in pairs]),
            first_wins_M=np.array([0.5 if pair.tied else 1.0 for pair in pairs]),
            prompts=[pair.prompt for pair in pairs],
        ),
        resamples=resamples,
        seed=seed,
    )
    return {
        **figures,
        **{key: calibrated[key] for key in ("ece", "nll", "brier")},
        "calibration": calibrated,
        "slices": slices_of(pairs, resamples=resamples, seed=seed),
        "foresight": foresight(pairs, resamples=min(resamples, MOST_RESAMPLES), seed=seed),
        "length_correlation": length_correlation(judgements, rows),
        "sensitivity": _sensitivity(judge, judgements, resamples=resamples, seed=seed),
    }


def judged_pairs(judgements: Sequence[Judgement], heard: Sequence[Heard], sources: Sequence[str]) -> list[JudgedPair]:
    """The pairs of every judgement that were compared, ties among them."""
    pairs: list[JudgedPair] = []
    for one, said, source in zip(judgements, heard, sources, strict=True):
        place = {index: rank for rank, group in enumerate(one.ranking) for index in group}
        words = [len(response.text.split()) for response in one.responses]
        for a, b in combinations(sorted(place), 2):
            if a in one.unordered and b in one.unordered:
                continue
            first, second = (a, b) if place[a] <= place[b] else (b, a)
            pairs.append(
                JudgedPair(
                    prompt=one.prompt.id,
                    difference=said.scores_K[first] - said.scores_K[second],
                    spread=float((said.members_KE[first] - said.members_KE[second]).std()),
                    strange=None if said.strange_K is None else max(said.strange_K[first], said.strange_K[second]),
                    tied=place[a] == place[b],
                    longer_by=words[first] - words[second],
                    strength=one.strength,
                    annotator=one.annotator,
                    objective=one.objective,
                    source=source,
                )
            )
    return pairs


def slices_of(pairs: Sequence[JudgedPair], *, resamples: int, seed: int) -> dict[str, dict[str, dict[str, Any]]]:
    """By kind of slice and slice: accuracy with its interval, and how many pairs. Kinds with one slice are left out."""
    decided = [pair for pair in pairs if not pair.tied]
    strengths = [pair.strength for pair in decided if pair.strength is not None]
    thirds = np.quantile(strengths, [1 / 3, 2 / 3]).tolist() if strengths else []

    def strength(pair: JudgedPair) -> str | None:
        if pair.strength is None or not thirds:
            return None
        return ("weakest third", "middle third", "strongest third")[sum(pair.strength > limit for limit in thirds)]

    kinds: Mapping[str, Callable[[JudgedPair], str | None]] = {
        "length": lambda pair: _length_slice(pair.longer_by),
        "strength": strength,
        "annotator": lambda pair: pair.annotator or None,
        "objective": lambda pair: pair.objective,
        "source": lambda pair: pair.source or None,
    }
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for kind, of in kinds.items():
        members: dict[str, list[JudgedPair]] = {}
        for pair in decided:
            if (name := of(pair)) is not None:
                members.setdefault(name, []).append(pair)
        if len(members) > 1:
            found[kind] = {
                name: {
                    "accuracy": share_interval(
                        [pair.correct for pair in own],
                        groups=[pair.prompt for pair in own],
                        resamples=resamples,
                        seed=seed,
                    ).as_dict(),
                    "pairs": len(own),
                }
                for name, own in sorted(members.items(), key=lambda item: _order(kind, item[0]))
            }
    return found


def foresight(pairs: Sequence[JudgedPair], *, resamples: int, seed: int) -> dict[str, dict[str, float]]:
    """Chance that a wrong pair is doubted more than a right one (0.5: by nobody's merit), by sign of doubt: scores that
    are close, members that differ, answers that are strange. Signs that the judge does not give are left out."""
    decided = [pair for pair in pairs if not pair.tied and pair.difference != 0]
    wrong = [1.0 - pair.correct for pair in decided]
    if not 0 < sum(wrong) < len(wrong):
        return {}
    signs: Mapping[str, Sequence[float]] = {
        "close": [-abs(pair.difference) for pair in decided],
        "members differ": [pair.spread for pair in decided],
        "members differ for their mean": [pair.spread / (abs(pair.difference) + 1e-9) for pair in decided],
        "strange": [-1.0 if pair.strange is None else pair.strange for pair in decided],
    }
    return {
        name: auroc_interval(
            doubts, wrong, groups=[pair.prompt for pair in decided], resamples=resamples, seed=seed
        ).as_dict()
        for name, doubts in signs.items()
        if len(set(doubts)) > 1
    }


def length_correlation(judgements: Sequence[Judgement], rows: Sequence[Sequence[float]]) -> dict[str, float | None]:
    """Pearson's correlation of score and words: over all responses, and between the responses of one prompt alone."""
    words = [np.array([len(r.text.split()) for r in one.responses], dtype=np.float64) for one in judgements]
    scores = [np.array(row) for row in rows]
    centred = [[x - x.mean() for x in each] for each in (words, scores)]
    return {
        "all": _correlation(np.concatenate(words), np.concatenate(scores)),
        "within_prompt": _correlation(np.concatenate(centred[0]), np.concatenate(centred[1])),
    }


def _correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    if len(a) < 2 or float(np.ptp(a)) == 0 or float(np.ptp(b)) == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def _length_slice(longer_by: int) -> str:
    for limit in LENGTHS:
        if longer_by <= -limit:
            return f"shorter by {limit} words or more"
        if longer_by >= limit:
            return f"longer by {limit} words or more"
    return f"as long, to {LENGTHS[-1] - 1} words"


def _order(kind: str, name: str) -> tuple[int, str]:
    if kind == "length":
        names = [_length_slice(gap) for gap in (*(-limit for limit in LENGTHS), 0, *reversed(LENGTHS))]
        return names.index(name), ""
    if kind == "strength":
        return ("weakest third", "middle third", "strongest third").index(name), ""
    return 0, name


def _spoken_to(
    judge: RewardFunction, judgements: Sequence[Judgement], sources: Sequence[str] | None
) -> tuple[list[Judgement], list[str]]:
    named = list(sources) if sources is not None else [""] * len(judgements)
    unknown = sorted({one.objective for one in judgements} - set(judge.objectives))
    if unknown:
        raise InputError(
            f"the rankings speak of {', '.join(map(repr, unknown))}, the judge of {', '.join(judge.objectives)}: "
            "name the objective of a file as FILE=OBJECTIVE"
        )
    return list(judgements), named


def _sensitivity(
    judge: RewardFunction, judgements: Sequence[Judgement], *, resamples: int, seed: int
) -> dict[str, Any]:
    """By objective, over the answers that people liked best."""
    order = np.random.default_rng(seed).permutation(len(judgements))[:MOST_CHANGED].tolist()
    chosen = [judgements[i] for i in sorted(order)]
    found: dict[str, Any] = {}
    for column, objective in enumerate(judge.objectives):
        own = [one for one in chosen if one.objective == objective]
        if not own:
            continue

        def score(prompts: Sequence[Prompt], texts: Sequence[str], column: int = column) -> list[float]:
            return judge(prompts, texts)[:, column].tolist()

        best = [one.responses[one.ranking[0][0]].text for one in own]
        prompts = [one.prompt for one in own]
        found[objective] = sensitivity(score, prompts, best, resamples=resamples, seed=seed)
    return found
