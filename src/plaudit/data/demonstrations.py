"""One row to one demonstration, or to one prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from plaudit.data.conversation import messages_of, prompt_of
from plaudit.data.pairs import judgement_of, recognise
from plaudit.data.rows import LeaveOut, Row, list_of
from plaudit.types import OVERALL, Demonstration, Message, Prompt


def demonstration_of(row: Row) -> Demonstration:
    """The row's prompt and answer; InputError where it is malformed, LeaveOut where it holds none."""
    messages, answer = _conversation(row)
    if answer is None:
        raise row.error(
            f"expected a demonstration, found the fields {', '.join(sorted(row.fields))}; one has messages that end "
            "with the assistant's, or prompt with completion or response, or instruction with output"
        )
    if not answer.strip():
        raise LeaveOut("empty response")
    return Demonstration(prompt=_ending_with_user(messages, row), response=answer, source=row.optional_text("source"))


def row_prompt(row: Row) -> Prompt:
    """The row's prompt, whatever else it holds."""
    if "chosen" in row.fields and "prompt" not in row.fields:
        return judgement_of(row, recognise(row), OVERALL).prompt
    messages, _ = _conversation(row)
    return _ending_with_user(messages, row)


def _ending_with_user(messages: Sequence[Message], row: Row) -> Prompt:
    if not messages or messages[-1].role != "user":
        raise LeaveOut("the prompt does not end with a user's turn")
    if not messages[-1].content.strip():
        raise LeaveOut("empty prompt")
    return prompt_of(messages, row.tags(), where=row.where)


def _conversation(row: Row) -> tuple[tuple[Message, ...], str | None]:
    """The messages before the answer, and the answer where the row has one."""
    fields = row.fields
    if "messages" in fields:
        return _split_answer(messages_of(fields["messages"], f"{row.where}, messages"))
    if "prompt" in fields:
        value = fields["prompt"]
        if isinstance(value, dict):  # a Prompt of ours, written as JSON
            value = cast("dict[str, object]", value).get("messages")
        messages = messages_of(value, f"{row.where}, prompt")
        key = next((key for key in ("completion", "response") if key in fields), None)
        return (messages, None) if key is None else _with_completion(messages, row, key)
    if "instruction" in fields:
        parts = [row.optional_text("instruction"), row.optional_text("input")]
        messages = messages_of("\n\n".join(part for part in parts if part.strip()), row.where)
        return messages, row.optional_text("output") if "output" in fields else None
    if "turns" in fields:
        turns = list_of(fields["turns"]) or [None]
        if not isinstance(turns[0], str):
            raise row.error(f"turns: expected a list of texts, found {fields['turns']!r:.60}")
        return messages_of(turns[0], row.where), None
    raise row.error(
        f"unknown format: the fields are {', '.join(sorted(fields)) or 'none'}; expected messages, prompt, "
        "instruction or turns"
    )


def _with_completion(messages: tuple[Message, ...], row: Row, key: str) -> tuple[tuple[Message, ...], str | None]:
    value = row.fields[key]
    if isinstance(value, str):
        return messages, value
    return _split_answer((*messages, *messages_of(value, f"{row.where}, {key}")))


def _split_answer(messages: tuple[Message, ...]) -> tuple[tuple[Message, ...], str | None]:
    if messages[-1].role == "assistant":
        return messages[:-1], messages[-1].content
    return messages, None
