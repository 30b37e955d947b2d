"""The verbs. Each is a few calls of the public Python API; whatever is heavy is imported where it is used."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shlex
import sys
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from plaudit.types import InputError, PlauditError

if TYPE_CHECKING:
    from plaudit.recipe import Recipe

DISK_FULL, DOES_NOT_FIT, INTERRUPTED = 4, 5, 130
"""Exit codes, besides 1 (unexpected), 2 (wrong use) and those of PlauditError."""

Act = Literal["sft", "sample", "reward", "ppo", "evaluate"]
ACTS: Mapping[Act, str] = {
    "sft": "Act I: fine-tune the model on demonstrations.",
    "sample": "Act II: sample responses to prompts, for people to rank.",
    "reward": "Act II: collect judgements and train the judge, a reward model, on them.",
    "ppo": "Act III: PPO against the judge, on a KL leash.",
    "evaluate": "Compare the models on held-out prompts.",
}

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe, a YAML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Fields to set, as in ppo.kl.coefficient=0.05."),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Say nothing but the result; progress bars are for terminals alone.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Profile = Annotated[
    bool, typer.Option("--profile", help="Trace a few steps of each act that trains: trace.json in the act's folder.")
]
Round = Annotated[int, typer.Option("--round", min=0, help="Which round, counted from 0.")]

app = typer.Typer(
    name="plaudit",
    help="Turn human preferences into a better language model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Entry point of the `plaudit` command."""
    # A plug-in in the current directory is found, as it is with `python -m`.
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"plaudit {version('plaudit')}")
        except PackageNotFoundError:
            typer.echo("plaudit (run from its source, not installed)")
        raise typer.Exit


