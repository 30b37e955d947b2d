"""K responses to one prompt in one row, with ranks, scores or comparisons."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast, get_args

from plaudit.data.cells import text_of_cell, value_of_cell
from plaudit.data.families.rankings import Groups, from_comparisons, from_ranks, from_scores, of_pair
from plaudit.data.format import Format, Look, is_list_of_texts
from plaudit.data.judgements import TEXTS, check_ranking, judged, judgement_from_dict
from plaudit.data.row import Row, is_number, list_of, mapping_of, number_of
from plaudit.data.turns import answer_in, asked, in_one, is_transcript, prompt_in, split_answer, transcript, turns_of
from plaudit.types import OVERALL, Flag, Judgement, Prompt, Response

_FLAGS: tuple[str, ...] = get_args(Flag)
_LETTERS = tuple(string.ascii_uppercase)
_SAMPLES = ("sample0", "sample1", "sample2", "sample3")
_ERRONEOUS_TEN, _BEYOND_DOUBT = 10.0, 2.0
"""UltraFeedback's first edition has overall scores of 10 that were 1s; so low a mean of the aspects tells them."""


# Native: our own judgements, and rows with responses and a ranking in one of several spellings


def _native(row: Row, objective: str) -> Iterable[Judgement]:
    if mapping_of(row.value("prompt")) is not None:
        whole = judgement_from_dict(_typed(row), row.where)
        yield whole if whole.objective != OVERALL or objective == OVERALL else replace(whole, objective=objective)
        return
    responses = [_response(row, index, entry) for index, entry in enumerate(_entries(row))]
    ranking = _ranking(row, _entries(row))
    check_ranking(ranking, len(responses), row.where)
    own = row.optional_text("objective") or OVERALL
    scores = _of_every(_entries(row), "score") or []
    if not all(type(score) in (int, float) for score in scores):
        scores = []  # whatever they are, the ranking stands without them
    yield judged(
        _native_prompt(row),
        responses,
        ranking,
        objective=own if own != OVERALL else objective,
        annotator=row.optional_text("annotator"),
        strength=row.optional_number("strength"),
        flags=_flags(row),
        ratings={"score": tuple(number_of(row.where, "score", score) for score in scores)} if scores else {},
    )


def _typed(row: Row) -> Mapping[str, Any]:
    if not row.loose:
        return row.fields
    cells = cast("Mapping[str, str]", row.fields)
    built = {key: value_of_cell(cell) for key, cell in cells.items() if key not in TEXTS}
    if "strength" in cells:
        built["strength"] = row.number("strength")
    if "seconds" in cells:
        built["seconds"] = row.number("seconds")
    return built | {key: text_of_cell(cell) for key, cell in cells.items() if key in TEXTS}


def _native_prompt(row: Row) -> Prompt:
    if "question" in row.fields:
        return asked(row, in_one(row.text("question"), row.optional_text("passage")))
    return prompt_in(row, "prompt" if "prompt" in row.fields else "messages")


def _entries(row: Row) -> list[object]:
    entries = list_of(row.value("responses"))
    return entries if entries else row.wrong("responses", "a list of texts")


def _response(row: Row, index: int, entry: object) -> Response:
    if isinstance(entry, str):
        return Response(text=entry)
    fields = mapping_of(entry)
    if fields is not None:
        text, model = fields.get("text"), fields.get("model", "")
        if isinstance(text, str) and isinstance(model, str):
            return Response(text=text, checkpoint=model)
    raise row.error(f'responses, item {index}: expected a text or {{"text": ...}}, found {entry!r:.60}')


def _ranking(row: Row, entries: Sequence[object]) -> Groups:
    if "ranking" in row.fields:
        return _groups(row, row.value("ranking"))
    if "ranks" in row.fields:
        return from_ranks(_numbers(row, "ranks", len(entries)))
    for key, sign in (("rank", 1.0), ("score", -1.0)):
        if values := _of_every(entries, key):
            return from_ranks([sign * number_of(row.where, key, value) for value in values])
    if "flags" in row.fields:
        return ()
    raise row.error(
        "there is no ranking; expected ranking (groups of equal responses from best to worst, such as [[2], [0, 1]]), "
        "ranks (1 is best, equal is a tie), or a rank or score in every response"
    )


