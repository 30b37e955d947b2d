"""One file into another: read in whatever format, written in the form that is asked for, what is lost counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    taken = _Counted(_items(reading, objective))
    rows = write_rows(out, _rows(taken, target, losses), target.columns)
    if format_of.kinds[0] != target.kind:
        losses[f"everything but the {target.kind}"] += taken.count
    return Conversion(reading=reading, target=target, items=taken.count, rows=rows, losses=+losses)


def _items(reading: Reading, objective: str) -> Iterator[Judgement | Demonstration | Prompt]:
    if reading.kind == "judgements":
        return reading.judgements(objective)
    return reading.demonstrations() if reading.kind == "demonstrations" else reading.prompts()


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
