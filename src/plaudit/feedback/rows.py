"""The vocabulary as rows of the store, and back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from plaudit.data.formats import judgement_from_dict
from plaudit.feedback import schema
from plaudit.types import Demonstration, Judgement, Message, Prompt, Response, Sampling

_AT_ONCE = 500
"""Rows or ids in one statement: SQLite takes a bounded number of parameters."""


def put_new(session: Session, table: type[schema.Base], rows: Iterable[Mapping[str, Any]]) -> None:
    """Insert the rows whose key is not there yet."""
    make = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    # By the table, not its class: the ORM would look at each row.
    statement = make(table.__table__).on_conflict_do_nothing()  # pyright: ignore[reportArgumentType]
    rows = list(rows)
    for start in range(0, len(rows), _AT_ONCE):
        session.connection().execute(statement, [dict(row) for row in rows[start : start + _AT_ONCE]])


def put_prompts(session: Session, prompts: Iterable[Prompt]) -> None:
    distinct = {prompt.id: prompt for prompt in prompts}
    put_new(
        session,
        schema.Prompt,
        [{"id": p.id, "messages": [asdict(m) for m in p.messages], "tags": list(p.tags)} for p in distinct.values()],
    )


def put_responses(session: Session, tasks: Iterable[tuple[Prompt, Sequence[Response]]]) -> None:
    rows = [
        {
            "id": response_id(prompt, one),
            "prompt_id": prompt.id,
            "text": one.text,
            "checkpoint": one.checkpoint,
            "sampling": None if one.sampling is None else _sampling_fields(one.sampling),
            "finished": one.finished,
        }
        for prompt, responses in tasks
        for one in responses
    ]
    put_new(session, schema.Response, rows)


def response_id(prompt: Prompt, response: Response) -> str:
    return _response_id(prompt.id, response)


@lru_cache(maxsize=1 << 15)
def _response_id(prompt: str, response: Response) -> str:
    drawn = None if response.sampling is None else _sampling_fields(response.sampling)
    spelled = json.dumps([prompt, response.text, response.checkpoint, drawn, response.finished])
    return hashlib.sha256(spelled.encode()).hexdigest()[:32]


@lru_cache(maxsize=256)
def _sampling_fields(sampling: Sampling) -> dict[str, Any]:
    return asdict(sampling)


def prompt_of_row(row: schema.Prompt) -> Prompt:
    return Prompt(id=row.id, messages=tuple(Message(**m) for m in row.messages), tags=tuple(row.tags))


def response_of_row(row: schema.Response) -> Response:
    sampling = None
    if row.sampling is not None:
        fields: dict[str, Any] = row.sampling | {"stop": tuple(row.sampling["stop"])}
        sampling = Sampling(**fields)
    return Response(text=row.text, checkpoint=row.checkpoint, sampling=sampling, finished=row.finished)


def responses_of(session: Session, ids: Sequence[str]) -> tuple[Response, ...]:
    found = {row.id: row for row in session.scalars(select(schema.Response).where(schema.Response.id.in_(ids)))}
    return tuple(response_of_row(found[id]) for id in ids)


def judgement_fields(judgement: Judgement) -> dict[str, Any]:
    """The columns of a judgement; its rationale is kept apart."""
    return {
        "id": judgement.id,
        "prompt_id": judgement.prompt.id,
        "responses": [response_id(judgement.prompt, one) for one in judgement.responses],
        "handle": judgement.annotator,
        "objective": judgement.objective,
        "said": {
            "ranking": [list(group) for group in judgement.ranking],
            "unordered": list(judgement.unordered),
            "strength": judgement.strength,
            "flags": list(judgement.flags),
            "ratings": {name: list(ratings) for name, ratings in judgement.ratings.items()},
            "edited": {str(index): text for index, text in judgement.edited.items()},
            "display_order": list(judgement.display_order),
        },
        "seconds": judgement.seconds,
        "guideline_version": judgement.guideline_version,
        "created": judgement.created,
        "supersedes": judgement.supersedes,
    }


def judgements_of(session: Session, rows: Sequence[schema.Judgement]) -> list[Judgement]:
    """The judgements whole again: their prompts, responses and rationales are read in few statements."""
    prompts, responses = texts_of(session, rows)
    reasons = _by_key(
        session, select(schema.Rationale), schema.Rationale.judgement_id, {row.id for row in rows}, "judgement_id"
    )
    known_prompts = {id: asdict(prompt) for id, prompt in prompts.items()}
    known_responses = {id: asdict(response) for id, response in responses.items()}
    return [
        judgement_from_dict(
            {
                "id": row.id,
                "prompt": known_prompts[row.prompt_id],
                "responses": [known_responses[id] for id in row.responses],
                **row.said,
                "objective": row.objective,
                "rationale": reasons[row.id].text if row.id in reasons else "",
                "annotator": row.handle,
                "guideline_version": row.guideline_version,
                "seconds": row.seconds,
                "created": row.created,
                "supersedes": row.supersedes,
            },
            f"judgement {row.id}",
        )
        for row in rows
    ]


def texts_of(
    session: Session, rows: Sequence[schema.Judgement] | Sequence[schema.Task]
) -> tuple[dict[str, Prompt], dict[str, Response]]:
    """The prompts and responses of many rows, by id, read in few statements."""
    prompts = _by_key(session, select(schema.Prompt), schema.Prompt.id, {row.prompt_id for row in rows})
    said = {id for row in rows for id in row.responses}
    responses = _by_key(session, select(schema.Response), schema.Response.id, said)
    return (
        {id: prompt_of_row(row) for id, row in prompts.items()},
        {id: response_of_row(row) for id, row in responses.items()},
    )


def demonstration_of_row(session: Session, row: schema.Demonstration) -> Demonstration:
    prompt = session.get_one(schema.Prompt, row.prompt_id)
    return Demonstration(prompt=prompt_of_row(prompt), response=row.text, source=row.source)


def _by_key(session: Session, statement: Select[Any], column: Any, keys: set[str], name: str = "id") -> dict[str, Any]:
    found: dict[str, Any] = {}
    wanted = sorted(keys)
    for start in range(0, len(wanted), _AT_ONCE):
        for row in session.scalars(statement.where(column.in_(wanted[start : start + _AT_ONCE]))):
            found[getattr(row, name)] = row
    return found
