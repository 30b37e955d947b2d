"""Conversations as other people's files spell them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import cast

from plaudit.data.conversation import messages_of, prompt_of
from plaudit.data.row import LeaveOut, Row, list_of
from plaudit.types import Message, Prompt, Role

_ROLE: dict[object, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "Human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bard": "assistant",
    "bing": "assistant",
    "model": "assistant",
    "Assistant": "assistant",
}
_TOOLS = {"tool", "function", "function_call", "tool_call", "tool_response", "observation", "ipython"}
_TRANSCRIPT = re.compile(r"\s*Human:")
_TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")


def turns_of(row: Row, key: str) -> tuple[Message, ...]:
    """The conversation of a field: a text (one user's message), {role, content} or {from, value}, or a list of them.

    InputError where it is none; LeaveOut where tools speak in it, or it shows pictures.
    """
    value = row.value(key)
    if isinstance(value, dict):
        value = cast("dict[str, object]", value).get("messages", [value])  # a prompt of ours has them inside
    items = list_of(value)
    where = f"{row.where}: {key}"
    if row.loose and items and not all(isinstance(item, dict) for item in items):
        return messages_of(row.text(key), where)  # a text that only looks like a list
    if not items:
        return messages_of(value, where)
    return messages_of([_plain_turn(item) for item in items], where)


def is_transcript(value: object) -> bool:
    """Whether a text is a conversation written as `Human: ...` and `Assistant: ...`."""
    return isinstance(value, str) and _TRANSCRIPT.match(value) is not None


def transcript(row: Row, key: str) -> tuple[Message, ...]:
    """The conversation of a text `\\n\\nHuman: ...\\n\\nAssistant: ...`."""
    text = row.fields.get(key)
    if not isinstance(text, str) or not is_transcript(text):
        row.wrong(key, "a transcript that begins with '\\n\\nHuman:'")
    _, *parts = _TURN.split(text)
    return tuple(
        Message(role=_ROLE[name], content=content.strip())
        for name, content in zip(parts[::2], parts[1::2], strict=True)
    )


def prompt_in(row: Row, key: str) -> Prompt:
    """The prompt of a field: a conversation that ends with a user's turn."""
    return prompt_of(turns_of(row, key), row.tags(), where=f"{row.where}: {key}")


def asked(row: Row, messages: Sequence[Message]) -> Prompt:
    """The prompt that these messages make; LeaveOut where nobody asks anything at their end."""
    if not messages or messages[-1].role != "user":
        raise LeaveOut("the prompt does not end with a user's turn")
    return prompt_of(messages, row.tags(), where=row.where)


def in_one(*parts: str) -> tuple[Message, ...]:
    """One user's message of several parts (an instruction and its input, say), the blank ones left away."""
    return (Message(role="user", content="\n\n".join(part for part in parts if part.strip())),)


def split_answer(messages: tuple[Message, ...]) -> tuple[tuple[Message, ...], str | None]:
    """What comes before the answer, and the answer, where the conversation ends with one."""
    if messages and messages[-1].role == "assistant":
        return messages[:-1], messages[-1].content
    return messages, None


def answer_in(row: Row, key: str) -> str:
    """The answer of a field: a text, or a conversation of which it is the last turn."""
    value = row.value(key)
    if isinstance(value, str):
        return value
    answer = split_answer(turns_of(row, key))[1]
    return answer if answer is not None else row.wrong(key, "an answer: a text, or messages that end with one")


def two_answers(row: Row, first: tuple[Message, ...], second: tuple[Message, ...]) -> tuple[Prompt, tuple[str, str]]:
    """The prompt that two conversations share, and the answer of each; LeaveOut where they share none."""
    if first[-1].role != "assistant" or second[-1].role != "assistant":
        raise LeaveOut("does not end with an answer")
    if first[:-1] != second[:-1]:
        raise LeaveOut("earlier turns differ")
    if not first[:-1] or first[-2].role != "user":
        raise LeaveOut("the answer follows no question")
    return prompt_of(first[:-1], row.tags(), where=row.where), (first[-1].content, second[-1].content)


def _plain_turn(item: object) -> object:
    """The turn as {role, content} in our words; whatever is none is left for `messages_of` to name."""
    if not isinstance(item, Mapping):
        return item
    fields = cast("Mapping[str, object]", item)
    role = fields.get("role", fields.get("from"))
    content = fields.get("content", fields.get("value"))
    if not isinstance(role, str):
        return {"role": role, "content": content}
    if role in _TOOLS or fields.get("tool_calls"):
        raise LeaveOut("tools speak in it")
    if isinstance(content, list):
        content = _text_of_parts(cast("list[object]", content))
    return {"role": _ROLE.get(role, role), "content": content}


def _text_of_parts(parts: list[object]) -> object:
    texts: list[str] = []
    for part in parts:
        fields = cast("Mapping[str, object]", part) if isinstance(part, Mapping) else {}
        text = fields.get("text")
        if fields.get("type", "text") != "text":
            raise LeaveOut("shows more than text")
        if not isinstance(text, str):
            return parts
        texts.append(text)
    return "\n\n".join(texts)
