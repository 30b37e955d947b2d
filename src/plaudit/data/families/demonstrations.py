"""Demonstrations and prompts; and what holds neither, so that it can be said what it is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from plaudit.data.format import Format, Look, is_list_of_texts
from plaudit.data.row import LeaveOut, Row
from plaudit.data.turns import asked, in_one, prompt_in, split_answer, transcript, turns_of
from plaudit.types import Demonstration, Message, Prompt


def _shown(row: Row, messages: tuple[Message, ...], answer: str | None) -> Iterable[Demonstration]:
    if answer is None:
        raise LeaveOut("does not end with an answer")
    yield Demonstration(prompt=asked(row, messages), response=answer, source=row.optional_text("source"))


def _in_conversation(key: str, row: Row) -> Iterable[Demonstration]:
    return _shown(row, *split_answer(turns_of(row, key)))


def _prompt_of_conversation(key: str, row: Row) -> Iterable[Prompt]:
    yield asked(row, split_answer(turns_of(row, key))[0])


def _completed(row: Row) -> Iterable[Demonstration]:
    before = turns_of(row, "prompt")
    key = "completion" if "completion" in row.fields else "response"
    value = row.value(key)
    if isinstance(value, str):
        return _shown(row, before, value)
    return _shown(row, *split_answer((*before, *turns_of(row, key))))


def _instruction(row: Row) -> tuple[Message, ...]:
    return in_one(row.text("instruction"), row.optional_text("input"))


def _steps(row: Row) -> Iterable[Demonstration]:
    """A solution in steps is one to learn from where every step is right."""
    steps, labels = row.items("completions"), row.items("labels")
    if not is_list_of_texts(steps):
        row.wrong("completions", "a list of texts")
    if len(labels) != len(steps) or not all(isinstance(label, bool) for label in labels):
        row.wrong("labels", f"{len(steps)} times true or false, one for each step")
    if not all(labels):
        raise LeaveOut("a step is wrong")
    return _shown(row, turns_of(row, "prompt"), "\n".join(cast("list[str]", steps)))


def _opening(row: Row) -> Iterable[Prompt]:
    yield asked(row, transcript(row, "transcript")[:1])


def _plain_prompt(row: Row) -> Iterable[Prompt]:
    if "prompt" in row.fields:
        yield prompt_in(row, "prompt")
    elif "instruction" in row.fields:
        yield asked(row, _instruction(row))
    elif "turns" in row.fields:
        turns = row.items("turns")
        if not is_list_of_texts(turns):
            row.wrong("turns", "a list of texts")
        yield asked(row, in_one(str(turns[0])))
    else:
        yield asked(row, in_one(row.text("prompts_final")))


FORMATS = (
    Format(
        name="messages",
        words="conversations that end with the answer to learn (TRL, OpenAI, no_robots)",
        shapes=(("messages",),),
        demonstrations=lambda row: _in_conversation("messages", row),
        prompts=lambda row: _prompt_of_conversation("messages", row),
    ),
    Format(
        name="sharegpt",
        words="conversations in turns of from and value (ShareGPT)",
        shapes=(("conversations",),),
        demonstrations=lambda row: _in_conversation("conversations", row),
        prompts=lambda row: _prompt_of_conversation("conversations", row),
    ),
    Format(
        name="alpaca",
        words="an instruction, mostly with an input, and its output (Alpaca)",
        shapes=(("instruction", "output"),),
        demonstrations=lambda row: _shown(row, _instruction(row), row.text("output")),
    ),
    Format(
        name="completion",
        words="a prompt and its completion or response (TRL)",
        shapes=(("prompt", "completion"), ("prompt", "response")),
        demonstrations=_completed,
        prompts=lambda row: [asked(row, turns_of(row, "prompt"))],
    ),
    Format(
        name="trl-stepwise",
        words="a solution in steps, each called right or wrong (TRL)",
        shapes=(("prompt", "completions", "labels"),),
        demonstrations=_steps,
    ),
    Format(
        name="question-answer",
        words="questions with worked answers, made for testing a capability (GSM8K), and fit to learn from",
        shapes=(("question", "answer"),),
        look=Look(words="the answer is a text", holds=lambda fields: isinstance(fields["answer"], str)),
        demonstrations=lambda row: _shown(row, in_one(row.text("question")), row.text("answer")),
    ),
    Format(
        name="hh-red-team",
        words="attacks on a model; the opening is a prompt, the answers are none to learn from (Anthropic red-team)",
        shapes=(("transcript",), ("transcript", "rating")),
        prompts=_opening,
    ),
    Format(
        name="prompts",
        words="prompts alone",
        shapes=(("prompt",), ("instruction",), ("turns",), ("prompts_final",)),
        prompts=_plain_prompt,
    ),
    Format(
        name="multiple-choice",
        words="questions with choices and the number of the right one, made for testing a capability",
        shapes=(("question", "choices", "answer"),),
    ),
    Format(name="text", words="running text, for language modelling (TRL) or for perplexity", shapes=(("text",),)),
)
