"""Every file format read and written, at one door; imports no torch and no transformers.

A path is a local file (JSON, JSON lines, CSV, each also .gz or .zst, or Parquet) or a Hugging Face name
`owner/name[/folder][:split]`; docs/formats.md lists the formats of the rows. What is malformed is fatal (InputError:
file, line, what was expected); what is well-formed and of no use is left out and counted by reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from plaudit.data.conversation import clean_text, content_hash, messages_of, prompt_of
from plaudit.data.judgements import (
    FEWER_THAN_TWO,
    SUPERSEDED,
    append_judgements,
    best_and_worst,
    current_judgements,
    judgement_from_dict,
    judgement_id,
    judgement_to_dict,
    read_log,
    why_useless,
)
from plaudit.data.reading import Reading
from plaudit.data.rows import read_rows
from plaudit.types import OVERALL, Demonstration, InputError, Judgement, Prompt

__all__ = [
    "Loaded",
    "Reading",
    "append_judgements",
    "best_and_worst",
    "clean_text",
    "content_hash",
    "current_judgements",
    "judgement_from_dict",
    "judgement_id",
    "judgement_to_dict",
    "messages_of",
    "prompt_of",
    "read_demonstrations",
    "read_judgements",
    "read_log",
    "read_prompts",
    "read_rows",
]

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded(Generic[Item]):
    """What a file gave: the usable items, and by reason how many rows were left out or repaired."""

    items: tuple[Item, ...]
    left_out: Mapping[str, int] = field(default_factory=dict[str, int])
    repaired: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def share_left_out(self) -> float:
        """Rows left out, as a share of all rows."""
        lost = sum(self.left_out.values())
        return lost / max(1, lost + len(self.items))


def read_judgements(path: str | Path, *, format: str = "auto", objective: str = OVERALL) -> Loaded[Judgement]:
    """Rankings from a file in any format that holds them (docs/formats.md), recognised from its fields or named.

    `objective` goes to the rows that name none. Corrections are followed: only what stands is returned. InputError
    where the file holds no usable ranking, one response per prompt everywhere among the causes.
    """
    reading = Reading(path, "judgements", format=format)
    left_out, repaired = reading.left_out, reading.repaired
    judgements: dict[str, Judgement] = {}
    for one in reading.judgements(objective):
        known = judgements.setdefault(one.id, one)
        if known is not one and _content(known) != _content(one):
            raise InputError(
                f"{reading.where}: another judgement has the id {known.id!r}; a correction has its own, and "
                "`supersedes`"
            )
        left_out["duplicate ranking"] += known is not one
    standing = current_judgements(judgements.values())
    repaired[SUPERSEDED] += len(judgements) - len(standing)
    return _loaded(path, _usable(standing, left_out), left_out, repaired, "ranking")


def _content(one: Judgement) -> str:
    return judgement_id(one.prompt, one.responses, one.ranking, one.objective, one.annotator, unordered=one.unordered)


def _usable(judgements: Iterable[Judgement], left_out: Counter[str]) -> Iterator[Judgement]:
    seen: set[str] = set()
    for one in judgements:
        key = _content(one)
        reason = why_useless(one) or ("duplicate ranking" if key in seen else None)
        if reason is None:
            seen.add(key)
            yield one
        else:
            left_out[reason] += 1


def read_demonstrations(path: str | Path) -> Loaded[Demonstration]:
    """Demonstrations: messages that end with an answer; prompt with completion or response; instruction with output."""
    reading = Reading(path, "demonstrations")
    left_out = reading.left_out
    items: dict[tuple[str, str], Demonstration] = {}
    for one in reading.demonstrations():
        if not one.response.strip():
            left_out["empty response"] += 1
        elif not one.prompt.messages[-1].content.strip():
            left_out["empty prompt"] += 1
        else:
            left_out["duplicate demonstration"] += (one.prompt.id, one.response) in items
            items.setdefault((one.prompt.id, one.response), one)
    return _loaded(path, items.values(), left_out, reading.repaired, "demonstration")


def read_prompts(path: str | Path) -> Loaded[Prompt]:
    """Prompts, each once: prompt, messages, instruction or turns; of demonstrations and rankings their prompt.

    A prompt that comes again is merged, and counted among the repairs: nothing of it is lost.
    """
    reading = Reading(path, "prompts")
    items: dict[str, Prompt] = {}
    for one in reading.prompts():
        if not one.messages[-1].content.strip():
            reading.left_out["empty prompt"] += 1
        else:
            reading.repaired["repeated prompt merged"] += one.id in items
            items.setdefault(one.id, one)
    return _loaded(path, items.values(), reading.left_out, reading.repaired, "prompt")


def _loaded(
    path: str | Path, items: Iterable[Item], left_out: Counter[str], repaired: Counter[str], noun: str
) -> Loaded[Item]:
    kept = tuple(items)  # first, for it may count what it leaves out
    if not kept:
        reasons = "; ".join(f"{count} {reason}" for reason, count in left_out.items() if count)
        if left_out[FEWER_THAN_TWO] and left_out[FEWER_THAN_TWO] == left_out.total():
            reasons = "every row has fewer than two responses, and a ranking needs two"
        raise InputError(f"{path}: holds no usable {noun} ({reasons or 'the file has no rows'})")
    return Loaded(items=kept, left_out=dict(+left_out), repaired=dict(+repaired))