def _of_every(entries: Sequence[object], key: str) -> list[object] | None:
    """A field of each of the entries; None where one of them lacks it."""
    fields = [mapping_of(entry) or {} for entry in entries]
    return [one[key] for one in fields] if all(key in one for one in fields) else None


def _groups(row: Row, value: object) -> Groups:
    groups = [list_of(group) or [group] for group in list_of(value) or [value]] if value != [] else []
    leaves = [index for group in groups for index in group]
    if all(isinstance(index, str) and index in _LETTERS for index in leaves):
        return tuple(tuple(_LETTERS.index(str(index)) for index in group) for group in groups)
    if any(type(index) is not int for index in leaves):
        raise row.error(f"ranking: expected groups of response numbers such as [[2], [0, 1]], found {value!r:.60}")
    return tuple(tuple(cast("list[int]", group)) for group in groups)


def _numbers(row: Row, key: str, count: int) -> list[float]:
    values = list_of(row.value(key))
    if values is None or len(values) != count:
        row.wrong(key, f"{count} numbers, one per response")
    return [number_of(row.where, key, value) for value in values]


def _flags(row: Row) -> tuple[Flag, ...]:
    value = row.value("flags")
    flags = [] if value is None else list_of(value)
    if flags is None or any(flag not in _FLAGS for flag in flags):
        row.wrong("flags", f"some of {', '.join(_FLAGS)} in a list")
    return tuple(cast("list[Flag]", flags))


# Comparisons of two responses at a time, by several people


def _compared(row: Row, objective: str) -> Iterable[Judgement]:
    prompt = prompt_in(row, "prompt")
    responses = [_response(row, index, entry) for index, entry in enumerate(_entries(row))]
    answers: list[dict[tuple[int, int], int]] = []
    for one in row.parts("comparisons"):
        a, b = (one.one_of(key, *range(len(responses))) for key in "ab")
        for person, label in enumerate(one.items("labels")):
            if label not in (0, 1, 2) or not is_number(label):
                one.wrong("labels", "0 (a tie), 1 (a is better) or 2 (b is better) for each annotator")
            if a == b:
                one.wrong("b", "another response than a")
            while len(answers) <= person:
                answers.append({})
            answer = {0: 0, 1: 1, 2: -1}[cast("int", label)]
            answers[person][min(a, b), max(a, b)] = answer if a < b else -answer
    for person, better in enumerate(answers, 1):
        yield from of_comparisons(prompt, responses, better, objective=objective, annotator=f"annotator{person}")


def of_comparisons(
    prompt: Prompt, responses: Sequence[Response], better: Mapping[tuple[int, int], int], **more: Any
) -> Iterable[Judgement]:
    """One ranking where the comparisons come to one, else each of them by itself."""
    whole = from_comparisons(len(responses), better)
    if whole is not None:
        yield judged(prompt, responses, whole, **more)
        return
    for (a, b), answer in better.items():
        yield judged(prompt, [responses[a], responses[b]], of_pair(answer), **more)


# Other people's K-wise rows


def _nemo(row: Row, objective: str) -> Iterable[Judgement]:
    completions = row.parts("completions")
    yield judged(
        asked(row, turns_of(row, "context")),
        [Response(text=answer_in(one, "completion")) for one in completions],
        from_ranks([one.number("rank") for one in completions]),
        objective=objective,
    )


def _nectar(row: Row, objective: str) -> Iterable[Judgement]:
    answers = row.parts("answers")
    # it ends with an 'Assistant:' that says nothing
    spoken = is_transcript(row.fields.get("prompt"))
    prompt = asked(row, split_answer(transcript(row, "prompt"))[0]) if spoken else prompt_in(row, "prompt")
    yield judged(
        prompt,
        [Response(text=one.text("answer"), checkpoint=one.name("model")) for one in answers],
        from_ranks([one.number("rank") for one in answers]),
        objective=objective,
    )