@app.callback()
def plaudit(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Turn human preferences into a better language model."""


@app.command()
def run(
    recipe: RecipeFile,
    overrides: Overrides = None,
    profile: Profile = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Do all acts of every round and write the report; what is done already is skipped."""
    with _errors_in_one_line(debug):
        from plaudit.recipe_file import load_recipe

        _run_whole(load_recipe(recipe, overrides or ()), quiet, profile=profile, table=not quiet)


@app.command()
def demo(
    seed: Annotated[int, typer.Option(min=0, help="Redraws annotators, splits and sampling.")] = 0,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The run folder.")] = Path("runs/demo"),
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Show all three acts on the built-in world: minutes, no downloads, no accounts."""
    with _errors_in_one_line(debug):
        from plaudit.recipe_file import load_recipe, shipped_recipe

        folder = out if out.name not in ("", "..") else out.resolve()
        where = [f"{key}={json.dumps(str(value))}" for key, value in (("out", folder.parent), ("name", folder.name))]
        _run_whole(load_recipe(shipped_recipe("demo"), [f"seed={seed}", *where]), quiet, profile=False, table=True)


@app.command()
def plan(recipe: RecipeFile, overrides: Overrides = None, debug: Debug = False) -> None:
    """Say what memory and time Act III will need on this machine, by part; nothing is trained."""
    with _errors_in_one_line(debug):
        from plaudit.recipe_file import load_recipe

        checked = load_recipe(recipe, overrides or ())
        from plaudit.plan import make_plan

        made = make_plan(checked)
        for text in made.lines():
            typer.echo(text)
        if not made.fits:
            _stop(
                "error: this does not fit; lower ppo.tokens_per_microbatch, raise model.split_depth, or set "
                "model.activation_checkpointing",
                DOES_NOT_FIT,
            )


@app.command()
def init(
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="The file to write.")] = Path("recipe.yaml"),
    debug: Debug = False,
) -> None:
    """Write a commented recipe to start from."""
    with _errors_in_one_line(debug):
        from plaudit.recipe_file import shipped_recipe

        if not file.parent.is_dir():
            raise InputError(f"{file}: there is no folder {file.parent}")
        try:
            with file.open("x", encoding="utf-8") as target:
                target.write(shipped_recipe("starter").read_text(encoding="utf-8"))
        except FileExistsError:
            raise InputError(f"{file}: exists already and is left as it is; name another file") from None
        typer.echo(f"wrote {file}; next: plaudit run {shlex.quote(str(file))}")


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="RUN_FOLDER", help="The folder of a run.")], debug: Debug = False
) -> None:
    """Write the report of a run again, from what its folder holds."""
    with _errors_in_one_line(debug):
        if not folder.is_dir():
            raise InputError(f"{folder}: no such run folder")
        from plaudit.rounds import write_report

        typer.echo(f"report: {write_report(folder)}")


@app.command()
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
    with _errors_in_one_line(debug, goes_on=False):
        from plaudit.talk import Manner, talk

        manner = Manner(temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens, seed=seed, system=system)
        talk(model, manner, compare=compare)


def _act_verb(act: Act) -> Callable[..., None]:
    def training_verb(
        recipe: RecipeFile,
        overrides: Overrides = None,
        round_index: Round = 0,
        profile: Profile = False,
        quiet: Quiet = False,
        debug: Debug = False,
    ) -> None:
        with _errors_in_one_line(debug):
            from plaudit.recipe_file import load_recipe

            checked = load_recipe(recipe, overrides or ())
            from plaudit.rounds import run_act

            done = run_act(checked, act, round_index=round_index, quiet=quiet, profile=profile)
            typer.echo(f"{act}: {done}")

    def verb(
        recipe: RecipeFile,
        overrides: Overrides = None,
        round_index: Round = 0,
        quiet: Quiet = False,
        debug: Debug = False,
    ) -> None:
        training_verb(recipe, overrides, round_index, False, quiet, debug)

    return training_verb if act in ("sft", "reward", "ppo") else verb


for _act, _help in ACTS.items():
    app.command(_act, help=_help, rich_help_panel="One act of a round")(_act_verb(_act))


def _run_whole(recipe: Recipe, quiet: bool, *, profile: bool, table: bool) -> None:
    # Only now: a mistake in the recipe is told without waiting for torch.
    from plaudit.rounds import run

    result = run(recipe, quiet=quiet, profile=profile)
    if table:
        _print_result(result.summary)
    typer.echo(f"report: {result.report}")


@contextlib.contextmanager
def _errors_in_one_line(debug: bool, *, goes_on: bool = True) -> Generator[None]:
    """Turns what goes wrong into one line on stderr and an exit code; with `debug` it is raised as it is.

    `goes_on`: what was interrupted can be taken up again.
    """
    try:
        yield
    except typer.Exit:
        raise  # an exit code that was meant
    except KeyboardInterrupt:
        again = shlex.join(["plaudit", *sys.argv[1:]])
        _stop(f"stopped; `{again}` goes on from here" if goes_on else "stopped", INTERRUPTED)
    except Exception as error:
        if debug:
            raise
        if isinstance(error, PlauditError):
            _stop(f"error: {error}", error.exit_code)
        if _is_disk_full(error):
            _stop(f"error: the disk is full ({_first_line(error)}); free some space and run the same again", DISK_FULL)
        _stop(f"error: {_first_line(error)}; run again with --debug for the traceback", PlauditError.exit_code)


def _stop(text: str, code: int) -> None:
    typer.echo(text.replace("\n", "\n       "), err=True)
    raise typer.Exit(code)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _is_disk_full(error: BaseException | None) -> bool:
    """Whether a full disk is behind an error; libraries that write files wrap it, or keep its words alone."""
    while error is not None:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            return True
        if os.strerror(errno.ENOSPC) in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _print_result(summary: Mapping[str, Any]) -> None:
    """Before and after: the truth where a world knows it, and how often the new model wins."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    evaluation: Mapping[str, Any] = summary["rounds"][-1]["evaluation"]
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
        console.print(f"win rate of rlhf over sft: {win['value']:.2f} ({win['low']:.2f}–{win['high']:.2f})")


def _cell(estimate: Mapping[str, float] | None) -> str:
    if estimate is None:
        return ""
    return f"{estimate['value']:.2f}\n[dim]{estimate['low']:.2f}–{estimate['high']:.2f}[/dim]"
