"""How good a judge is on rankings it has not seen, beside rules that need no judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from plaudit.answers import ask
from plaudit.evaluation.pairs import beats_length, display_baseline, length_baseline, pair_accuracy, pair_outcomes
from plaudit.intervals import Floats
from plaudit.types import Judgement, RewardFunction


@dataclass(frozen=True, kw_only=True, slots=True)
class Heard:
    """What a judge says of the K responses of one judgement, by the objective that it speaks of."""

    scores_K: list[float]
    members_KE: Floats
    strange_K: list[float] | None
    """None: the judge does not know what is strange to it."""


def hear(judge: RewardFunction, judgements: Sequence[Judgement]) -> list[Heard]:
    """The judge on every response of every judgement, in one call."""
    texts = [(one.prompt, response.text) for one in judgements for response in one.responses]
    said = ask(judge, [prompt for prompt, _ in texts], [text for _, text in texts], name="the judge")
    ends = np.cumsum([len(one.responses) for one in judgements])[:-1]
    scores = np.split(said.scores_BEO.double().numpy(), ends)
    strange = [None] * len(judgements) if said.strange_B is None else np.split(said.strange_B.double().numpy(), ends)
    found: list[Heard] = []
    for one, scores_KEO, strange_K in zip(judgements, scores, strange, strict=True):
        members_KE = scores_KEO[:, :, judge.objectives.index(one.objective)]
        found.append(
            Heard(
                scores_K=members_KE.mean(axis=1).tolist(),
                members_KE=members_KE,
                strange_K=None if strange_K is None else strange_K.tolist(),
            )
        )
    return found


def judge_figures(
    objectives: Sequence[str],
    held_out: Sequence[Judgement],
    rows: Sequence[Sequence[float]],
    *,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Accuracy on held-out rankings with its interval, and the baselines; all together and per objective. `rows` are
    the judge's scores of each ranking's responses. No figures where no pair was decided."""

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

    return figures(None) | {"objectives": {o: figures(o) for o in objectives}}


def best_length_rule(judgements: Sequence[Judgement]) -> float:
    """Accuracy of the better of "longer wins" and "shorter wins", chosen for each objective by itself."""
    right, pairs = 0.0, 0
    for objective in sorted({j.objective for j in judgements}):
        chosen = [j for j in judgements if j.objective == objective]
        count = len(pair_outcomes(chosen, [[0.0] * len(j.responses) for j in chosen]))
        if count:
            right, pairs = right + length_baseline(chosen)["best"] * count, pairs + count
    return right / pairs
