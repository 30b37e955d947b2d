"""Published sets of human (or model) comparisons, each with field names of its own."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

from plaudit.data.families.kwise import of_comparisons
from plaudit.data.families.rankings import from_scores, of_pair
from plaudit.data.format import Format, Look
from plaudit.data.judgements import judged
from plaudit.data.row import LeaveOut, Row
from plaudit.data.turns import asked, in_one, prompt_in, turns_of, two_answers
from plaudit.types import Flag, Judgement, Message, Prompt, Response

_AXES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
_ANNOTATOR = re.compile(r"annotator\d+")
_WINNER: Mapping[str, int] = {"model_a": 1, "model_b": -1, "tie": 0, "tie (bothbad)": 0, "both_bad": 0}
_BOTH_BAD = {"tie (bothbad)", "both_bad"}


def _of_two(
    prompt: Prompt, texts: Sequence[str], better: int, models: Sequence[str] = ("", ""), **more: Any
) -> Judgement:
    responses = [Response(text=text, checkpoint=model) for text, model in zip(texts, models, strict=True)]
    return judged(prompt, responses, of_pair(better), **more)


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


# SHP: pairs of comments on one post, of which the better one was not written first


def _shp(rows: Row, objective: str) -> Iterable[Judgement]:
    places: dict[str, int] = {}
    scores: list[float | None] = []
    better: dict[tuple[int, int], int] = {}
    for row in rows.together:
        pair: list[int] = []
        for side in "AB":
            index = places.setdefault(row.text(f"human_ref_{side}"), len(places))
            scores += [None] * (len(places) - len(scores))
            scores[index] = row.optional_number(f"score_{side}")
            pair.append(index)
        first = 1 if row.one_of("labels", 0, 1) == 1 else -1
        if pair[0] == pair[1]:
            raise LeaveOut("all responses equal")
        better[min(pair), max(pair)] = first if pair[0] < pair[1] else -first
    prompt = prompt_in(rows, "history")
    found = [Response(text=text) for text in places]
    for one in of_comparisons(prompt, found, better, objective=objective):
        given = tuple(scores[places[response.text]] for response in one.responses)
        yield judged(one.prompt, one.responses, one.ranking, objective=objective, ratings={"score": given})


def _same_post(row: Row) -> Hashable:
    return row.text("history")


# Summarize-from-feedback: comparisons of two summaries, and ratings of one by axis


def _summaries(row: Row, objective: str) -> Iterable[Judgement]:
    summaries = row.parts("summaries")
    if len(summaries) != 2:
        row.wrong("summaries", "two summaries")
    choice = row.one_of("choice", 0, 1)
    extra = row.part("extra") if "extra" in row.fields else Row(row.where, {})
    sure = extra.optional_number("confidence")
    ratings: dict[str, tuple[float | None, ...]] = {}
    if sure is not None:
        ratings["confidence"] = (sure, None) if choice == 0 else (None, sure)
    yield _of_two(
        _to_sum_up(row.part("info")),
        [one.text("text") for one in summaries],
        1 if choice == 0 else -1,
        [one.name("policy") for one in summaries],
        objective=objective,
        annotator=row.name("worker"),
        ratings=ratings,
        rationale=" ".join(note for one in summaries if (note := one.optional_text("note"))),
    )


def _summary_axes(rows: Row, objective: str) -> Iterable[Judgement]:
    summaries = [row.part("summary") for row in rows.together]
    axes = [one.part("axes") for one in summaries]
    names = dict.fromkeys(name for one in axes for name in one.fields)
    yield judged(
        _to_sum_up(rows.part("info")),
        [Response(text=one.text("text"), checkpoint=one.name("policy")) for one in summaries],
        from_scores([one.number("overall") for one in axes]),
        objective=objective,
        annotator=rows.name("worker"),
        ratings={name: tuple(one.optional_number(name) for one in axes) for name in names},
    )


def _same_text(row: Row) -> Hashable:
    return row.part("info").name("id"), row.name("worker")


def _to_sum_up(info: Row) -> Prompt:
    if "article" in info.fields and "post" not in info.fields:
        return asked(info, in_one(f"Article:\n\n{info.text('article')}\n\nTL;DR:"))
    head = [("SUBREDDIT", "subreddit", "r/"), ("TITLE", "title", ""), ("POST", "post", "")]
    lines = [f"{word}: {sign}{info.text(key)}" for word, key, sign in head if key in info.fields]
    return asked(info, in_one("\n".join([*lines, "TL;DR:"])))


# WebGPT, HelpSteer, PKU-SafeRLHF


def _webgpt(row: Row, objective: str) -> Iterable[Judgement]:
    question = (
        row.text("question") if isinstance(row.value("question"), str) else row.part("question").text("full_text")
    )
    scores = (row.number("score_0"), row.number("score_1"))
    yield _of_two(
        asked(row, in_one(question)),
        [row.text("answer_0"), row.text("answer_1")],
        _sign(scores[0] - scores[1]),
        objective=objective,
        strength=abs(scores[0] - scores[1]),
        ratings={"score": scores},
    )


def _helpsteer(rows: Row, objective: str) -> Iterable[Judgement]:
    ratings = {axis: tuple(row.number(axis) for row in rows.together) for axis in _AXES if axis in rows.fields}
    yield judged(
        prompt_in(rows, "prompt"),
        [Response(text=row.text("response")) for row in rows.together],
        from_scores(ratings["helpfulness"]),
        objective=objective,
        ratings=ratings,
    )


def _same_prompt(row: Row) -> Hashable:
    return prompt_in(row, "prompt").id


def _helpsteer3(row: Row, objective: str) -> Iterable[Judgement]:
    """One judgement for each person where they are listed, else one of the published overall preference."""
    prompt = asked(row, turns_of(row, "context"))
    texts = [row.text("response1"), row.text("response2")]
    people = row.parts("individual_preference") if "individual_preference" in row.fields else []
    for number, one in enumerate(people, 1):
        score = one.number("score")
        words = [one.optional_text(key) for key in ("reasoning", "feedback1", "feedback2")]
        yield _of_two(
            prompt,
            texts,
            _sign(-score),
            objective=objective,
            annotator=f"annotator{number}",
            strength=abs(score),
            rationale="\n".join(text for text in words if text),
        )
    if not people:
        score = row.number("overall_preference")
        yield _of_two(prompt, texts, _sign(-score), objective=objective, strength=abs(score))


def _pku(row: Row, objective: str) -> Iterable[Judgement]:
    """Which one helps more and which one is safer are two objectives, and stay two."""
    prompt = prompt_in(row, "prompt")
    texts = [row.text("response_0"), row.text("response_1")]
    severity = [row.optional_number(f"response_{i}_severity_level") for i in (0, 1)]
    safe = [row.truth(key) if (key := f"is_response_{i}_safe") in row.fields else None for i in (0, 1)]
    flags: list[Flag] = ["harmful"] if safe == [False, False] else []
    given = {"safe": tuple(None if one is None else float(one) for one in safe), "severity": tuple(severity)}
    ratings = {name: values for name, values in given.items() if values != (None, None)}
    choices = {key: row.one_of(key, 0, 1) for key in ("better_response_id", "safer_response_id") if key in row.fields}
    if (helpful := choices.get("better_response_id")) is not None:
        name = "helpful" if "safer_response_id" in choices else objective
        yield _of_two(prompt, texts, 1 if helpful == 0 else -1, objective=name, ratings=ratings, flags=flags)
    if (safer := choices.get("safer_response_id")) is not None:
        yield _of_two(prompt, texts, 1 if safer == 0 else -1, objective="harmless", ratings=ratings, flags=flags)


# Arena battles


def _arena(row: Row, objective: str) -> Iterable[Judgement]:
    prompt, texts = two_answers(row, turns_of(row, "conversation_a"), turns_of(row, "conversation_b"))
    winner = row.text("winner")
    if winner not in _WINNER:
        row.wrong("winner", " or ".join(_WINNER))
    yield _battle(row, prompt, texts, _WINNER[winner], objective, both_bad=winner in _BOTH_BAD)


def _arena_texts(row: Row, objective: str) -> Iterable[Judgement]:
    """A competition's form: each side a list of texts, one per turn, and the winner in columns of 0 and 1."""
    sides: list[tuple[Message, ...]] = []
    for side in "ab":
        turns: list[Message] = []
        for asking, answer in zip(row.items("prompt"), row.items(f"response_{side}"), strict=False):
            if not isinstance(asking, str) or not isinstance(answer, str):
                raise LeaveOut("a turn without text")
            turns += [Message(role="user", content=asking), Message(role="assistant", content=answer)]
        if not turns:
            raise LeaveOut("does not end with an answer")
        sides.append(tuple(turns))
    prompt, texts = two_answers(row, *sides)
    better = row.one_of("winner_model_a", 0, 1) - row.one_of("winner_model_b", 0, 1)
    yield _battle(row, prompt, texts, better, objective)


