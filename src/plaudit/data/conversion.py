"""One file into another: read in whatever format, written in the form that is asked for, what is lost counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plaudit.data.judgements import SKIPPED, SUPERSEDED
from plaudit.data.reading import Reading
from plaudit.data.targets import Losses, Target, target_named
from plaudit.data.writing import write_rows
from plaudit.types import OVERALL, Demonstration, InputError, Judgement, Prompt


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversion:
    """What came of it."""

    reading: Reading
    target: Target
    items: int
    rows: int
    losses: Losses


def convert(
    source: str | Path,
    out: str | Path,
    to: str,
    *,
    format: str = "auto",
    objective: str = OVERALL,
    skip_bad: bool = False,
) -> Conversion:
    """Read `source` and write `out`, a row at a time. InputError where the source does not hold what `to` is made of.

    `objective` goes to the judgements that name none.
    """
    target = target_named(to)
    reading = Reading(source, target.kind, format=format, skip_bad=skip_bad)
    if (format_of := reading.begin()) is None:
        raise reading.bad_rows[0] if reading.bad_rows else InputError(f"{source}: has no rows")
    losses: Losses = Counter()
    taken = _Counted(_items(reading, target, objective))
    rows = write_rows(out, _rows(taken, target, losses), target.columns)
    if format_of.kinds[0] != target.kind:
        losses[f"everything but the {target.kind}"] += taken.count
    return Conversion(reading=reading, target=target, items=taken.count, rows=rows, losses=+losses)


def _items(reading: Reading, target: Target, objective: str) -> Iterator[Judgement | Demonstration | Prompt]:
    if reading.kind == "judgements":
        return reading.judgements(objective) if target.keeps_all else _standing(reading, objective)
    return reading.demonstrations() if reading.kind == "demonstrations" else reading.prompts()


def _standing(reading: Reading, objective: str) -> Iterator[Judgement]:
    """What annotators stand by: in rows that cannot say "skipped" or "superseded" the rest would pass for it."""
    superseded = _superseded(reading)
    for one in reading.judgements(objective):
        if one.id in superseded:
            reading.left_out[SUPERSEDED] += 1
        elif "skip" in one.flags:
            reading.left_out[SKIPPED] += 1
        else:
            yield one


def _superseded(reading: Reading) -> frozenset[str]:
    """The ids that corrections name. They are read beforehand, since a correction comes after what it corrects."""
    form = reading.begin()
    if form is None or form.name != "native":  # other people's rows correct nothing
        return frozenset()
    again = Reading(reading.path, format=form.name, skip_bad=True)
    return frozenset(one.supersedes for one in again.judgements() if one.supersedes is not None)


def _rows(items: _Counted, target: Target, losses: Losses) -> Iterator[dict[str, Any]]:
    before: object = None
    for item in items:
        if target.merges and isinstance(item, Judgement):
            key = (item.prompt.id, item.annotator)
            losses["where one ranking ends and the next of its prompt begins"] += key == before
            before = key
        yield from target.rows_of(item, losses)


class _Counted:
    """An iterator that knows how many items it gave."""

    def __init__(self, items: Iterator[Judgement | Demonstration | Prompt]) -> None:
        self.items, self.count = items, 0

    def __iter__(self) -> Iterator[Judgement | Demonstration | Prompt]:
        for item in self.items:
            self.count += 1
            yield item
