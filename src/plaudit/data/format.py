"""What a format is: how its rows are known, and how they are read."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from plaudit.data.row import Row
from plaudit.types import Demonstration, Judgement, Prompt

Kind = Literal["judgements", "demonstrations", "prompts"]
KINDS: tuple[Kind, ...] = ("judgements", "demonstrations", "prompts")


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What is seen in the values of a row, where the names of its fields are not enough."""

    words: str
    holds: Callable[[Mapping[str, object]], bool]


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """A way in which rows hold preferences, demonstrations or prompts."""

    name: str
    words: str
    """What it is, in a few words: for people."""
    shapes: tuple[tuple[str, ...], ...]
    """Sets of fields, any of which a row of this format has whole."""
    look: Look | None = None
    judgements: Callable[[Row, str], Iterable[Judgement]] | None = None
    """(row, objective of what speaks about nothing in particular) -> its rankings, one for each annotator."""
    demonstrations: Callable[[Row], Iterable[Demonstration]] | None = None
    prompts: Callable[[Row], Iterable[Prompt]] | None = None
    """Where None, the prompts are those of its rankings or demonstrations."""
    group: Callable[[Row], Hashable] | None = None
    """Rows that follow each other with equal keys are read as one (`Row.together`)."""
    each_alone: bool = True
    """Of such a format: a row by itself can be read as well."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What it holds; whatever holds rankings or demonstrations holds their prompts."""
        held: list[Kind] = [kind for kind in KINDS if getattr(self, kind) is not None]
        if held and "prompts" not in held:
            held.append("prompts")
        return tuple(held)

    def shape_of(self, fields: Mapping[str, object]) -> tuple[str, ...] | None:
        """The largest of its shapes that the fields have; None where they have none, or do not look like it."""
        fitting = [shape for shape in self.shapes if all(name in fields for name in shape)]
        if not fitting or (self.look is not None and not self.look.holds(fields)):
            return None
        return max(fitting, key=len)


def is_list_of_texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)
