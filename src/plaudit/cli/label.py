"""The verb that opens the people's page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plaudit.cli.shell import Debug, errors_in_one_line, say
from plaudit.types import InputError

if TYPE_CHECKING:
    from plaudit.feedback.desk import Desk


def add_to(app: typer.Typer) -> None:
    app.command()(label)


def label(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")],
    host: Annotated[
        str, typer.Option(help="Where to listen. Anywhere but on this computer alone, people sign in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8400,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="As people reach it through a proxy: https://label.example.org.")
    ] = None,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open a browser.")] = False,
    live: Annotated[
        bool, typer.Option("--live", help="Let people ask the run's newest model themselves, and rank what it says.")
    ] = False,
    contest: Annotated[
        str | None,
        typer.Option(
            metavar="A,B", help="Let people compare two checkpoints of the newest evaluation blind, as sft,rlhf."
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Open the page on which people rank responses, write answers, and review them."""
    with errors_in_one_line(debug):
        from plaudit.feedback.project import open_desk
        from plaudit.feedback.web.serving import Address, collect_rarely, secret_of, serve
        from plaudit.feedback.web.speaking import Speaker

        collect_rarely()
        desk = open_desk(run)
        if contest is not None:
            _add_contest(desk, run, contest)
        serve(
            desk,
            Address(host=host, port=port, url=url),
            secret=secret_of(run),
            speaker=Speaker(str(run)) if live else None,
            open_browser=not no_open,
            say=say,
        )


def _add_contest(desk: Desk, run: Path, pair: str) -> None:
    from plaudit.feedback.contests import queue_contest

    names = [name.strip() for name in pair.split(",")]
    if len(set(names)) != 2 or "" in names:
        raise InputError(f"--contest is {pair!r}; it names two checkpoints, as sft,rlhf")
    count = queue_contest(desk, run, *names)
    say(f"{count} prompts on which {names[0]} and {names[1]} differ are there to compare")
