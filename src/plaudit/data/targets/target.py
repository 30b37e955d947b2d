"""What a form to write is, and how it is told what it cannot hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from plaudit.data.format import Kind
from plaudit.types import OVERALL, Judgement, Message, Prompt

Column = Literal["text", "number", "truth", "messages", "json"]
Fields = dict[str, Any]
Losses = Counter[str]
"""What could not be written, in words, and how often."""

PARTS: Mapping[str, Callable[[Judgement], object]] = {
    "margin": lambda one: one.strength is not None,
    "annotator": lambda one: one.annotator,
    "objective": lambda one: one.objective != OVERALL,
    "flags": lambda one: one.flags,
    "ratings": lambda one: one.ratings,
    "rationale": lambda one: one.rationale,
    "edited responses": lambda one: one.edited,
    "display order": lambda one: one.display_order,
    "guideline version": lambda one: one.guideline_version,
    "time": lambda one: one.seconds is not None or one.created,
    "correction of an earlier one": lambda one: one.supersedes is not None,
    "names of models": lambda one: any(response.checkpoint for response in one.responses),
    "circumstances of sampling": lambda one: any(r.sampling is not None or not r.finished for r in one.responses),
    "tag": lambda one: one.prompt.tags,
    "further tags": lambda one: len(one.prompt.tags) > 1,
}
"""What a judgement may say besides prompt, responses and ranking."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A form to write."""

    name: str
    words: str
    kind: Kind
    read_as: str
    """The format that reads it again."""
    columns: Mapping[str, Column]
    rows: Callable[[Any, Losses], Iterable[Fields]]
    """An item -> its rows; what they do not hold is counted among the losses."""
    keeps: frozenset[str] = frozenset()
    """Of a judgement's parts, those that the rows hold."""
    merges: bool = False
    """True: rows of one prompt that follow each other are read as one."""

    @property
    def keeps_all(self) -> bool:
        """True: even a judgement that does not stand is told as what it is."""
        return self.keeps >= PARTS.keys()

    def rows_of(self, item: Any, losses: Losses) -> Iterable[Fields]:
        """The rows of an item, with everything that is lost on the way counted."""
        if isinstance(item, Judgement):
            for part in _parts_besides(self.keeps):
                losses[part] += bool(PARTS[part](item))
        return self.rows(item, losses)


@cache
def _parts_besides(kept: frozenset[str]) -> tuple[str, ...]:
    return tuple(part for part in PARTS if part not in kept)


# Parts of rows that many forms share


def subset_of(prompt: Prompt) -> Fields:
    """The first tag, which every format reads again from `subset`."""
    return {"subset": prompt.tags[0]} if prompt.tags else {}


def turn(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


def turns(messages: Iterable[Message]) -> list[dict[str, str]]:
    return [turn(one.role, one.content) for one in messages]


def single_text(prompt: Prompt, losses: Losses) -> str | None:
    """The prompt where it is one user's message: more than that fits in no single text."""
    if len(prompt.messages) == 1:
        return prompt.messages[0].content
    losses["conversations of several turns, left out"] += 1
    return None


def from_and_value(messages: Iterable[Message]) -> list[dict[str, str]]:
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    return [{"from": names[one.role], "value": one.content} for one in messages]
