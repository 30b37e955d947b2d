"""The verb that measures how far a judge can be followed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from plaudit.cli.shell import Debug, Quiet, errors_in_one_line, say
from plaudit.types import InputError

WAYS = {"best_of_n": "best of n", "rl": "PPO"}


def add_to(group: typer.Typer) -> None:
    group.command()(overoptimization)


def overoptimization(
    folder: Annotated[Path, typer.Argument(metavar="RUN_FOLDER", help="A run whose policy is trained.")],
    samples: Annotated[int, typer.Option(min=2, help="Answers of the SFT model per prompt, for best-of-n.")] = 16,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """The judge's score and what it stands for, against the distance from the SFT model, by best-of-n and by PPO."""
    with errors_in_one_line(debug, goes_on=False):
        if not (folder / "recipe.yaml").is_file():
            raise InputError(f"{folder}: no run here (it has no recipe.yaml)")
        from plaudit.overoptimization import follow
        from plaudit.summary import write_report

        found = follow(folder, samples=samples, quiet=quiet or as_json)
        write_report(folder)
        say(json.dumps(found, indent=2) if as_json else _words(found))


def _words(found: Mapping[str, Any]) -> str:
    lines = [f"gains over the SFT model on {found['prompts']} prompts; measured by {found['measured_by']}"]
    for way, label in WAYS.items():
        one = found["ways"][way]
        lines += [f"{label}", "       KL   judge                     measured"]
        lines += [_row(point) for point in one["points"]]
        lines += where_it_peaks(one.get("fits", {}), one["points"])
    return "\n".join(lines)


def _row(point: Mapping[str, Any]) -> str:
    name = f"n = {point['n']}" if "n" in point else f"step {point['step']}"
    return f"  {point['kl']:7.2f}   {_interval(point['judge'])}   {_interval(point['measured'])}   {name}"


def _interval(one: Mapping[str, float]) -> str:
    return f"{one['value']:+.3f} ({one['low']:+.3f} to {one['high']:+.3f})"


def where_it_peaks(fits: Mapping[str, Any], points: Sequence[Mapping[str, Any]]) -> list[str]:
    """How far the judge can be followed, in words, by the curve through the measured gains."""
    if not fits:
        return ["  one distance alone: no curve (ppo.keep_policy_every keeps policies on the way)"]
    peak, distances = fits["measured"]["peak"], [point["kl"] for point in points if point["kl"] > 0]
    furthest = max(points, key=lambda point: point["kl"])
    if furthest["measured"]["value"] < 0 and (peak is None or peak["kl"] < min(distances)):
        return ["  what is measured falls from the start: do not follow this judge"]
    if peak is None or peak["kl"] > max(distances):
        return ["  what is measured still rises where this ends"]
    return [f"  what is measured peaks near a KL of {peak['kl']:.1f}, at {peak['gain']:+.3f}: follow no further"]
