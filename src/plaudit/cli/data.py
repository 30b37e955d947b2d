"""The verbs about files of preferences, demonstrations and prompts: what is in them, and into another format."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plaudit.cli.shell import Debug, errors_in_one_line, say, stop
from plaudit.types import OVERALL, InputError

if TYPE_CHECKING:
    from plaudit.data.inspection import Inspection
    from plaudit.data.reading import Reading

File = Annotated[str, typer.Argument(metavar="FILE", help="A file, or a Hugging Face name.")]
FormatName = Annotated[
    str, typer.Option("--format", metavar="NAME", help="The format of its rows; auto recognises it from their fields.")
]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Pass over bad rows, and list what was left out.")]


def add_to(app: typer.Typer) -> None:
    verbs = typer.Typer(no_args_is_help=True, help="Look into files of preferences, and convert them.")
    for verb in (inspect, convert, validate, formats):
        verbs.command()(verb)
    app.add_typer(verbs, name="data")


def inspect(
    file: File,
    format: FormatName = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    debug: Debug = False,
) -> None:
    """Say which format a file is in, why, and what it holds."""
    with errors_in_one_line(debug, goes_on=False):
        from plaudit.data.inspection import inspect

        found = inspect(file, format=format)
        if as_json:
            say(json.dumps(found.as_dict()))
        else:
            _say(_inspected(found))


def validate(file: File, format: FormatName = "auto", debug: Debug = False) -> None:
    """Read every row of a file and name those that are malformed; exits with 2 where there is one."""
    with errors_in_one_line(debug, goes_on=False):
        from plaudit.data.inspection import inspect

        reading = inspect(file, format=format).reading
        _warn_of_bad_rows(reading)
        if reading.bad:
            stop(f"error: {file}: {reading.bad} of {reading.rows} rows are malformed", InputError.exit_code)
        _say([f"{file}: {reading.rows} rows, none malformed", *_counts("left out", reading.left_out)])


def convert(
    source: Annotated[str, typer.Argument(metavar="IN", help="A file, or a Hugging Face name.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write; its suffix says how.")],
    to: Annotated[str, typer.Option("--to", metavar="NAME", help="The form to write: see `plaudit data formats`.")],
    format: FormatName = "auto",
    objective: Annotated[str, typer.Option(metavar="NAME", help="The objective of rankings that name none.")] = OVERALL,
    skip_bad: SkipBad = False,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT where it exists.")] = False,
    debug: Debug = False,
) -> None:
    """Read a file in any known format and write it in another; what is lost on the way is said."""
    with errors_in_one_line(debug, goes_on=False):
        from plaudit.data.conversion import convert

        if out.exists() and not force:
            raise InputError(f"{out}: exists already and is left as it is; name another file, or say --force")
        done = convert(source, out, to, format=format, objective=objective, skip_bad=skip_bad)
        _warn_of_bad_rows(done.reading)
        recognised = done.reading.recognised
        assert recognised is not None  # it was read
        _say(
            [
                f"{source} ({recognised.format.name}): {done.reading.rows} rows, {done.items} {done.target.kind}",
                f"{out} ({done.target.name}): {done.rows} rows",
                *_counts("bad rows left out", {"malformed": done.reading.bad}),
                *_counts("left out", done.reading.left_out),
                *(_counts("lost", done.losses) or ["lost: nothing"]),
            ]
        )


def formats(debug: Debug = False) -> None:
    """List the formats that are read, and the forms that are written."""
    with errors_in_one_line(debug, goes_on=False):
        from plaudit.data.registry import FORMATS
        from plaudit.data.targets import TARGETS

        width = max(map(len, [*FORMATS, *TARGETS]))
        _say(["read:", *(f"  {one.name:{width}}  {one.words}" for one in FORMATS.values())])
        _say(["written:", *(f"  {one.name:{width}}  {one.kind}: {one.words}" for one in TARGETS.values())])


def _inspected(found: Inspection) -> list[str]:
    facts = found.as_dict()
    lines = [f"{facts['file']}: {facts['format']}, {facts['is']}", f"  because {facts['why']}"]
    lines += [f"  it could be {one['format']} as well; {one['why_not']}" for one in facts["others"]]
    lines.append(f"  {facts['rows']} rows, {facts['bad']} bad")
    if found.kind is None:
        return [*lines, "  it holds neither rankings, demonstrations nor prompts"]
    if found.kind != "prompts":
        lines.append(f"  {facts[found.kind]} {found.kind}")
    lines.append(f"  {facts['prompts']} different prompts")
    if found.kind == "judgements":
        shares = ", ".join(f"{times} of {count}" for count, times in facts["responses_per_prompt"].items())
        lines.append(f"  responses: {shares}; with ties: {facts['ties']}; with a margin: {facts['margins']}")
        lines.append(f"  annotators named: {facts['annotators']}")
        for words in ("objectives", "aspects", "flags"):
            lines += [f"  {line}" for line in _counts(words, facts[words])]
    lines += [
        f"  {line}" for words in ("left_out", "repaired") for line in _counts(words.replace("_", " "), facts[words])
    ]
    return [*lines, *(f"  bad: {error}" for error in facts["bad_rows"])]


def _counts(words: str, counts: Mapping[str, int]) -> list[str]:
    there = [f"{name} ({count})" for name, count in counts.items() if count]
    return [f"{words}: {', '.join(there)}"] if there else []


def _warn_of_bad_rows(reading: Reading) -> None:
    for error in reading.bad_rows:
        say(str(error), err=True)
    if (more := reading.bad - len(reading.bad_rows)) > 0:
        say(f"and {more} more", err=True)


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        say(line)
