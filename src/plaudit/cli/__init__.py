"""The verbs. Each is a few calls of the public Python API; whatever is heavy is imported where it is used."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from plaudit.cli import acts, data, feedback, label, tools
from plaudit.cli.shell import say

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
            say(f"plaudit {version('plaudit')}")
        except PackageNotFoundError:
            say("plaudit (run from its source, not installed)")
        raise typer.Exit


@app.callback()
def plaudit(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Turn human preferences into a better language model."""


acts.add_to(app)
tools.add_to(app)
data.add_to(app)
label.add_to(app)
feedback.add_to(app)
