"""What annotation tools export: Argilla, Label Studio, Potato."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from plaudit.data.families.rankings import from_ranks, of_pair
from plaudit.data.format import Format, Look, is_list_of_texts
from plaudit.data.judgements import check_ranking, judged
from plaudit.data.row import LeaveOut, Row, list_of, mapping_of, number_of
from plaudit.data.turns import asked, in_one, turns_of
from plaudit.types import Flag, InputError, Judgement, Prompt, Response

_ASKED_IN = ("prompt", "question", "instruction", "query", "input", "context", "messages", "text", "title")
"""Names under which tasks hold what was asked, the likeliest first."""
_TEXT_IN = ("text", "body", "content", "response", "html", "value", "title")
"""Names under which an item to rank holds its text."""


def _prompt(row: Row) -> tuple[str, Prompt]:
    """The field that holds what was asked, and the prompt."""
    for key in _ASKED_IN:
        value = row.value(key)
        if isinstance(value, str):
            return key, asked(row, in_one(value))
        if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in cast("list[object]", value)):
            return key, asked(row, turns_of(row, key))
    there = ", ".join(sorted(row.fields)) or "none"
    raise row.error(f"expected the prompt in one of {', '.join(_ASKED_IN)}, found the fields {there}"[:400])


# Argilla: a ranking question orders the names of the fields that hold the responses


def _argilla(row: Row, objective: str) -> Iterator[Judgement]:
    nested = "fields" in row.fields
    fields = row.part("fields") if nested else row
    _, prompt = _prompt(fields)
    answers = row.part("responses") if nested else row
    for question in answers.fields:
        for person, status, value in _argilla_answers(answers, question):
            ranks = _argilla_ranks(answers, question, value)
            if ranks is None:
                continue
            flags: list[Flag] = [] if status in ("", "submitted") else ["skip"]
            yield judged(
                prompt,
                [Response(text=fields.text(name)) for name in ranks],
                from_ranks(list(ranks.values())),
                objective=objective,
                annotator=person,
                flags=flags,
            )


def _argilla_answers(row: Row, question: str) -> Iterator[tuple[str, str, object]]:
    """(person, status, value) of each answer to a question: objects in a list, or a list for each of their fields."""
    given = row.value(question)
    if isinstance(given, dict):
        columns = Row(f"{row.where}: {question}", cast("dict[str, object]", given))
        if list_of(columns.fields.get("value")) is None:
            return
        values = columns.items("value")
        people, states = ((list_of(columns.fields.get(key)) or []) for key in ("user_id", "status"))
        for index, value in enumerate(values):
            yield _at(people, index), _at(states, index), value
    elif isinstance(given, list) and all(isinstance(item, Mapping) for item in cast("list[object]", given)):
        for one in row.parts(question):
            yield one.name("user_id"), one.optional_text("status"), one.fields.get("value")


def _at(texts: Sequence[object], index: int) -> str:
    value = texts[index] if index < len(texts) else None
    return "" if value is None else str(value)


def _argilla_ranks(row: Row, question: str, value: object) -> dict[str, float] | None:
    """Name of a field -> its rank: [{value, rank}], {value: [...], rank: [...]}, or names from best to worst."""
    if isinstance(value, dict):
        spelled = cast("dict[str, object]", value)
        names, ranks = list_of(spelled.get("value")), list_of(spelled.get("rank"))
        if names is None or ranks is None or len(names) != len(ranks):
            return None
        pairs = list(zip(names, ranks, strict=True))
    else:
        items = list_of(value) or []
        if is_list_of_texts(items):
            pairs = [(name, place) for place, name in enumerate(items, 1)]
        else:
            fields = [mapping_of(item) or {} for item in items]
            pairs = [(one.get("value"), one.get("rank")) for one in fields if "rank" in one]
    if not pairs:
        return None
    return {str(name): number_of(row.where, f"{question}: rank", rank) for name, rank in pairs}


def _is_argilla(fields: Mapping[str, object]) -> bool:
    row = Row("", fields)
    try:
        return next(iter(_argilla(row, "")), None) is not None
    except (InputError, LeaveOut):  # whatever is wrong with it, it does not look like Argilla's
        return False


# Label Studio: a task's data, and annotations that hold results


def _label_studio(row: Row, objective: str) -> Iterator[Judgement]:
    data = row.part("data")
    key, prompt = _prompt(data)
    for annotation in row.parts("annotations"):
        cancelled = annotation.fields.get("was_cancelled") is True
        who = annotation.value("completed_by")
        person = (mapping_of(who) or {}).get("email", who)
        about: dict[str, Any] = {
            "objective": objective,
            "annotator": "" if person is None else str(person),
            "flags": ["skip"] if cancelled else [],
            "seconds": annotation.optional_number("lead_time"),
            "created": annotation.optional_text("created_at"),
        }
        for result in annotation.parts("result"):
            value = result.part("value") if "value" in result.fields else Row(result.where, {})
            if "ranker" in value.fields:
                yield _ranked(data, value.part("ranker"), prompt, about)
            elif "selected" in value.fields:
                yield _selected(data, key, value, prompt, about)


def _ranked(data: Row, ranker: Row, prompt: Prompt, about: Mapping[str, Any]) -> Judgement:
    """One list is an order; several buckets are tie groups in their order, and what lies in none ("_") is left out."""
    buckets = [[str(one) for one in ranker.items(name)] for name in ranker.fields if name != "_"]
    groups = [[one] for one in buckets[0]] if len(buckets) == 1 else [bucket for bucket in buckets if bucket]
    texts = _items_to_rank(data)
    order = [one for group in groups for one in group]
    for one in order:
        if one not in texts:
            raise ranker.error(f"expected ids of the task's items ({', '.join(texts)[:100]}), found {one!r:.60}")
    place = {one: index for index, one in enumerate(order)}
    ranking = [[place[one] for one in group] for group in groups]
    check_ranking(ranking, len(order), ranker.where)
    return judged(prompt, [Response(text=texts[one]) for one in order], ranking, **about)


def _items_to_rank(data: Row) -> dict[str, str]:
    """Id -> text of the items of the task, in whatever field they are."""
    for key in data.fields:
        items = list_of(data.value(key)) or []
        found: dict[str, str] = {}
        for item in items:
            fields = mapping_of(item) or {}
            text = next((fields[name] for name in _TEXT_IN if isinstance(fields.get(name), str)), None)
            if "id" in fields and text is not None:
                found[str(fields["id"])] = str(text)
        if found and len(found) == len(items):
            return found
    raise data.error("expected a list of items with id and text to rank, found none")


def _selected(data: Row, asked_in: str, value: Row, prompt: Prompt, about: Mapping[str, Any]) -> Judgement:
    sides = [key for key, text in data.fields.items() if isinstance(text, str) and key != asked_in]
    if len(sides) != 2:
        raise data.error(f"expected two texts besides {asked_in}, found {', '.join(sides) or 'none'}"[:400])
    better = {"left": 1, "right": -1, "tie": 0}.get(str(value.fields["selected"]))
    if better is None:
        value.wrong("selected", "left, right or tie")
    return judged(prompt, [Response(text=data.text(key)) for key in sides], of_pair(better), **about)


# Potato: letters name the responses


_LETTERS = re.compile(r"[A-Z](\s*[,=]\s*[A-Z])+")


def _potato(row: Row, objective: str) -> Iterable[Judgement]:
    _, prompt = _prompt(row)
    texts = row.items("responses")
    if not is_list_of_texts(texts):
        row.wrong("responses", "a list of texts")
    given = row if "selection" in row.fields or "ranking" in row.fields else _potato_answer(row)
    key = "selection" if "selection" in given.fields else "ranking"
    spelled = given.text(key)
    if key == "selection":
        order = {"A": "A,B", "B": "B,A", "tie": "A=B"}.get(spelled)
        if order is None or len(texts) != 2:
            given.wrong(key, "A, B or tie, of two responses")
    else:
        order = spelled
        if _LETTERS.fullmatch(order) is None:
            given.wrong(key, "letters such as 'B,D=A,C'")
    ranking = [[ord(letter.strip()) - ord("A") for letter in group.split("=")] for group in order.split(",")]
    check_ranking(ranking, len(texts), given.where)
    person = row.name("user_id") or row.name("user") or row.name("annotator")
    yield judged(prompt, [Response(text=str(text)) for text in texts], ranking, objective=objective, annotator=person)


def _potato_answer(row: Row) -> Row:
    """The answer to the first question that was about a choice or an order."""
    schemas = row.part("label_annotations")
    for name in schemas.fields:
        answer = schemas.part(name)
        if "selection" in answer.fields or "ranking" in answer.fields:
            return answer
    raise LeaveOut("not ranked")


def _orders_letters(fields: Mapping[str, object]) -> bool:
    ranking = fields.get("ranking")
    return "ranking" not in fields or (isinstance(ranking, str) and _LETTERS.fullmatch(ranking) is not None)


FORMATS = (
    Format(
        name="argilla",
        words="records with answers to a ranking question (Argilla)",
        shapes=(("fields", "responses"), ("prompt",), ("instruction",), ("input",), ("question",), ("text",)),
        look=Look(words="an answer orders the names of its fields", holds=_is_argilla),
        judgements=_argilla,
    ),
    Format(
        name="label-studio",
        words="tasks with annotations by Ranker or Pairwise (Label Studio)",
        shapes=(("data", "annotations"),),
        judgements=_label_studio,
    ),
    Format(
        name="potato",
        words="responses named by letters, and a selection or an order of them (Potato)",
        shapes=(("responses", "selection"), ("responses", "ranking"), ("responses", "label_annotations")),
        look=Look(words="the order is one of letters", holds=_orders_letters),
        judgements=_potato,
    ),
)
