"""Judgements as pairs: every better response with every worse one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from plaudit.data.judgements import tied_groups
from plaudit.data.row import Row
from plaudit.data.targets.target import (
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
from plaudit.data.turns import is_transcript, transcript
from plaudit.types import Judgement, Message


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pair:
    """A better and a worse response of a judgement."""

    whole: Judgement
    better: int
    worse: int
    margin: float | None

    @property
    def texts(self) -> tuple[str, str]:
        return self.whole.responses[self.better].text, self.whole.responses[self.worse].text

    @property
    def circumstances(self) -> Fields:
        """Margin, annotator and tag, where they are there."""
        found: Fields = {} if self.margin is None else {"margin": self.margin}
        if self.whole.annotator:
            found["annotator"] = self.whole.annotator
        return found | subset_of(self.whole.prompt)


def _pairs(one: Judgement, losses: Losses) -> Iterator[_Pair]:
    """Every better response with every worse one; between best and worst the margin is shared by rank."""
    if len(one.ranking) < 2:
        losses["rankings without a better and a worse response"] += 1
        return
    losses["ties within a ranking"] += bool(tied_groups(one))
    losses["rankings of three or more, kept as pairs"] += len(one.responses) > 2
    steps = len(one.ranking) - 1
    for high, group in enumerate(one.ranking):
        for low in range(high + 1, steps + 1):
            margin = None if one.strength is None else one.strength * (low - high) / steps
            for better in group:
                for worse in one.ranking[low]:
                    yield _Pair(whole=one, better=better, worse=worse, margin=margin)


def _trl(one: Judgement, losses: Losses) -> Iterator[Fields]:
    for pair in _pairs(one, losses):
        chosen, rejected = pair.texts
        yield {
            "prompt": turns(one.prompt.messages),
            "chosen": [turn("assistant", chosen)],
            "rejected": [turn("assistant", rejected)],
            **pair.circumstances,
        }


def _trl_implicit(one: Judgement, losses: Losses) -> Iterator[Fields]:
    for pair in _pairs(one, losses):
        before = turns(one.prompt.messages)
        sides = ([*before, turn("assistant", text)] for text in pair.texts)
        yield dict(zip(("chosen", "rejected"), sides, strict=True)) | pair.circumstances


def _trl_standard(one: Judgement, losses: Losses) -> Iterator[Fields]:
    text = single_text(one.prompt, losses)
    if text is not None:
        for pair in _pairs(one, losses):
            yield {"prompt": text, "chosen": pair.texts[0], "rejected": pair.texts[1], **pair.circumstances}


def _binarized(one: Judgement, losses: Losses) -> Iterator[Fields]:
    scores = one.ratings.get("score", ())
    rated = len(scores) == len(one.responses) and None not in scores
    losses["ratings other than the score"] += len(one.ratings) - rated > 0
    losses["scores, of which there are none: 1 and 0 stand for them"] += not rated
    asked = next(turn.content for turn in one.prompt.messages if turn.role == "user")
    for pair in _pairs(one, losses):
        before = turns(one.prompt.messages)
        sides = [[*before, turn("assistant", text)] for text in pair.texts]
        given = (scores[pair.better], scores[pair.worse]) if rated else (1.0, 0.0)
        yield {
            "prompt": asked,
            "chosen": sides[0],
            "rejected": sides[1],
            "score_chosen": given[0],
            "score_rejected": given[1],
            **pair.circumstances,
        }


def _openai(one: Judgement, losses: Losses) -> Iterator[Fields]:
    for pair in _pairs(one, losses):
        yield {
            "input": {"messages": turns(one.prompt.messages)},
            "preferred_output": [turn("assistant", pair.texts[0])],
            "non_preferred_output": [turn("assistant", pair.texts[1])],
        }


def _llama_factory(one: Judgement, losses: Losses) -> Iterator[Fields]:
    for pair in _pairs(one, losses):
        yield {
            "conversations": from_and_value(one.prompt.messages),
            "chosen": {"from": "gpt", "value": pair.texts[0]},
            "rejected": {"from": "gpt", "value": pair.texts[1]},
        }


def _hh(one: Judgement, losses: Losses) -> Iterator[Fields]:
    for pair in _pairs(one, losses):
        turns = [(*one.prompt.messages, Message(role="assistant", content=text)) for text in pair.texts]
        sides = [_spoken(side) for side in turns]
        if not all(_is_understood(text, side) for text, side in zip(sides, turns, strict=True)):
            losses["conversations that a transcript would garble, left out"] += 1
            continue
        losses["blanks around a turn"] += any(turn.content != turn.content.strip() for side in turns for turn in side)
        yield {"chosen": sides[0], "rejected": sides[1], **subset_of(one.prompt)}


def _spoken(messages: Sequence[Message]) -> str:
    names = {"user": "Human", "assistant": "Assistant", "system": "System"}
    return "".join(f"\n\n{names[one.role]}: {one.content.strip()}" for one in messages)


def _is_understood(text: str, messages: Sequence[Message]) -> bool:
    if not is_transcript(text):
        return False
    read = transcript(Row("", {"side": text}), "side")
    return [(one.role, one.content) for one in read] == [(one.role, one.content.strip()) for one in messages]


_SIDES: Mapping[str, Column] = {"chosen": "messages", "rejected": "messages"}
_CIRCUMSTANCES: Mapping[str, Column] = {"margin": "number", "annotator": "text", "subset": "text"}
_KEPT = frozenset({"margin", "annotator", "tag"})

TARGETS = (
    Target(
        name="trl",
        words="pairs with an explicit prompt, as messages",
        kind="judgements",
        read_as="trl",
        columns={"prompt": "messages", **_SIDES, **_CIRCUMSTANCES},
        rows=_trl,
        keeps=_KEPT,
    ),
    Target(
        name="trl-implicit",
        words="pairs whose sides both begin with the prompt, as messages",
        kind="judgements",
        read_as="trl",
        columns={**_SIDES, **_CIRCUMSTANCES},
        rows=_trl_implicit,
        keeps=_KEPT,
    ),
    Target(
        name="trl-standard",
        words="pairs with an explicit prompt, as texts",
        kind="judgements",
        read_as="trl",
        columns={"prompt": "text", "chosen": "text", "rejected": "text", **_CIRCUMSTANCES},
        rows=_trl_standard,
        keeps=_KEPT,
    ),
    Target(
        name="ultrafeedback-binarized",
        words="pairs of whole conversations with a score for each side",
        kind="judgements",
        read_as="ultrafeedback-binarized",
        columns={
            "prompt": "text",
            **_SIDES,
            "score_chosen": "number",
            "score_rejected": "number",
            **_CIRCUMSTANCES,
        },
        rows=_binarized,
        keeps=_KEPT | {"ratings"},
    ),
    Target(
        name="openai",
        words="a preferred and a non-preferred output",
        kind="judgements",
        read_as="openai",
        columns={"input": "json", "preferred_output": "messages", "non_preferred_output": "messages"},
        rows=_openai,
    ),
    Target(
        name="llama-factory",
        words="a conversation and two answers, in turns of from and value",
        kind="judgements",
        read_as="llama-factory",
        columns={"conversations": "json", "chosen": "json", "rejected": "json"},
        rows=_llama_factory,
    ),
    Target(
        name="hh",
        words="pairs of whole transcripts",
        kind="judgements",
        read_as="hh",
        columns={"chosen": "text", "rejected": "text", "subset": "text"},
        rows=_hh,
        keeps=frozenset({"tag"}),
    ),
)
