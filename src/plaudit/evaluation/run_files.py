"""What a run folder holds, read leniently: a run stopped midway has less in it, not something wrong."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from plaudit.recipe import Recipe
from plaudit.types import InputError

Json = Mapping[str, object]

ACTS = ("sft", "responses", "judgements", "reward", "ppo", "dpo", "ceiling", "evaluation")


def acts_of(recipe: Recipe) -> tuple[str, ...]:
    """Those that a recipe performs. Beside them a folder may hold what an earlier recipe left, which says nothing of
    this one's models."""
    from_people = recipe.ppo.reward is None and not recipe.data.preferences
    wanted = {
        "sft": recipe.sft is not None,
        "responses": from_people,
        "judgements": from_people and recipe.feedback.annotators == "people",
        "reward": recipe.ppo.reward is None,
        "ppo": recipe.align == "ppo",
        "dpo": recipe.align == "dpo" or recipe.evaluation.dpo,
        "ceiling": recipe.evaluation.ceiling is not None,
        "evaluation": True,
    }
    return tuple(act for act in ACTS if wanted[act])


@dataclass(frozen=True, kw_only=True)
class Act:
    name: str
    manifest: Json | None
    """None: the act has not begun, or is none of the recipe's."""
    metrics: Sequence[Json]
    """One row per logged step, ascending, each with its `step`."""
    damaged: int
    """Lines of metrics.jsonl that could not be read: a kill can cut a line short, and a resume writes behind it."""

    @property
    def is_done(self) -> bool:
        return self.manifest is not None and self.manifest.get("status") == "done"


@dataclass(frozen=True, kw_only=True)
class Round:
    number: int
    acts: Mapping[str, Act]
    summary: Json
    samples: Sequence[Json]
    overoptimization: Json
    """What `plaudit evaluate overoptimization` found; empty where it was not asked."""


@dataclass(frozen=True, kw_only=True)
class Run:
    name: str
    seed: object
    rounds: Sequence[Round]


def read_run(folder: Path, recipe: Recipe | None = None) -> Run:
    """Reads summary.json and every round_N: of a recipe its own acts and rounds, without one whatever there is.

    Raises InputError where there is no run or a .json is damaged.
    """
    summary = _read_object(folder / "summary.json") or {}
    summaries = [_object(item) for item in _list(summary.get("rounds"))]
    numbers = {int(tail) for path in folder.glob("round_*") if (tail := path.name.removeprefix("round_")).isdecimal()}
    if not numbers and not summaries:
        raise InputError(f"{folder}: no run here (neither round_0 nor summary.json with rounds); give a run folder")
    many, names = max(max(numbers, default=-1) + 1, len(summaries)), ACTS
    if recipe is not None:
        many, names = min(many, recipe.rounds), acts_of(recipe)
    rounds = [
        _read_round(folder / f"round_{number}", number, summaries[number] if number < len(summaries) else {}, names)
        for number in range(many)
    ]
    return Run(name=str(summary.get("name") or folder.resolve().name), seed=summary.get("seed"), rounds=rounds)


def _read_round(folder: Path, number: int, summary: Json, names: Collection[str]) -> Round:
    samples, _ = _read_lines(folder / "evaluation" / "samples.jsonl")
    other = {name: Act(name=name, manifest=None, metrics=(), damaged=0) for name in ACTS if name not in names}
    acts = {name: other.get(name) or _read_act(folder / name) for name in ACTS}
    summary = {name: result for name, result in summary.items() if name not in other}
    followed = _read_object(folder / "evaluation" / "overoptimization.json") or {}
    return Round(number=number, acts=acts, summary=summary, samples=samples, overoptimization=followed)


def _read_act(folder: Path) -> Act:
    rows, damaged = _read_lines(folder / "metrics.jsonl")
    manifest = _read_object(folder / "manifest.json")
    return Act(name=folder.name, manifest=manifest, metrics=_by_step(rows), damaged=damaged)


def _by_step(rows: Sequence[Json]) -> list[Json]:
    """One row per step: after a resume steps come again, and the later row is the one that counts."""
    latest: dict[float, Json] = {}
    for index, row in enumerate(rows):
        step = row.get("step")
        key = float(step) if isinstance(step, int | float) else float(index)
        latest[key] = {**row, "step": key}
    return [latest[key] for key in sorted(latest)]


def _read_object(path: Path) -> Json | None:
    if not path.is_file():
        return None
    try:
        data: object = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not JSON ({error}); delete it and run the act again") from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: a JSON object is expected, got {type(data).__name__}")
    return cast(Json, data)


def _read_lines(path: Path) -> tuple[list[Json], int]:
    """The objects of a .jsonl, and how many lines are none."""
    if not path.is_file():
        return [], 0
    rows: list[Json] = []
    damaged = 0
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        if not line.strip():
            continue
        try:
            row: object = json.loads(line)
        except json.JSONDecodeError:
            row = None
        if isinstance(row, dict):
            rows.append(cast(Json, row))
        else:
            damaged += 1
    return rows, damaged


def _object(data: object) -> Json:
    return cast(Json, data) if isinstance(data, dict) else {}


def _list(data: object) -> list[object]:
    return cast("list[object]", data) if isinstance(data, list) else []
