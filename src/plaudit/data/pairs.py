"""One row to one ranking: HH transcripts, TRL pairs and K-wise rows, each as (prompt, responses, ranking, ...)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Literal, cast, get_args

from plaudit.data.conversation import messages_of, prompt_of
from plaudit.data.judgements import check_ranking, judgement_from_dict, judgement_id
from plaudit.data.rows import LeaveOut, Row, list_of, number_of
from plaudit.types import OVERALL, Flag, Judgement, Message, Prompt, Response, Role

Format = Literal["hh", "trl", "native"]

_TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
_ROLE: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}
_FLAGS: tuple[str, ...] = get_args(Flag)
_PAIR = ((0,), (1,))
FEWER_THAN_TWO = "fewer than two responses"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pair:
    prompt: Prompt
    chosen: str
    rejected: str


def recognise(row: Row) -> Format:
    """The format of a file whose first row this is; InputError where its fields fit none."""
    fields = row.fields
    if "responses" in fields and ("prompt" in fields or "messages" in fields):
        return "native"
    if "chosen" in fields and "rejected" in fields:
        transcripts = all(isinstance(fields[key], str) for key in ("chosen", "rejected"))
        return "hh" if "prompt" not in fields and transcripts and _is_transcript(fields["chosen"]) else "trl"
    raise row.error(
        f"unknown format: the fields are {', '.join(sorted(fields)) or 'none'}; expected chosen and rejected "
        "(hh, or trl with prompt), or prompt and responses with ranking or ranks (native)"
    )


def judgement_of(row: Row, format: Format, objective: str) -> Judgement:
    """The row's ranking; InputError where it is malformed, LeaveOut where it holds none.

    A row that speaks about nothing in particular is given `objective`.
    """
    if format == "native":
        return _native(row, objective)
    pair = _hh(row) if format == "hh" else _trl(row)
    return _judgement(
        pair.prompt,
        (Response(text=pair.chosen), Response(text=pair.rejected)),
        _PAIR,
        objective=objective,
        annotator=row.optional_text("annotator"),
        strength=row.optional_number("margin"),
    )


def why_useless(judgement: Judgement) -> str | None:
    """Why nothing can be learned from this ranking, if so."""
    texts = [response.text.strip() for response in judgement.responses]
    reasons = {
        "skipped by the annotator": "skip" in judgement.flags,
        "empty prompt": not judgement.prompt.messages[-1].content.strip(),
        FEWER_THAN_TWO: len(texts) < 2,
        "empty response": not all(texts),
        "not ranked": not judgement.ranking,
        "fully tied": len(judgement.ranking) == 1,
        "all responses equal": len(set(texts)) == 1,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


# HH: both sides are whole transcripts


def _hh(row: Row) -> _Pair:
    chosen, rejected = (_transcript(row, key) for key in ("chosen", "rejected"))
    return _pair_of_conversations(row, chosen, rejected)


def _is_transcript(value: object) -> bool:
    return isinstance(value, str) and re.match(r"\s*Human:", value) is not None


def _transcript(row: Row, key: str) -> tuple[Message, ...]:
    text = row.fields.get(key)
    if not isinstance(text, str) or not _is_transcript(text):
        raise row.error(f"{key}: expected a transcript that begins with '\\n\\nHuman:', found {text!r:.60}")
    _, *parts = _TURN.split(text)
    return tuple(
        Message(role=_ROLE[name], content=content.strip())
        for name, content in zip(parts[::2], parts[1::2], strict=True)
    )


def _pair_of_conversations(row: Row, chosen: Sequence[Message], rejected: Sequence[Message]) -> _Pair:
    if chosen[-1].role != "assistant" or rejected[-1].role != "assistant":
        raise LeaveOut("does not end with an answer")
    if chosen[:-1] != rejected[:-1]:
        raise LeaveOut("earlier turns differ")
    if not chosen[:-1] or chosen[-2].role != "user":
        raise LeaveOut("the answer follows no question")
    prompt = prompt_of(chosen[:-1], row.tags(), where=row.where)
    return _Pair(prompt=prompt, chosen=chosen[-1].content, rejected=rejected[-1].content)


# TRL: the prompt explicit, or implicit in both sides; texts or lists of messages


def _trl(row: Row) -> _Pair:
    for key in ("chosen", "rejected"):
        if key not in row.fields:
            raise row.error(f"the field {key!r} is missing; a pair has chosen, rejected and mostly prompt")
    chosen, rejected = row.fields["chosen"], row.fields["rejected"]
    prompt = row.fields.get("prompt")
    if isinstance(chosen, str) and isinstance(rejected, str):
        if prompt is None:
            return _pair_of_texts(chosen, rejected, row)
        return _Pair(prompt=_prompt(row, prompt), chosen=chosen, rejected=rejected)
    sides = [messages_of(side, f"{row.where}, {key}") for key, side in (("chosen", chosen), ("rejected", rejected))]
    if isinstance(chosen, str) or isinstance(rejected, str):
        raise row.error("chosen and rejected are of two kinds; expected two texts or two lists of messages")
    if prompt is not None:
        before = _prompt(row, prompt).messages
        # some sets give the prompt and repeat the conversation in both sides
        sides = [side if any(turn.role == "user" for turn in side) else (*before, *side) for side in sides]
    return _pair_of_conversations(row, sides[0], sides[1])


def _pair_of_texts(chosen: str, rejected: str, row: Row) -> _Pair:
    """An implicit prompt in plain text: what both sides begin with, up to the last whole word."""
    both = zip(chosen, rejected, strict=False)
    shared = "".join(a for a, _ in takewhile(lambda letters: letters[0] == letters[1], both))
    cut = max(shared.rfind(blank) for blank in (" ", "\n")) + 1
    if not shared[:cut].strip():
        raise LeaveOut("the two sides share no prompt")
    prompt = prompt_of(shared[:cut].strip(), row.tags(), where=row.where)
    return _Pair(prompt=prompt, chosen=chosen[cut:], rejected=rejected[cut:])


# Native: K responses, and a ranking in one of several spellings


def _native(row: Row, objective: str) -> Judgement:
    fields = row.fields
    if isinstance(fields.get("prompt"), Mapping):
        whole = judgement_from_dict(fields, row.where)
        return whole if whole.objective != OVERALL else replace(whole, objective=objective)
    entries = list_of(fields.get("responses"))
    if not entries:
        raise row.error(f"responses: expected a list of texts, found {fields.get('responses')!r:.60}")
    responses = tuple(_response(row, index, entry) for index, entry in enumerate(entries))
    ranking = _ranking(row, entries)
    check_ranking(ranking, len(responses), row.where)
    own = row.optional_text("objective") or OVERALL
    return _judgement(
        _prompt(row, fields.get("prompt", fields.get("messages"))),
        responses,
        ranking,
        objective=own if own != OVERALL else objective,
        annotator=row.optional_text("annotator"),
        strength=row.optional_number("strength"),
        flags=_flags(row),
    )


def _response(row: Row, index: int, entry: object) -> Response:
    if isinstance(entry, str):
        return Response(text=entry)
    if isinstance(entry, Mapping):
        fields = cast("Mapping[str, object]", entry)
        text, model = fields.get("text"), fields.get("model", "")
        if isinstance(text, str) and isinstance(model, str):
            return Response(text=text, checkpoint=model)
    raise row.error(f'responses, item {index}: expected a text or {{"text": ...}}, found {entry!r:.60}')


def _ranking(row: Row, entries: Sequence[object]) -> tuple[tuple[int, ...], ...]:
    if "ranking" in row.fields:
        return _groups(row, row.fields["ranking"])
    if "ranks" in row.fields:
        return _from_ranks(row, row.fields["ranks"], len(entries))
    for key, sign in (("rank", 1.0), ("score", -1.0)):
        if all(isinstance(entry, Mapping) and key in entry for entry in entries):
            values = [cast("Mapping[str, object]", entry)[key] for entry in entries]
            return _from_ranks(row, [sign * number_of(row.where, key, value) for value in values], len(entries))
    if "flags" in row.fields:
        return ()
    raise row.error(
        "there is no ranking; expected ranking (groups of equal responses from best to worst, such as [[2], [0, 1]]), "
        "ranks (1 is best, equal is a tie), or a rank or score in every response"
    )


def _groups(row: Row, value: object) -> tuple[tuple[int, ...], ...]:
    groups = [list_of(group) or [group] for group in list_of(value) or [value]] if value != [] else []
    if any(type(index) is not int for group in groups for index in group):
        raise row.error(f"ranking: expected groups of response numbers such as [[2], [0, 1]], found {value!r:.60}")
    return tuple(tuple(cast("list[int]", group)) for group in groups)


def _from_ranks(row: Row, value: object, count: int) -> tuple[tuple[int, ...], ...]:
    values = list_of(value)
    if values is None or len(values) != count:
        raise row.error(f"ranks: expected {count} numbers, one per response, found {value!r:.60}")
    ranks = [number_of(row.where, "ranks", rank) for rank in values]
    return tuple(tuple(i for i, rank in enumerate(ranks) if rank == level) for level in sorted(set(ranks)))


def _flags(row: Row) -> tuple[Flag, ...]:
    value = row.fields.get("flags")
    flags = [] if value is None else list_of(value)
    if flags is None or any(flag not in _FLAGS for flag in flags):
        raise row.error(f"flags: expected some of {', '.join(_FLAGS)} in a list, found {value!r:.60}")
    return tuple(cast("list[Flag]", flags))


# Parts that all share


def _judgement(
    prompt: Prompt,
    responses: tuple[Response, ...],
    ranking: tuple[tuple[int, ...], ...],
    *,
    objective: str,
    annotator: str,
    strength: float | None,
    flags: tuple[Flag, ...] = (),
) -> Judgement:
    return Judgement(
        id=judgement_id(prompt, responses, ranking, objective, annotator, flags),
        prompt=prompt,
        responses=responses,
        ranking=ranking,
        objective=objective,
        annotator=annotator,
        strength=strength,
        flags=flags,
    )


def _prompt(row: Row, value: object) -> Prompt:
    return prompt_of(messages_of(value, f"{row.where}, prompt"), row.tags(), where=row.where)
