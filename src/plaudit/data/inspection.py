"""What a file holds, in figures: read once, in constant memory but for the ids that tell what comes again."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plaudit.data.format import Kind
from plaudit.data.judgements import tied_groups
from plaudit.data.reading import Reading
from plaudit.types import InputError, Judgement, Prompt

BAD_ROWS_SHOWN = 20


@dataclass(kw_only=True, slots=True)
class Figures:
    """What judgements, demonstrations or prompts come to."""

    items: int = 0
    prompts: set[int] = field(default_factory=set[int])
    """Hashes of the ids: at a million prompts, two of them are mistaken for one with a chance of 3e-8."""
    annotators: Counter[str] = field(default_factory=Counter[str])
    objectives: Counter[str] = field(default_factory=Counter[str])
    responses: Counter[int] = field(default_factory=Counter[int])
    aspects: Counter[str] = field(default_factory=Counter[str])
    flags: Counter[str] = field(default_factory=Counter[str])
    ties: int = 0
    margins: int = 0

    def add_prompt(self, prompt: Prompt) -> None:
        self.items += 1
        self.prompts.add(hash(prompt.id))

    def add(self, one: Judgement) -> None:
        self.add_prompt(one.prompt)
        self.annotators[one.annotator] += 1
        self.objectives[one.objective] += 1
        self.responses[len(one.responses)] += 1
        self.aspects.update(list(one.ratings))
        self.flags.update(one.flags)
        self.ties += bool(tied_groups(one))
        self.margins += one.strength is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspection:
    """A file as `plaudit data inspect` shows it."""

    reading: Reading
    kind: Kind | None
    """What its rows were read as; None: they hold neither rankings, demonstrations nor prompts."""
    figures: Figures

    def as_dict(self) -> dict[str, Any]:
        """The same in JSON's types."""
        reading, figures = self.reading, self.figures
        found = reading.recognised
        assert found is not None
        facts: dict[str, Any] = {
            "file": str(reading.path),
            "format": found.format.name,
            "why": found.why,
            "others": [{"format": name, "why_not": why} for name, why in found.others],
            "is": found.format.words,
            "holds": list(found.format.kinds),
            "rows": reading.rows,
            "bad": reading.bad,
            "bad_rows": [str(error) for error in reading.bad_rows[:BAD_ROWS_SHOWN]],
            "left_out": dict(+reading.left_out),
            "repaired": dict(+reading.repaired),
            "prompts": len(figures.prompts),
            self.kind if self.kind is not None and self.kind != "prompts" else "items": figures.items,
        }
        if self.kind == "judgements":
            facts |= {
                "ties": figures.ties,
                "responses_per_prompt": {str(count): times for count, times in sorted(figures.responses.items())},
                "annotators": len([name for name in figures.annotators if name]),
                "objectives": dict(figures.objectives),
                "aspects": dict(figures.aspects),
                "flags": dict(figures.flags),
                "margins": figures.margins,
            }
        return facts


def inspect(path: str | Path, *, format: str = "auto") -> Inspection:
    """Read the file to its end and count; InputError where no row of it is in a known format."""
    reading = Reading(path, format=format, skip_bad=True)
    one = reading.begin()
    if one is None:
        raise reading.bad_rows[0] if reading.bad_rows else InputError(f"{path}: has no rows")
    figures = Figures()
    kind = one.kinds[0] if one.kinds else None
    if kind == "judgements":
        for judgement in reading.judgements():
            figures.add(judgement)
    elif kind == "demonstrations":
        for shown in reading.demonstrations():
            figures.add_prompt(shown.prompt)
    elif kind == "prompts":
        for prompt in reading.prompts():
            figures.add_prompt(prompt)
    else:
        reading.rest()
    return Inspection(reading=reading, kind=kind, figures=figures)