def _battle(
    row: Row, prompt: Prompt, texts: Sequence[str], better: int, objective: str, *, both_bad: bool = False
) -> Judgement:
    flags: list[Flag] = ["all_bad"] if both_bad else []
    models = [row.name("model_a"), row.name("model_b")]
    return _of_two(prompt, texts, better, models, objective=objective, annotator=row.name("judge"), flags=flags)


# AlpacaFarm and AlpacaEval, PandaLM: an instruction, its input, two outputs


def _alpaca_farm(row: Row, objective: str) -> Iterable[Judgement]:
    """1: the first output is better, 2: the second; between them the chance of the second (1.5, or 0: a tie)."""
    preference = row.number("preference")
    if preference != 0 and not 1 <= preference <= 2:
        row.wrong("preference", "a number from 1 to 2, or 0 for a tie")
    ratings: dict[str, tuple[float | None, ...]] = {}
    if preference not in (0, 1, 2):
        ratings["preferred"] = (2 - preference, preference - 1)
    yield _of_two(
        asked(row, in_one(row.text("instruction"), row.optional_text("input"))),
        [row.text("output_1"), row.text("output_2")],
        0 if preference == 0 else _sign(1.5 - preference),
        [row.name("generator_1"), row.name("generator_2")],
        objective=objective,
        annotator=row.name("annotator"),
        ratings=ratings,
    )