def _ultrafeedback(row: Row, objective: str) -> Iterable[Judgement]:
    completions = row.parts("completions")
    ratings = _aspects(completions)
    scores: list[float] = []
    for index, one in enumerate(completions):
        given = [values[index] for values in ratings.values()]
        rated = [value for value in given if value is not None]
        mean = sum(rated) / len(rated) if rated else None
        score = one.number("overall_score") if "overall_score" in one.fields else mean
        if score is None:
            one.wrong("overall_score", "a number")
        scores.append(1.0 if score == _ERRONEOUS_TEN and mean is not None and mean <= _BEYOND_DOUBT else score)
    yield judged(
        asked(row, in_one(row.text("instruction"))),
        [Response(text=one.text("response"), checkpoint=one.name("model")) for one in completions],
        from_scores(scores),
        objective=objective,
        ratings={**ratings, "overall_score": tuple(scores)},
    )


def _aspects(completions: Sequence[Row]) -> dict[str, tuple[float | None, ...]]:
    """Per aspect, one rating per completion; "N/A" is none."""
    given: list[dict[str, float | None]] = []
    for one in completions:
        aspects = one.part("annotations") if "annotations" in one.fields else Row(one.where, {})
        given.append({aspect: _rating(aspects.part(aspect)) for aspect in aspects.fields})
    names = dict.fromkeys(name for ratings in given for name in ratings)
    return {name: tuple(ratings.get(name) for ratings in given) for name in names}


def _rating(aspect: Row) -> float | None:
    value = aspect.fields.get("Rating", "N/A")
    return None if value == "N/A" else Row(aspect.where, {"Rating": value}, loose=True).number("Rating")


def _best_of_four(row: Row, objective: str) -> Iterable[Judgement]:
    """Only the best is known: one pair with each of the others, since a tie of those would say too much."""
    samples = [Response(text=row.text(key)) for key in _SAMPLES]
    best = row.one_of("best", *range(len(samples)))
    prompt = prompt_in(row, "query")
    for index, other in enumerate(samples):
        if index != best:
            yield judged(prompt, [samples[best], other], of_pair(1), objective=objective)


def _rewardbench2(row: Row, objective: str) -> Iterable[Judgement]:
    right, wrong = (row.items(key) for key in ("chosen", "rejected"))
    if not is_list_of_texts(right) or not is_list_of_texts(wrong):
        row.wrong("chosen" if not is_list_of_texts(right) else "rejected", "a list of texts")
    count = len(right) + len(wrong)
    groups = tuple(range(len(right))), tuple(range(len(right), count))
    texts = cast("list[str]", [*right, *wrong])
    yield judged(prompt_in(row, "prompt"), [Response(text=text) for text in texts], groups, objective=objective)


FORMATS = (
    Format(
        name="native",
        words="our own: judgements.jsonl, or a prompt with responses and ranking, ranks, or a rank or score in each",
        shapes=(("prompt", "responses"), ("messages", "responses"), ("question", "responses")),
        judgements=_native,
        prompts=lambda row: [_native_prompt(row)],
    ),
    Format(
        name="comparisons",
        words="responses and the labels of several people for pairs of them",
        shapes=(("prompt", "responses", "comparisons"),),
        judgements=_compared,
    ),
    Format(
        name="nemo",
        words="a context and completions with ranks, 0 the best (NeMo-RL)",
        shapes=(("context", "completions"),),
        judgements=_nemo,
    ),
    Format(name="nectar", words="seven ranked answers (Nectar)", shapes=(("prompt", "answers"),), judgements=_nectar),
    Format(
        name="ultrafeedback",
        words="completions with ratings by aspect and an overall score (UltraFeedback)",
        shapes=(("instruction", "completions"),),
        judgements=_ultrafeedback,
    ),
    Format(
        name="lm-human-preferences",
        words="the best of four samples (lm-human-preferences)",
        shapes=(("query", *_SAMPLES, "best"),),
        judgements=_best_of_four,
    ),
    Format(
        name="rewardbench-2",
        words="right and wrong answers, several of each (RewardBench 2)",
        shapes=(("prompt", "chosen", "rejected", "num_correct"), ("prompt", "chosen", "rejected")),
        look=Look(words="both sides are lists of texts", holds=lambda fields: is_list_of_texts(fields["chosen"])),
        judgements=_rewardbench2,
    ),
)
