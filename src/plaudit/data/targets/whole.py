"""Judgements that stay whole, demonstrations, and prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from plaudit.data.judgements import judgement_to_dict
from plaudit.data.targets.target import (
    PARTS,
    Column,
    Fields,
    Losses,
    Target,
    from_and_value,
    single_text,
    subset_of,
    turn,
    turns,
)
from plaudit.types import Demonstration, Judgement, Message, Prompt

UNCOMPARED = "answers that nobody compared, of equal rank now"


def _nemo(one: Judgement, losses: Losses) -> Iterator[Fields]:
    if not one.ranking:
        losses["judgements without a ranking, left out"] += 1
        return
    losses[UNCOMPARED] += bool(one.unordered)
    rank = {index: place for place, group in enumerate(one.ranking) for index in group}
    yield {
        "context": turns(one.prompt.messages),
        "completions": [
            {"rank": rank[index], "completion": [turn("assistant", response.text)]}
            for index, response in enumerate(one.responses)
        ],
    }


def _unpaired(one: Judgement, losses: Losses) -> Iterator[Fields]:
    if not one.ranking:
        losses["judgements without a ranking, left out"] += 1
        return
    all_bad = "all_bad" in one.flags and len(one.ranking) == 1
    losses["flags"] += bool(one.flags) and not (all_bad and one.flags == ("all_bad",))
    losses["ranks between the best and the others"] += len(one.ranking) > 2
    losses[UNCOMPARED] += bool(one.unordered)
    good = frozenset[int]() if all_bad else frozenset(one.ranking[0])
    for index, response in enumerate(one.responses):
        yield {
            "prompt": turns(one.prompt.messages),
            "completion": [turn("assistant", response.text)],
            "label": index in good,
            **({"annotator": one.annotator} if one.annotator else {}),
            **subset_of(one.prompt),
        }


# Demonstrations and prompts


def _messages(one: Demonstration, losses: Losses) -> Iterator[Fields]:
    yield {"messages": [*turns(one.prompt.messages), turn("assistant", one.response)], **_source(one, losses)}


def _completion(one: Demonstration, losses: Losses) -> Iterator[Fields]:
    answer = [turn("assistant", one.response)]
    yield {"prompt": turns(one.prompt.messages), "completion": answer, **_source(one, losses)}


def _sharegpt(one: Demonstration, losses: Losses) -> Iterator[Fields]:
    answer = Message(role="assistant", content=one.response)
    yield {"conversations": from_and_value([*one.prompt.messages, answer]), **_source(one, losses)}


def _alpaca(one: Demonstration, losses: Losses) -> Iterator[Fields]:
    text = single_text(one.prompt, losses)
    if text is not None:
        yield {"instruction": text, "input": "", "output": one.response, **_source(one, losses)}


def _source(one: Demonstration, losses: Losses) -> Fields:
    losses["further tags"] += len(one.prompt.tags) > 1
    return ({"source": one.source} if one.source else {}) | subset_of(one.prompt)


def _prompt(one: Prompt, losses: Losses) -> Iterator[Fields]:
    losses["further tags"] += len(one.tags) > 1
    yield {"prompt": turns(one.messages), **subset_of(one)}


def _native(one: Judgement, _: Losses) -> Iterator[Fields]:
    yield judgement_to_dict(one)


_NATIVE: Mapping[str, Column] = {
    **dict.fromkeys(("id",), "text"),
    **dict.fromkeys(("prompt", "responses", "ranking"), "json"),
    "objective": "text",
    "unordered": "json",
    "strength": "number",
    **dict.fromkeys(("flags", "ratings"), "json"),
    "rationale": "text",
    **dict.fromkeys(("edited", "display_order"), "json"),
    **dict.fromkeys(("annotator", "guideline_version"), "text"),
    "seconds": "number",
    **dict.fromkeys(("created", "supersedes"), "text"),
}

TARGETS = (
    Target(
        name="native",
        words="our own judgements, whole",
        kind="judgements",
        read_as="native",
        columns=_NATIVE,
        rows=_native,
        keeps=frozenset(PARTS),
    ),
    Target(
        name="trl-unpaired",
        words="single answers called good or bad",
        kind="judgements",
        read_as="trl-unpaired",
        columns={
            "prompt": "messages",
            "completion": "messages",
            "label": "truth",
            "annotator": "text",
            "subset": "text",
        },
        rows=_unpaired,
        keeps=frozenset({"annotator", "flags", "tag"}),
        merges=True,
    ),
    Target(
        name="nemo",
        words="a context and completions with ranks",
        kind="judgements",
        read_as="nemo",
        columns={"context": "messages", "completions": "json"},
        rows=_nemo,
    ),
    Target(
        name="messages",
        words="conversations that end with the answer",
        kind="demonstrations",
        read_as="messages",
        columns={"messages": "messages", "source": "text", "subset": "text"},
        rows=_messages,
    ),
    Target(
        name="completion",
        words="a prompt and its completion, as messages",
        kind="demonstrations",
        read_as="completion",
        columns={"prompt": "messages", "completion": "messages", "source": "text", "subset": "text"},
        rows=_completion,
    ),
    Target(
        name="sharegpt",
        words="conversations in turns of from and value",
        kind="demonstrations",
        read_as="sharegpt",
        columns={"conversations": "json", "source": "text", "subset": "text"},
        rows=_sharegpt,
    ),
    Target(
        name="alpaca",
        words="an instruction and its output",
        kind="demonstrations",
        read_as="alpaca",
        columns={"instruction": "text", "input": "text", "output": "text", "source": "text", "subset": "text"},
        rows=_alpaca,
    ),
    Target(
        name="prompts",
        words="prompts alone",
        kind="prompts",
        read_as="prompts",
        columns={"prompt": "messages", "subset": "text"},
        rows=_prompt,
    ),
)
