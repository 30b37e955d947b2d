"""Checkpoints against what is known: a world's truth per objective, and the skill of pre-training."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from plaudit.intervals import Floats, mean_interval, paired_difference, proportion_interval
from plaudit.types import Estimate, InputError, Prompt, SkillItem, Truth

Complete = Callable[[list[str]], list[str]]
"""Plain-text beginnings -> greedy continuations, without the beginnings."""


def truth_table(
    truth: Truth,
    prompts: Sequence[Prompt],
    texts_by_checkpoint: Mapping[str, Sequence[str]],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, dict[str, Estimate]]:
    """Checkpoint -> objective -> mean truth of its answers, resampled by prompt; `texts[i]` answers `prompts[i]`."""
    groups = [prompt.id for prompt in prompts]
    return {
        checkpoint: {
            objective: mean_interval(values, groups=groups, resamples=resamples, seed=seed)
            for objective, values in score(truth, prompts, texts).items()
        }
        for checkpoint, texts in texts_by_checkpoint.items()
    }


def truth_gains(
    truth: Truth,
    prompts: Sequence[Prompt],
    texts_before: Sequence[str],
    texts_after: Sequence[str],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Objective -> how much higher the truth of the later texts is, prompt by prompt."""
    groups = [prompt.id for prompt in prompts]
    before, after = score(truth, prompts, texts_before), score(truth, prompts, texts_after)
    return {
        objective: paired_difference(after[objective], before[objective], groups=groups, resamples=resamples, seed=seed)
        for objective in before
    }


def score(truth: Truth, prompts: Sequence[Prompt], texts: Sequence[str]) -> dict[str, Floats]:
    """Objective -> truth of each answer, float64, in the order of the prompts.

    Raises InputError where lengths differ, there is nothing to score, or two answers get different objectives.
    """
    if len(prompts) != len(texts) or not prompts:
        raise InputError(f"{len(prompts)} prompts and {len(texts)} answers: give one answer to each of at least one")
    rows = [truth(prompt, text) for prompt, text in zip(prompts, texts, strict=True)]
    for prompt, row in zip(prompts, rows, strict=True):
        if row.keys() != rows[0].keys():
            raise InputError(f"truth of prompt {prompt.id} has objectives {sorted(row)}, not {sorted(rows[0])}")
    return {objective: np.array([row[objective] for row in rows], dtype=np.float64) for objective in rows[0]}


def skill(items: Sequence[SkillItem], complete: Complete) -> Estimate:
    """Share of items that the model continues with the answer, with Wilson's interval.

    Right is a continuation that starts with the answer and goes on with no letter or digit of the same word
    ("12" is no answer "1", nor is "1.5"); runs of white space count as one space.
    """
    continuations = complete([item.text for item in items])
    if len(continuations) != len(items):
        raise InputError(f"{len(continuations)} continuations for {len(items)} skill items")
    right = sum(_is_right(item.answer, text) for item, text in zip(items, continuations, strict=True))
    return proportion_interval(right, len(items))


def _is_right(answer: str, continuation: str) -> bool:
    wanted, given = " ".join(answer.split()), " ".join(continuation.split())
    if not wanted:
        raise InputError("a skill item has an empty answer: any continuation would be right")
    return re.match(re.escape(wanted) + r"(?!\w|[.,]\d)", given) is not None
