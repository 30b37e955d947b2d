"""Two checkpoints against each other, blind: their answers to the same prompts as tasks, and who wins."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, cast

from sqlalchemy import select
from sqlalchemy.orm import aliased

from plaudit.data.formats import prompt_of
from plaudit.feedback import schema
from plaudit.feedback.rows import judgements_of
from plaudit.types import Estimate, InputError, Judgement, Message, Prompt, Response

if TYPE_CHECKING:
    from plaudit.feedback.desk import Desk

SAMPLES = "evaluation/samples.jsonl"


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """How often `first` is preferred to `second`, a tie counting half; interval by prompt."""

    first: str
    second: str
    judgements: int
    wins: int
    ties: int
    losses: int
    share: Estimate


def queue_contest(desk: Desk, run: Path, first: str, second: str) -> int:
    """What two checkpoints of a run's newest evaluation answered becomes tasks; returns how many differ.

    Of a conversation the evaluation keeps the last turn, and that is what people see. InputError where there is no
    evaluation, or none of that name in it.
    """
    files = sorted(run.glob(f"round_*/{SAMPLES}"), key=lambda path: int(path.parts[-3].removeprefix("round_")))
    if not files:
        raise InputError(f"{run}: nothing was evaluated yet, so there are no answers to compare")
    rows = [cast(dict[str, str], json.loads(line)) for line in files[-1].read_text(encoding="utf-8").splitlines()]
    names = sorted({name for row in rows for name in row if name != "prompt"})
    for name in (first, second):
        if name not in names:
            raise InputError(f"{files[-1]}: there is no checkpoint {name!r}; there are {', '.join(names)}")
    tasks = [
        (prompt_of([Message(role="user", content=row["prompt"])]), [_said(row, first), _said(row, second)])
        for row in rows
        if row[first] != row[second]
    ]
    desk.add_tasks("contest", tasks)
    return len(tasks)


def _said(row: dict[str, str], name: str) -> Response:
    return Response(text=row[name], checkpoint=name)


def scores(desk: Desk) -> list[Score]:
    """Of every pair of checkpoints that people have compared."""
    correction = aliased(schema.Judgement)
    with desk.store.read() as session:
        rows = session.scalars(
            select(schema.Judgement)
            .outerjoin(correction, correction.supersedes == schema.Judgement.id)
            .where(schema.Judgement.purpose == "contest", correction.id.is_(None))
            .order_by(schema.Judgement.ordinal)
        ).all()
        excluded = desk.excluded()
        judgements = judgements_of(session, [row for row in rows if row.handle not in excluded])
    pairs: dict[tuple[str, str], list[tuple[Prompt, float]]] = {}
    for one in judgements:
        names = (one.responses[0].checkpoint, one.responses[1].checkpoint)
        if one.ranking:
            point = _point(one)
            key, point = (names, point) if names[0] <= names[1] else ((names[1], names[0]), 1 - point)
            pairs.setdefault(key, []).append((one.prompt, point))
    return [_score(first, second, points) for (first, second), points in sorted(pairs.items())]


def _point(judgement: Judgement) -> float:
    """1 where the first response is better, 0 where the second is, one half for a tie."""
    if len(judgement.ranking) == 1:
        return 0.5
    return 1.0 if 0 in judgement.ranking[0] else 0.0


def _score(first: str, second: str, points: Sequence[tuple[Prompt, float]]) -> Score:
    from plaudit.intervals import proportion_interval  # scipy is not needed to start the page

    values = [point for _, point in points]
    by_prompt: dict[str, list[float]] = {}
    for prompt, point in points:
        by_prompt.setdefault(prompt.id, []).append(point)
    return Score(
        first=first,
        second=second,
        judgements=len(points),
        wins=values.count(1.0),
        ties=values.count(0.5),
        losses=values.count(0.0),
        # several people on one prompt are one observation, their mean
        share=proportion_interval(sum(map(mean, by_prompt.values())), len(by_prompt)),
    )
