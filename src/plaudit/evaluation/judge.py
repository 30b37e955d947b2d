"""How good a judge is on rankings it has not seen, beside rules that need no judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from plaudit.evaluation.pairs import beats_length, display_baseline, length_baseline, pair_accuracy, pair_outcomes
from plaudit.types import Judgement, RewardFunction


def judge_figures(judge: RewardFunction, held_out: Sequence[Judgement], *, resamples: int, seed: int) -> dict[str, Any]:
    """Accuracy on held-out rankings with its interval, and the baselines; all together and per objective.

    Each ranking is scored by the objective it speaks about. Empty where nothing was held out.
    """
    if not held_out:
        return {}
    texts = [(j.prompt, r.text) for j in held_out for r in j.responses]
    scores = iter(judge([prompt for prompt, _ in texts], [text for _, text in texts]).tolist())
    rows = [[next(scores)[judge.objectives.index(j.objective)] for _ in j.responses] for j in held_out]

    def figures(objective: str | None) -> dict[str, Any]:
        chosen = [i for i, j in enumerate(held_out) if objective in (None, j.objective)]
        judgements, chosen_rows = [held_out[i] for i in chosen], [rows[i] for i in chosen]
        outcomes = pair_outcomes(judgements, chosen_rows)
        if not outcomes:
            return {}
        return {
            "accuracy": pair_accuracy(outcomes, resamples=resamples, seed=seed).as_dict(),
            "pairs": len(outcomes),
            "length_baseline": best_length_rule(judgements),
            "majority_baseline": display_baseline(judgements)["best"],
            "beats_length": beats_length(judgements, chosen_rows, resamples=resamples, seed=seed).as_dict(),
        }

    return figures(None) | {"objectives": {o: figures(o) for o in judge.objectives}}


def best_length_rule(judgements: Sequence[Judgement]) -> float:
    """Accuracy of the better of "longer wins" and "shorter wins", chosen for each objective by itself."""
    right, pairs = 0.0, 0
    for objective in sorted({j.objective for j in judgements}):
        chosen = [j for j in judgements if j.objective == objective]
        count = len(pair_outcomes(chosen, [[0.0] * len(j.responses) for j in chosen]))
        if count:
            right, pairs = right + length_baseline(chosen)["best"] * count, pairs + count
    return right / pairs
