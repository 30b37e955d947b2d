"""summary.json and report.html: what the acts of a run came to, and what people said of its checkpoints since."""

from __future__ import annotations

import json
from pathlib import Path

from plaudit.evaluation import report
from plaudit.evaluation.run_files import acts_of
from plaudit.feedback.contests import said_of_rounds
from plaudit.recipe import Recipe
from plaudit.recipe_file import load_recipe
from plaudit.run_folder import Result, RunFolder, write_json

SUMMARY = "summary.json"


def summarise(folder: RunFolder, recipe: Recipe) -> Result:
    """Writes summary.json of what is done so far of the recipe's acts, and returns it."""
    found = [{act: folder.done(f"round_{i}/{act}") for act in acts_of(recipe)} for i in range(recipe.rounds)]
    rounds = [{act: result for act, result in one.items() if result is not None} for one in found]
    summary = _with_contests({"name": recipe.name, "seed": recipe.seed, "rounds": rounds}, folder.path, recipe)
    write_json(folder.path / SUMMARY, summary)
    return summary


def write_report(folder: Path) -> Path:
    """report.html of a run folder, and summary.json with what people have said of its checkpoints by now.

    Raises InputError where the folder holds no run or a .json in it is damaged.
    """
    file, summary = folder / "recipe.yaml", folder / SUMMARY
    recipe = load_recipe(file) if file.is_file() else None
    page = report.write_report(folder, recipe)
    if recipe is None or not summary.is_file():
        return page
    before: Result = json.loads(summary.read_text(encoding="utf-8"))
    now = _with_contests(before, folder, recipe)
    if now == before:
        return page
    write_json(summary, now)
    return report.write_report(folder, recipe)


def _with_contests(summary: Result, folder: Path, recipe: Recipe) -> Result:
    """The summary with what people said who compared a round's checkpoints blind, and no older word of theirs."""
    said = {index: [one.as_dict() for one in scores] for index, scores in said_of_rounds(folder, recipe).items()}
    acts = [{name: result for name, result in one.items() if name != "contests"} for one in summary["rounds"]]
    rounds = [one | {"contests": said[index]} if said.get(index) else one for index, one in enumerate(acts)]
    return summary | {"rounds": rounds}
