"""What the verbs share: their options, and errors that end in one line and an exit code."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from plaudit.terminal import printable
from plaudit.types import PlauditError

DISK_FULL, DOES_NOT_FIT, INTERRUPTED = 4, 5, 130
"""Exit codes, besides 1 (unexpected), 2 (wrong use) and those of PlauditError."""

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


class ActGroup(TyperGroup):
    """A verb that does an act, with further verbs below it: `plaudit reward RECIPE`, `plaudit reward evaluate ...`."""

    act = "train"
    """The verb that may be left out."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [self.act, *args]
        return super().parse_args(ctx, args)


@contextlib.contextmanager
def errors_in_one_line(debug: bool, *, goes_on: bool = True) -> Generator[None]:
    """Turns what goes wrong into one line on stderr and an exit code; with `debug` it is raised as it is.

    `goes_on`: what was interrupted can be taken up again.
    """
    try:
        yield
    except typer.Exit:
        raise  # an exit code that was meant
    except KeyboardInterrupt:
        again = shlex.join(["plaudit", *sys.argv[1:]])
        stop(f"stopped; `{again}` goes on from here" if goes_on else "stopped", INTERRUPTED)
    except Exception as error:
        if debug:
            raise
        if isinstance(error, PlauditError):
            stop(f"error: {error}", DISK_FULL if _is_disk_full(error) else error.exit_code)
        if _is_disk_full(error):
            stop(f"error: the disk is full ({_first_line(error)}); free some space and run the same again", DISK_FULL)
        stop(f"error: {_first_line(error)}; run again with --debug for the traceback", PlauditError.exit_code)


def say(text: str, *, err: bool = False) -> None:
    """Print a line, in which keys, names and texts may stand that others wrote: none of them controls a terminal."""
    typer.echo(printable(text), err=err)


def stop(text: str, code: int) -> NoReturn:
    """Say why on stderr, and exit with this code."""
    say(text.replace("\n", "\n       "), err=True)
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
