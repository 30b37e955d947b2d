"""The verbs that run acts: all of them, or one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from plaudit.cli import judge, overoptimization
from plaudit.cli.shell import ActGroup, Debug, Overrides, Profile, Quiet, RecipeFile, Round, errors_in_one_line, say

if TYPE_CHECKING:
    from plaudit.recipe import Recipe

Act = Literal["sft", "sample", "reward", "ppo", "evaluate"]
ACTS: Mapping[Act, str] = {
    "sft": "Act I: fine-tune the model on demonstrations.",
    "sample": "Act II: sample responses to prompts, and have them ranked.",
    "reward": "Act II: train the judge, a reward model, on the rankings.",
    "ppo": "Act III: PPO against the judge, on a KL leash.",
    "evaluate": "Compare the models on held-out prompts.",
}


FURTHER: Mapping[Act, Callable[[typer.Typer], None]] = {"reward": judge.add_to, "evaluate": overoptimization.add_to}
"""Acts with further verbs below them."""


def add_to(app: typer.Typer) -> None:
    app.command()(run)
    app.command()(demo)
    for act, words in ACTS.items():
        if act in FURTHER:
            group = typer.Typer(cls=ActGroup, help=words, no_args_is_help=True)
            group.command(ActGroup.act, help=words)(_act_verb(act))
            FURTHER[act](group)
            app.add_typer(group, name=act, rich_help_panel="One act of a round")
        else:
            app.command(act, help=words, rich_help_panel="One act of a round")(_act_verb(act))


def run(
    recipe: RecipeFile,
    overrides: Overrides = None,
    profile: Profile = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Do all acts of every round and write the report; what is done already is skipped."""
    with errors_in_one_line(debug):
        from plaudit.recipe_file import load_recipe

        _run_whole(load_recipe(recipe, overrides or ()), quiet, profile=profile, table=not quiet)


def demo(
    seed: Annotated[int, typer.Option(min=0, help="Redraws annotators, splits and sampling.")] = 0,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The run folder.")] = Path("runs/demo"),
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Show all three acts on the built-in world: minutes, no downloads, no accounts."""
    with errors_in_one_line(debug):
        from plaudit.recipe_file import load_recipe, shipped_recipe

        folder = out if out.name not in ("", "..") else out.resolve()
        where = [f"{key}={json.dumps(str(value))}" for key, value in (("out", folder.parent), ("name", folder.name))]
        _run_whole(load_recipe(shipped_recipe("demo"), [f"seed={seed}", *where]), quiet, profile=False, table=True)


def _act_verb(act: Act) -> Callable[..., None]:
    def training_verb(
        recipe: RecipeFile,
        overrides: Overrides = None,
        round_index: Round = 0,
        profile: Profile = False,
        quiet: Quiet = False,
        debug: Debug = False,
    ) -> None:
        with errors_in_one_line(debug):
            from plaudit.recipe_file import load_recipe

            checked = load_recipe(recipe, overrides or ())
            from plaudit.rounds import run_act

            done = run_act(checked, act, round_index=round_index, quiet=quiet, profile=profile)
            say(f"{act}: {done}")

    def verb(
        recipe: RecipeFile,
        overrides: Overrides = None,
        round_index: Round = 0,
        quiet: Quiet = False,
        debug: Debug = False,
    ) -> None:
        training_verb(recipe, overrides, round_index, False, quiet, debug)

    return training_verb if act in ("sft", "reward", "ppo") else verb


def _run_whole(recipe: Recipe, quiet: bool, *, profile: bool, table: bool) -> None:
    # Only now: a mistake in the recipe is told without waiting for torch.
    from plaudit.rounds import run

    result = run(recipe, quiet=quiet, profile=profile)
    if table:
        _print_result(result.summary)
    say(f"report: {result.report}")


def _print_result(summary: Mapping[str, Any]) -> None:
    """Before and after: the truth where a world knows it, and how often the new model wins."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    newest: Mapping[str, Any] = summary["rounds"][-1]
    evaluation: Mapping[str, Any] = newest["evaluation"]
    truth: Mapping[str, Mapping[str, Mapping[str, float]]] = evaluation.get("truth") or {}
    if truth:
        columns = [name for name in ("total", "helpful", "harmless", "honest", "kind", "skill") if name in truth["sft"]]
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="Held-out truth, 0 to 1, with 95 % intervals")
        table.add_column("model")
        for name in columns:
            table.add_column(name, justify="right")
        for row in ("base", "sft", "rlhf"):
            if row in truth:
                table.add_row(row, *(_cell(truth[row].get(name)) for name in columns))
        console.print(table)
    if win := evaluation.get("win_rate"):
        console.print(f"win rate of rlhf over sft: {_share(win)}")
    for one in newest.get("contests", ()):
        console.print(
            f"people, blind: {one['first']} over {one['second']} {_share(one['share'])} on {one['prompts']} prompts",
            markup=False,
        )


def _share(estimate: Mapping[str, float]) -> str:
    return f"{estimate['value']:.2f} ({estimate['low']:.2f}–{estimate['high']:.2f})"


def _cell(estimate: Mapping[str, float] | None) -> str:
    if estimate is None:
        return ""
    return f"{estimate['value']:.2f}\n[dim]{estimate['low']:.2f}–{estimate['high']:.2f}[/dim]"
