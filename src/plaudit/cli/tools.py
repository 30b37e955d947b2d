"""The verbs around a run: what it would need, a recipe to start from, its report, a word with its models."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from plaudit.cli.shell import DOES_NOT_FIT, Debug, Overrides, RecipeFile, errors_in_one_line, say, stop
from plaudit.types import InputError


def add_to(app: typer.Typer) -> None:
    for verb in (plan, init, report, chat):
        app.command()(verb)


def plan(recipe: RecipeFile, overrides: Overrides = None, debug: Debug = False) -> None:
    """Say what memory and time each act will need on this machine, by part; nothing is trained."""
    with errors_in_one_line(debug):
        from plaudit.recipe_file import load_recipe

        checked = load_recipe(recipe, overrides or ())
        from plaudit.plan import make_plan

        made = make_plan(checked)
        for text in made.lines():
            say(text)
        if not made.fits:
            stop(f"error: this does not fit: {made.complaint()}", DOES_NOT_FIT)


def init(
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="The file to write.")] = Path("recipe.yaml"),
    debug: Debug = False,
) -> None:
    """Write a commented recipe to start from."""
    with errors_in_one_line(debug):
        from plaudit.recipe_file import shipped_recipe

        if not file.parent.is_dir():
            raise InputError(f"{file}: there is no folder {file.parent}")
        try:
            with file.open("x", encoding="utf-8") as target:
                target.write(shipped_recipe("starter").read_text(encoding="utf-8"))
        except FileExistsError:
            raise InputError(f"{file}: exists already and is left as it is; name another file") from None
        say(f"wrote {file}; next: plaudit run {shlex.quote(str(file))}")


def report(
    folder: Annotated[Path, typer.Argument(metavar="RUN_FOLDER", help="The folder of a run.")], debug: Debug = False
) -> None:
    """Write the report of a run again, from what its folder holds."""
    with errors_in_one_line(debug):
        if not folder.is_dir():
            raise InputError(f"{folder}: no such run folder")
        from plaudit.summary import write_report

        say(f"report: {write_report(folder)}")


def chat(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL_OR_RUN", help="A model folder, a Hugging Face name, or a run folder (its newest policy)."
        ),
    ],
    temperature: Annotated[
        float | None, typer.Option(min=0.0, help="0 takes the likeliest token. A run's recipe gives the default.")
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(max=1.0, help="The likeliest tokens that have this share of the probability.")
    ] = None,
    max_new_tokens: Annotated[int | None, typer.Option(min=1, help="The longest answer, in tokens.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Redraws the answers.")] = 0,
    system: Annotated[str | None, typer.Option(metavar="TEXT", help="Begin every conversation with this.")] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Of a run: its SFT model and its policy, in turn.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Talk with a model, or with what a run has made of it; messages may come through a pipe, one a line."""
    with errors_in_one_line(debug, goes_on=False):
        from plaudit.talk import Manner, talk

        manner = Manner(temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens, seed=seed, system=system)
        talk(model, manner, compare=compare)
