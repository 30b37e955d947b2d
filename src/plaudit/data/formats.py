"""Every file format read and written, at one door; imports no torch and no transformers.

A path is a local file (JSON, JSON lines, either gzipped, Parquet) or a Hugging Face name `owner/name[/folder][:split]`.
What is malformed is fatal (InputError: file, line, what was expected); what is well-formed and of no use is left out
and counted by reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Literal, TypeVar

from plaudit.data.conversation import clean_text, content_hash, messages_of, prompt_of
from plaudit.data.demonstrations import demonstration_of, row_prompt
from plaudit.data.judgements import (
    append_judgements,
    current_judgements,
    judgement_from_dict,
    judgement_id,
    judgement_to_dict,
    read_log,
)
from plaudit.data.pairs import FEWER_THAN_TWO, Format, judgement_of, recognise, why_useless
from plaudit.data.rows import LeaveOut, Row, Torn, read_rows, read_rows_or_torn
from plaudit.types import OVERALL, Demonstration, InputError, Judgement, Prompt

__all__ = [
    "Loaded",
    "append_judgements",
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


def read_judgements(
    path: str | Path, *, format: Literal["auto", "hh", "trl", "native"] = "auto", objective: str = OVERALL
) -> Loaded[Judgement]:
    """Rankings from a file: HH transcripts, TRL pairs, native K-wise rows or our own judgements.jsonl.

    `objective` goes to the rows that name none. Corrections are followed: only what stands is returned. InputError
    where the file holds no usable ranking, one response per prompt everywhere among the causes.
    """
    left_out: Counter[str] = Counter()
    repaired: Counter[str] = Counter()
    chosen: Format | None = None if format == "auto" else format
    judgements: dict[str, Judgement] = {}
    for row in read_rows_or_torn(path):
        if isinstance(row, Torn):
            if chosen != "native":  # only our own log is written while things may crash
                raise row.error
            repaired["last line cut short, dropped"] += 1
            break
        repaired["control characters removed"] += row.repaired
        chosen = chosen or recognise(row)
        try:
            judgement = judgement_of(row, chosen, objective)
        except LeaveOut as reason:
            left_out[str(reason)] += 1
            continue
        known = judgements.setdefault(judgement.id, judgement)
        if known is not judgement and _content(known) != _content(judgement):
            raise row.error(f"another judgement has the id {known.id!r}; a correction has its own, and `supersedes`")
        left_out["duplicate ranking"] += known is not judgement
    standing = current_judgements(judgements.values())
    repaired["superseded by a correction"] += len(judgements) - len(standing)
    return _loaded(path, _usable(standing, left_out), left_out, repaired, "ranking")


def _content(one: Judgement) -> str:
    return judgement_id(one.prompt, one.responses, one.ranking, one.objective, one.annotator)


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
    left_out: Counter[str] = Counter()
    repaired: Counter[str] = Counter()
    items: dict[tuple[str, str], Demonstration] = {}
    for one in _parsed(path, demonstration_of, left_out, repaired):
        left_out["duplicate demonstration"] += (one.prompt.id, one.response) in items
        items.setdefault((one.prompt.id, one.response), one)
    return _loaded(path, items.values(), left_out, repaired, "demonstration")


def read_prompts(path: str | Path) -> Loaded[Prompt]:
    """Prompts, each once: prompt, messages, instruction or turns; of demonstrations and rankings their prompt.

    A prompt that comes again is merged, and counted among the repairs: nothing of it is lost.
    """
    left_out: Counter[str] = Counter()
    repaired: Counter[str] = Counter()
    items: dict[str, Prompt] = {}
    for one in _parsed(path, row_prompt, left_out, repaired):
        repaired["repeated prompt merged"] += one.id in items
        items.setdefault(one.id, one)
    return _loaded(path, items.values(), left_out, repaired, "prompt")


def _parsed(
    path: str | Path, parse: Callable[[Row], Item], left_out: Counter[str], repaired: Counter[str]
) -> Iterator[Item]:
    for row in read_rows(path):
        repaired["control characters removed"] += row.repaired
        try:
            yield parse(row)
        except LeaveOut as reason:
            left_out[str(reason)] += 1


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
