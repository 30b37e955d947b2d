"""Checkpoints side by side on the same held-out prompts: every figure with its interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plaudit.evaluation.text import text_table
from plaudit.evaluation.truth import truth_gains, truth_table
from plaudit.evaluation.winrate import Prefer, win_rate
from plaudit.intervals import intercept_interval, mean_interval, paired_difference
from plaudit.types import Estimate, Prompt, Truth

BEFORE, AFTER = "sft", "rlhf"
RIVALS = ("dpo", "best_of_n")
"""Other ways from the same rankings to an answer, which RLHF is set against."""
SCORE = "score"
Scorer = Callable[[Sequence[Prompt], Sequence[str]], Mapping[str, Sequence[float]]]
"""(prompts, texts) -> one number per answer under "score", and under its name each objective that the score is of."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What one checkpoint said, one answer per prompt."""

    texts: tuple[str, ...]
    finished: tuple[bool, ...]


def compare(
    prompts: Sequence[Prompt],
    answers: Mapping[str, Answers],
    *,
    truth: Truth | None,
    prefer: Prefer,
    scorers: Mapping[str, Scorer],
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """The evaluation of a round, ready for summary.json. `answers` has "sft", "rlhf" and perhaps others.

    `scorers` are judges by name.
    """
    texts = {name: a.texts for name, a in answers.items()}
    result: dict[str, Any] = {
        "prompts": len(prompts),
        "win_rate": win_rate(prompts, texts[AFTER], texts[BEFORE], prefer, seed=seed, resamples=resamples).as_dict(),
        "text": text_table(texts, {name: a.finished for name, a in answers.items()}),
    }
    if truth is not None:
        table = truth_table(truth, prompts, texts, resamples=resamples, seed=seed)
        result["truth"] = {name: as_dicts(row) for name, row in table.items()}
        gains = truth_gains(truth, prompts, texts[BEFORE], texts[AFTER], resamples=resamples, seed=seed)
        result["truth_gain"] = as_dicts(gains)
        if "ceiling" in table:
            start, end, best = (table[name]["total"].value for name in (BEFORE, AFTER, "ceiling"))
            result["share_of_ceiling"] = (end - start) / (best - start) if best > start else None
    options: dict[str, Any] = {"groups": [p.id for p in prompts], "resamples": resamples, "seed": seed}
    rivals: dict[str, dict[str, Any]] = {
        rival: {
            "win_rate": win_rate(prompts, texts[AFTER], texts[rival], prefer, seed=seed, resamples=resamples).as_dict()
        }
        for rival in RIVALS
        if rival in texts
    }
    if truth is not None:
        for rival, found in rivals.items():
            found["truth"] = truth_gains(truth, prompts, texts[rival], texts[AFTER], resamples=resamples, seed=seed)[
                "total"
            ].as_dict()
    for name, scorer in scorers.items():
        scores = {k: scorer(prompts, texts[k]) for k in texts}
        for rival, found in rivals.items():
            found[name] = paired_difference(scores[AFTER][SCORE], scores[rival][SCORE], **options).as_dict()
        gains = {
            part: score_gain(prompts, {k: scores[k][part] for k in scores}, texts, resamples, seed)
            for part in scores[BEFORE]
        }
        others = {
            k: mean_interval(found[SCORE], **options).as_dict()
            for k, found in scores.items()
            if k not in (BEFORE, AFTER)
        }
        result[name] = others | gains.pop(SCORE) | ({"objectives": gains} if gains else {})
    return result | ({"rivals": rivals} if rivals else {})


def score_gain(
    prompts: Sequence[Prompt],
    scores: Mapping[str, Sequence[float]],
    texts: Mapping[str, Sequence[str]],
    resamples: int,
    seed: int,
) -> dict[str, dict[str, float]]:
    """A judge's mean score before and after, the paired gain, and the gain at equal length (in words)."""
    groups = [p.id for p in prompts]
    gains = [after - before for before, after in zip(scores[BEFORE], scores[AFTER], strict=True)]
    longer_by = [len(a.split()) - len(b.split()) for a, b in zip(texts[AFTER], texts[BEFORE], strict=True)]
    options: dict[str, Any] = {"groups": groups, "resamples": resamples, "seed": seed}
    found = {
        BEFORE: mean_interval(scores[BEFORE], **options),
        AFTER: mean_interval(scores[AFTER], **options),
        "gain": paired_difference(scores[AFTER], scores[BEFORE], **options),
        "gain_at_equal_length": intercept_interval(gains, longer_by, **options),
    }
    return as_dicts(found)


def as_dicts(estimates: Mapping[str, Estimate]) -> dict[str, dict[str, float]]:
    return {name: estimate.as_dict() for name, estimate in estimates.items()}
