"""Pairs, and single answers called good or bad: the forms in which training tools take preferences."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import takewhile

from plaudit.data.conversation import prompt_of
from plaudit.data.format import Format, Look, is_list_of_texts
from plaudit.data.judgements import judged
from plaudit.data.row import LeaveOut, Row
from plaudit.data.turns import (
    answer_in,
    asked,
    in_one,
    is_transcript,
    prompt_in,
    split_answer,
    transcript,
    turns_of,
    two_answers,
)
from plaudit.types import Demonstration, Flag, Judgement, Message, Prompt, Response

PAIR = ((0,), (1,))
_SIDES = ("chosen", "rejected")


def _of_two(
    row: Row,
    prompt: Prompt,
    texts: Sequence[str],
    objective: str,
    *,
    models: Sequence[str] = ("", ""),
    ratings: Mapping[str, tuple[float | None, ...]] | None = None,
) -> Iterable[Judgement]:
    yield judged(
        prompt,
        [Response(text=text, checkpoint=model) for text, model in zip(texts, models, strict=True)],
        PAIR,
        objective=objective,
        annotator=row.name("annotator"),
        strength=row.optional_number("margin"),
        ratings=ratings or {},
    )


# Both sides are whole conversations, or texts that follow a prompt


def _hh(row: Row, objective: str) -> Iterable[Judgement]:
    return _of_two(row, *two_answers(row, transcript(row, "chosen"), transcript(row, "rejected")), objective)


def _trl(row: Row, objective: str) -> Iterable[Judgement]:
    return _of_two(row, *_prompt_and_sides(row), objective)


def _prompt_and_sides(row: Row) -> tuple[Prompt, tuple[str, str]]:
    chosen, rejected = row.value("chosen"), row.value("rejected")
    if isinstance(chosen, str) and isinstance(rejected, str):
        return (prompt_in(row, "prompt"), (chosen, rejected)) if "prompt" in row.fields else _common_start(row)
    for side in _SIDES:
        if side not in row.fields:
            row.wrong(side, "a text or messages")
    sides = [turns_of(row, side) for side in _SIDES]
    if isinstance(chosen, str) or isinstance(rejected, str):
        raise row.error("chosen and rejected are of two kinds; expected two texts or two lists of messages")
    if "prompt" in row.fields:
        before = prompt_in(row, "prompt").messages
        # some sets give the prompt and repeat the conversation in both sides
        sides = [side if any(turn.role == "user" for turn in side) else (*before, *side) for side in sides]
    return two_answers(row, sides[0], sides[1])


def _common_start(row: Row) -> tuple[Prompt, tuple[str, str]]:
    """An implicit prompt in plain text: what both sides begin with, up to the last whole word."""
    chosen, rejected = row.text("chosen"), row.text("rejected")
    both = zip(chosen, rejected, strict=False)
    shared = "".join(a for a, _ in takewhile(lambda letters: letters[0] == letters[1], both))
    cut = max(shared.rfind(blank) for blank in (" ", "\n")) + 1
    if not shared[:cut].strip():
        raise LeaveOut("the two sides share no prompt")
    return prompt_of(shared[:cut].strip(), row.tags(), where=row.where), (chosen[cut:], rejected[cut:])


def _binarized(row: Row, objective: str) -> Iterable[Judgement]:
    scores = (row.number("score_chosen"), row.number("score_rejected"))
    return _of_two(row, *_prompt_and_sides(row), objective, ratings={"score": scores})


def _rewardbench(row: Row, objective: str) -> Iterable[Judgement]:
    models = [row.name("chosen_model"), row.name("rejected_model")]
    return _of_two(row, *_prompt_and_sides(row), objective, models=models)


def _openai(row: Row, objective: str) -> Iterable[Judgement]:
    asking = row.part("input")
    texts = [answer_in(row, key) for key in ("preferred_output", "non_preferred_output")]
    return _of_two(row, asked(row, turns_of(asking, "messages")), texts, objective)


# LLaMA-Factory: an instruction with a history, or a conversation, and then two answers or one with a verdict


def _llama_factory(row: Row, objective: str) -> Iterable[Judgement]:
    return _of_two(row, asked(row, _asking(row)), [answer_in(row, side) for side in _SIDES], objective)


def _llama_factory_verdict(row: Row, objective: str) -> Iterable[Judgement]:
    messages = _asking(row)
    before, answer = split_answer(messages) if "conversations" in row.fields else (messages, row.text("output"))
    if answer is None:
        raise LeaveOut("does not end with an answer")
    yield _verdicts(row, asked(row, before), [(answer, row.truth("kto_tag"))], objective)


def _asking(row: Row) -> tuple[Message, ...]:
    if "conversations" in row.fields:
        return turns_of(row, "conversations")
    messages = [Message(role="system", content=text) for text in [row.optional_text("system")] if text]
    for number, pair in enumerate(row.items("history") if "history" in row.fields else [], 1):
        if not is_list_of_texts(pair):
            raise row.error(f"history, item {number}: expected a question and an answer, found {pair!r:.60}")
        question, answer = (*pair, "")[:2]  # pyright: ignore[reportGeneralTypeIssues]
        messages += [Message(role="user", content=str(question)), Message(role="assistant", content=str(answer))]
    return (*messages, *in_one(row.text("instruction"), row.optional_text("input")))


# Single answers with a verdict each; those to one prompt make a ranking of the good above the bad


def _unpaired(rows: Row, objective: str) -> Iterable[Judgement]:
    answers = [(answer_in(row, "completion"), row.truth("label")) for row in rows.together]
    yield _verdicts(rows, prompt_in(rows, "prompt"), answers, objective)


def _good_ones(rows: Row) -> Iterable[Demonstration]:
    for row in rows.together:
        if row.truth("label"):
            yield Demonstration(prompt=prompt_in(row, "prompt"), response=answer_in(row, "completion"))


def _verdicts(row: Row, prompt: Prompt, answers: Sequence[tuple[str, bool]], objective: str) -> Judgement:
    good, bad = ([i for i, (_, label) in enumerate(answers) if label is wanted] for wanted in (True, False))
    flags: list[Flag] = [] if good else ["all_bad"]
    return judged(
        prompt,
        [Response(text=text) for text, _ in answers],
        [group for group in (good, bad) if group],
        objective=objective,
        annotator=row.name("annotator"),
        flags=flags,
    )


def _same_prompt(row: Row) -> Hashable:
    return prompt_in(row, "prompt").id, row.name("annotator")


def _two_transcripts(fields: Mapping[str, object]) -> bool:
    return (
        "prompt" not in fields
        and all(isinstance(fields[side], str) for side in _SIDES)
        and is_transcript(fields["chosen"])
    )


FORMATS = (
    Format(
        name="hh",
        words="pairs of whole transcripts (Anthropic HH)",
        shapes=(_SIDES,),
        look=Look(words="both sides are texts that begin with 'Human:'", holds=_two_transcripts),
        judgements=_hh,
    ),
    Format(
        name="trl",
        words="pairs with an explicit or implicit prompt, texts or messages, mostly with a margin (TRL)",
        shapes=(("prompt", *_SIDES), _SIDES),
        judgements=_trl,
    ),
    Format(
        name="ultrafeedback-binarized",
        words="pairs of whole conversations with a score for each side",
        shapes=((*_SIDES, "score_chosen", "score_rejected"), ("prompt", *_SIDES, "score_chosen", "score_rejected")),
        judgements=_binarized,
    ),
    Format(
        name="rewardbench",
        words="pairs with the model of each side (RewardBench)",
        shapes=(("prompt", *_SIDES, "chosen_model", "rejected_model"),),
        judgements=_rewardbench,
    ),
    Format(
        name="openai",
        words="a preferred and a non-preferred output (OpenAI, Together, Fireworks)",
        shapes=(("input", "preferred_output", "non_preferred_output"),),
        judgements=_openai,
    ),
    Format(
        name="llama-factory",
        words="an instruction or a conversation, and two answers to it (LLaMA-Factory)",
        shapes=(("instruction", *_SIDES), ("conversations", *_SIDES)),
        judgements=_llama_factory,
    ),
    Format(
        name="llama-factory-kto",
        words="an instruction or a conversation whose answer is called good or bad (LLaMA-Factory)",
        shapes=(("instruction", "output", "kto_tag"), ("conversations", "kto_tag")),
        judgements=_llama_factory_verdict,
    ),
    Format(
        name="trl-unpaired",
        words="single answers called good or bad (TRL, KTO)",
        shapes=(("prompt", "completion", "label"),),
        judgements=_unpaired,
        demonstrations=_good_ones,
        group=_same_prompt,
    ),
)
