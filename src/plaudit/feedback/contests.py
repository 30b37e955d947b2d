"""Two checkpoints against each other, blind: their answers to the same prompts as tasks, and who wins."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any, cast

from sqlalchemy import select
from sqlalchemy.orm import aliased

from plaudit.data.formats import prompt_of
from plaudit.feedback import schema
from plaudit.feedback.desk import Desk
from plaudit.feedback.project import by_cover, has_store, open_store
from plaudit.feedback.rows import judgements_of
from plaudit.recipe import Recipe
from plaudit.recipe_file import load_recipe
from plaudit.types import Estimate, InputError, Judgement, Message, Prompt, Response

SAMPLES, TAGS = "evaluation/samples.jsonl", "tags.json"
Row = Mapping[str, str]
"""Of samples.jsonl: "prompt", and what each checkpoint answered, by its name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """How often `first` is preferred to `second`, a tie counting half; interval by prompt."""

    first: str
    second: str
    judgements: int
    prompts: int
    wins: int
    ties: int
    losses: int
    share: Estimate

    def as_dict(self) -> dict[str, Any]:
        counts = {name: getattr(self, name) for name in ("judgements", "prompts", "wins", "ties", "losses")}
        return {"first": self.first, "second": self.second, **counts, "share": self.share.as_dict()}


def queue_contest(desk: Desk, run: Path, first: str, second: str) -> int:
    """What two checkpoints of a run's newest evaluation answered becomes tasks; returns how many differ.

    Of a conversation the evaluation keeps the last turn, and that is what people see. InputError where there is no
    evaluation, or none of that name in it.
    """
    files = _evaluated(run)
    if not files:
        raise InputError(f"{run}: nothing was evaluated yet, so there are no answers to compare")
    newest = files[max(files)]
    rows = _rows(newest)
    names = sorted({name for row in rows for name in row if name != "prompt"})
    for name in (first, second):
        if name not in names:
            raise InputError(f"{newest}: there is no checkpoint {name!r}; there are {', '.join(names)}")
    tasks = [
        (_prompt(row, tags), [Response(text=row[name], checkpoint=name) for name in (first, second)])
        for row, tags in zip(rows, _tags(newest, len(rows)), strict=True)
        if row[first] != row[second]
    ]
    for sensitive, part in by_cover(tasks, load_recipe(run / "recipe.yaml"), lambda task: task[0]):
        desk.add_tasks("contest", part, sensitive=sensitive)
    return len(tasks)


def said_of_rounds(run: Path, recipe: Recipe) -> dict[int, list[Score]]:
    """By round, how people decided who compared the very answers of its evaluation; empty where nobody has a desk.

    After a round is evaluated anew, what was said of its earlier answers is in the store, and not here.
    """
    if not has_store(run, recipe):
        return {}
    desk = open_store(run, recipe)
    try:
        return {index: scores(desk, of=_rows(file)) for index, file in _evaluated(run).items()}
    finally:
        desk.store.close()


def _evaluated(run: Path) -> dict[int, Path]:
    """Round -> its samples.jsonl."""
    files = run.glob(f"round_*/{SAMPLES}")
    return {int(file.parts[-3].removeprefix("round_")): file for file in files}


def _rows(file: Path) -> list[Row]:
    with file.open(encoding="utf-8") as lines:
        return [cast(Row, json.loads(line)) for line in lines]


def _tags(samples: Path, count: int) -> list[list[str]]:
    """Of the prompts, row by row; none where the evaluation has not kept them."""
    file = samples.with_name(TAGS)
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else [[]] * count


def _prompt(row: Row, tags: Sequence[str] = ()) -> Prompt:
    return prompt_of([Message(role="user", content=row["prompt"])], tags)


def scores(desk: Desk, *, of: Sequence[Row] | None = None) -> list[Score]:
    """Of every pair of checkpoints that people have compared; `of` these answers alone where they are given."""
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
    if of is not None:
        answers: dict[str, list[Row]] = {}
        for row in of:
            answers.setdefault(_prompt(row).id, []).append(row)
        judgements = [one for one in judgements if any(_is_of(one, row) for row in answers.get(one.prompt.id, ()))]
    pairs: dict[tuple[str, str], list[tuple[Prompt, float]]] = {}
    for one in judgements:
        names = (one.responses[0].checkpoint, one.responses[1].checkpoint)
        if one.ranking:
            point = _point(one)
            key, point = (names, point) if names[0] <= names[1] else ((names[1], names[0]), 1 - point)
            pairs.setdefault(key, []).append((one.prompt, point))
    return [_score(first, second, points) for (first, second), points in sorted(pairs.items())]


def _is_of(judgement: Judgement, row: Row) -> bool:
    return all(row.get(one.checkpoint) == one.text for one in judgement.responses)


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
        prompts=len(by_prompt),
        wins=values.count(1.0),
        ties=values.count(0.5),
        losses=values.count(0.0),
        # several people on one prompt are one observation, their mean
        share=proportion_interval(sum(map(mean, by_prompt.values())), len(by_prompt)),
    )