def _pandalm(row: Row, objective: str) -> Iterable[Judgement]:
    prompt = asked(row, in_one(row.text("instruction"), row.optional_text("input")))
    texts = [row.text("response1"), row.text("response2")]
    first, _, second = row.optional_text("cmp_key").partition("_")
    for name in sorted(filter(_ANNOTATOR.fullmatch, row.fields)):
        better = {0: 0, 1: 1, 2: -1}[row.one_of(name, 0, 1, 2)]
        yield _of_two(prompt, texts, better, (first, second), objective=objective, annotator=name)


FORMATS = (
    Format(
        name="shp",
        words="pairs of comments on one post (SHP); the pairs of a post make a ranking where they come to one",
        shapes=(("history", "human_ref_A", "human_ref_B", "labels"),),
        judgements=_shp,
        group=_same_post,
    ),
    Format(
        name="summarize-from-feedback",
        words="comparisons of two summaries",
        shapes=(("info", "summaries", "choice"),),
        judgements=_summaries,
    ),
    Format(
        name="summarize-from-feedback-axis",
        words="summaries rated by axis; those of one text by one worker make a ranking",
        shapes=(("info", "summary", "worker"), ("info", "summary")),
        judgements=_summary_axes,
        group=_same_text,
    ),
    Format(
        name="webgpt",
        words="two answers with scores, equal ones a tie (WebGPT)",
        shapes=(("question", "answer_0", "answer_1", "score_0", "score_1"),),
        judgements=_webgpt,
    ),
    Format(
        name="helpsteer",
        words="responses rated by five aspects (HelpSteer 1 and 2); those to one prompt make a ranking",
        shapes=(("prompt", "response", "helpfulness"), ("prompt", "response", *_AXES)),
        judgements=_helpsteer,
        group=_same_prompt,
    ),
    Format(
        name="helpsteer3",
        words="two responses, and what each person preferred, from -3 (the first) to 3 (HelpSteer3)",
        shapes=(("context", "response1", "response2", "overall_preference"),),
        judgements=_helpsteer3,
    ),
    Format(
        name="pku-saferlhf",
        words="two responses, which one is better and which one safer (PKU-SafeRLHF)",
        shapes=(
            ("prompt", "response_0", "response_1", "better_response_id"),
            ("prompt", "response_0", "response_1", "safer_response_id"),
            ("prompt", "response_0", "response_1", "better_response_id", "safer_response_id"),
        ),
        judgements=_pku,
    ),
    Format(
        name="arena",
        words="battles of two models in conversations (Chatbot Arena)",
        shapes=(("conversation_a", "conversation_b", "winner"),),
        judgements=_arena,
    ),
    Format(
        name="arena-texts",
        words="battles of two models, the turns as lists of texts (Chatbot Arena, its competition's form)",
        shapes=(("prompt", "response_a", "response_b", "winner_model_a", "winner_model_b"),),
        judgements=_arena_texts,
    ),
    Format(
        name="alpaca-farm",
        words="two outputs and which one is preferred (AlpacaFarm, AlpacaEval)",
        shapes=(("instruction", "output_1", "output_2", "preference"),),
        judgements=_alpaca_farm,
    ),
    Format(
        name="pandalm",
        words="two responses and the label of each of several annotators (PandaLM)",
        shapes=(("instruction", "response1", "response2", "annotator1"),),
        look=Look(words="annotators are numbered", holds=lambda fields: any(map(_ANNOTATOR.fullmatch, fields))),
        judgements=_pandalm,
    ),
)
