"""Answers of PPO that people should see next: where the judge knows least, and where it is most content.

Each step's most telling ones are written down; the next round of people's rankings begins with some of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from plaudit.data.conversation import prompt_of
from plaudit.data.responses import by_prompt, response_row
from plaudit.data.split import split_by_prompt
from plaudit.types import Prompt, Response, Rollout, Sampling

DOUBTFUL = "doubtful.jsonl"
Reason = Literal["unfamiliar", "disputed", "highest"]
ON_THE_WAY = ", step "
"""Between a run of PPO and the step whose policy said something, in place of a checkpoint's name."""
REASONS: tuple[Reason, ...] = ("unfamiliar", "disputed", "highest")


def telling(rollout: Rollout, score_B: Tensor) -> dict[Reason, int]:
    """Reason -> the answer of a step that is the best example of it. No answer stands for two reasons.

    unfamiliar: of those that are strange to the judge the one it scores highest. disputed: where its members differ
    most. highest: the one of the highest score. Empty answers cannot be ranked, and are passed over.
    """
    worth: dict[Reason, Tensor] = {
        "unfamiliar": score_B.masked_fill(~rollout.unfamiliar_B.to(score_B.device), float("-inf")),
        "disputed": _disputed(rollout).to(score_B.device),
        "highest": score_B,
    }
    empty = [b for b, text in enumerate(rollout.texts) if not text.strip()]
    found: dict[Reason, int] = {}
    for reason in REASONS:
        left_B = worth[reason].clone()
        left_B[[*empty, *found.values()]] = float("-inf")
        best = int(left_B.argmax())
        if left_B[best] > float("-inf"):
            found[reason] = best
    return found


def _disputed(rollout: Rollout) -> Tensor:
    """How far the judge's members differ [B], meant over objectives; -inf where they are of one mind."""
    spread_B = rollout.spread_BO.mean(dim=1)
    return spread_B.masked_fill(spread_B == 0, float("-inf"))


def note_doubtful(rollout: Rollout, score_B: Tensor, sampling: Sampling, *, step: int, folder: Path) -> None:
    """Write a step's most telling answers down, one for each reason there is."""
    with (folder / DOUBTFUL).open("a", encoding="utf-8") as file:
        for reason, b in telling(rollout, score_B).items():
            response = Response(text=rollout.texts[b], sampling=sampling, finished=bool(rollout.finished_B[b]))
            figures = {"score": float(score_B[b]), "spread": float(rollout.spread_BO[b].mean())}
            row = {"step": step, "reason": reason, **figures, **response_row(rollout.prompts[b], response)}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def doubtful_answers(act: Path, count: int, *, held_out: float, seed: int) -> list[tuple[Prompt, Response]]:
    """Up to `count` of what a run of PPO noted in its folder; none where it noted nothing, or there was no such run.

    Never to a prompt that is held out from the judge, or it would be measured on what it was chosen by.
    """
    if not (act / DOUBTFUL).is_file():
        return []
    with (act / DOUBTFUL).open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    rest, _ = split_by_prompt(rows, held_out, seed, lambda row: prompt_of(row["prompt"]))
    return most_doubtful(rest, count, run=f"{act.parent.name}/{act.name}")


def most_doubtful(rows: Sequence[Mapping[str, Any]], count: int, *, run: str) -> list[tuple[Prompt, Response]]:
    """Up to `count` of what was noted in this run of PPO: reason by reason in turn, the latest first, since what PPO
    says now is what the next round begins with. Each prompt once."""
    newest = {reason: [row for row in reversed(rows) if row["reason"] == reason] for reason in REASONS}
    found: dict[str, tuple[Prompt, Response]] = {}
    for row in _in_turn(*newest.values()):
        ((prompt, (response,)),) = by_prompt([row])
        if len(found) < count and prompt.id not in found:
            found[prompt.id] = prompt, replace(response, checkpoint=f"{run}{ON_THE_WAY}{row['step']}")
    return list(found.values())


def is_doubtful(response: Response) -> bool:
    """Whether it is one of these."""
    return ON_THE_WAY in response.checkpoint


def _in_turn(*rows: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    return (row for several in zip_longest(*rows) for row in several if row is not None)
