"""The verbs about a judge: how good it is on rankings that it has not seen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from plaudit.cli.shell import Debug, errors_in_one_line, say
from plaudit.types import OVERALL, InputError, Judgement, RewardFunction


def add_to(group: typer.Typer) -> None:
    group.command()(evaluate)


def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A run folder (its newest judge), a classifier's folder or Hugging Face name, the URL of a service, "
            "or package.module:function.",
        ),
    ],
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE[=OBJECTIVE]...", help="Rankings in any format, that the judge has not learned."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of intervals and folds.")] = 0,
    debug: Debug = False,
) -> None:
    """How often a judge is right and on what, whether it means what it says, and what moves it that should not."""
    with errors_in_one_line(debug, goes_on=False):
        named = [_named(given) for given in files]
        judgements, sources = _read(named)
        from plaudit.evaluation.judge_report import report_on_judge
        from plaudit.evaluation.rewardbench import score_benchmark
        from plaudit.feedback.statistics import ceiling_of

        judge = _judge_of(model)
        figures = report_on_judge(judge, judgements, sources=sources, seed=seed)
        if (ceiling := ceiling_of(judgements)) is not None:
            figures["ceiling"] = ceiling.as_dict()
        if "accuracy" not in figures:
            raise InputError("every ranking is one tie: there is nothing that a judge could be right about")
        scored = {name: score_benchmark(judge, name, objective=objective) for name, objective in named}
        short = dict(zip(scored, _short_names(list(scored)), strict=True))
        benchmarks = {short[name]: found for name, found in scored.items() if found is not None}
        figures |= {"benchmarks": benchmarks} if benchmarks else {}
        say(json.dumps(figures, indent=2) if as_json else _words(figures))


def _judge_of(model: str) -> RewardFunction:
    """A run's newest judge is the classifier that it exported, or, of a family that has none, opened on its trunk."""
    from plaudit.reward.ready import open_reward

    folder = Path(model)
    if not (folder / "recipe.yaml").is_file():
        return open_reward(model)
    rounds = [int(path.parts[-3].removeprefix("round_")) for path in folder.glob("round_*/reward/judge.json")]
    if not rounds:
        raise InputError(f"{folder}: this run has no judge yet: `plaudit reward` trains one")
    newest = folder / f"round_{max(rounds)}"
    if (exported := newest / "reward" / "model").is_dir():
        return open_reward(str(exported))
    from plaudit.judges import open_judge
    from plaudit.material import Material
    from plaudit.recipe_file import load_recipe
    from plaudit.run_folder import RunFolder
    from plaudit.workshop import Workshop

    recipe = load_recipe(folder / "recipe.yaml")
    return open_judge(Workshop(recipe, Material(recipe), RunFolder(folder, cache=None, quiet=True)), newest)


def _short_names(paths: Sequence[str]) -> list[str]:
    """The files' own names; where two have the same, with as many folders before it as tell all apart."""
    parts = [Path(path).parts for path in paths]
    deepest = max(map(len, parts), default=1)
    for depth in range(1, deepest + 1):
        names = ["/".join(one[-depth:]) for one in parts]
        if len(set(names)) == len(set(paths)):
            return names
    return list(paths)


def _named(given: str) -> tuple[str, str]:
    """(file, objective) of FILE=OBJECTIVE, or of a file alone."""
    name, sign, objective = given.rpartition("=")
    return (name, objective) if sign and not Path(given).exists() else (given, OVERALL)


def _read(files: Sequence[tuple[str, str]]) -> tuple[list[Judgement], list[str]]:
    from plaudit.data.formats import read_judgements

    judgements: list[Judgement] = []
    sources: list[str] = []
    for (name, objective), short in zip(files, _short_names([name for name, _ in files]), strict=True):
        found = read_judgements(name, objective=objective).items
        judgements += found
        sources += [short] * len(found)
    return judgements, sources


def _words(figures: Mapping[str, Any]) -> str:
    """The figures for people: one line each."""

    def interval(one: Mapping[str, float], digits: int = 3) -> str:
        return f"{one['value']:.{digits}f} ({one['low']:.{digits}f} to {one['high']:.{digits}f})"

    scaled: Mapping[str, Any] = figures["calibration"].get("scaled", {})
    lines = [
        f"accuracy            {interval(figures['accuracy'])} on {figures['pairs']} pairs",
        f"longer or shorter   {figures['length_baseline']:.3f}",
        f"  the judge is right {interval(figures['beats_length'])} more often than the rule that other prompts choose",
        f"first or last shown {figures['majority_baseline']:.3f}",
        *([f"the best judge      {interval(figures['ceiling'])} of such labels"] if "ceiling" in figures else []),
        f"calibration error   {figures['ece']:.3f}; a perfect judge stays below "
        f"{figures['calibration']['ece_of_a_perfect_judge']:.3f} on as many pairs",
    ]
    if scaled:
        temperature = figures["calibration"]["temperature"]
        lines.append(
            f"  scaled            {scaled['ece']:.3f}, below {scaled['ece_of_a_perfect_judge']:.3f}; temperatures of "
            f"other prompts, of all these {temperature:.2f}"
        )
    lines += [
        f"nll                 {interval(figures['nll'])}" + (f", scaled {interval(scaled['nll'])}" if scaled else "")
    ]
    lines += [f"brier               {interval(figures['brier'])}"]
    correlation = figures["length_correlation"]
    shown = ["–" if value is None else f"{value:+.2f}" for value in (correlation["all"], correlation["within_prompt"])]
    lines += [f"score and length    correlate {shown[0]}, within a prompt {shown[1]}"]
    for kind, slices in figures["slices"].items():
        lines.append(f"by {kind}")
        lines += [f"  {interval(one['accuracy'])}  {one['pairs']:>6} pairs  {name}" for name, one in slices.items()]
    for name, benchmark in figures.get("benchmarks", {}).items():
        lines.append(f"{name}: {benchmark['score']:.3f} by the benchmark's own rules")
        parts = benchmark.get("sections") or benchmark["subsets"]
        lines += [f"  {value:.3f}  {part}" for part, value in parts.items()]
    for objective, changes in figures["sensitivity"].items():
        lines.append(f"changes that add nothing move {objective} by")
        lines += [
            f"  {one['effect']['value']:+.3f}  {one['answers']:>6} answers  {name}" for name, one in changes.items()
        ]
    return "\n".join(lines)
