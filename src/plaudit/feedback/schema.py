"""The tables. A project is one SQLite file, or one schema of a PostgreSQL database.

`judgements`, `demonstrations` (but for their standing), `reviews` and `audit` are append-only: triggers refuse the
rest. What may have to go again lies apart: names in `accounts`, free words about a judgement in `rationales`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, MetaData, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

OPEN = "state = 'open' AND taken < wanted"
"""Tasks with a place to fill. Queries spell it like this, or SQLite does not see that the index answers them."""
DISPUTED = "state = 'disputed' AND taken < wanted"
LIVE = "state = 'live'"


def _partial(name: str, *columns: Any, where: str) -> Index:
    return Index(name, *columns, sqlite_where=text(where), postgresql_where=text(where))


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {dict[str, Any]: JSON, list[Any]: JSON}


class Project(Base):
    """One row: what this project is, and how it asks."""

    __tablename__ = "project"

    id: Mapped[int] = mapped_column(primary_key=True)
    settings: Mapped[dict[str, Any]]
    recipe: Mapped[dict[str, Any]]
    """What the recipe said when it was last applied: what it says anew is a change, the rest is left as it is."""
    guideline: Mapped[int]
    """The newest version."""
    queued: Mapped[dict[str, Any]]
    """What was taken in, as the responses of a round -> its hash: it is not taken in twice."""
    created: Mapped[str]


class Guideline(Base):
    __tablename__ = "guidelines"

    version: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    created: Mapped[str]
    recalls: Mapped[bool]


class Prompt(Base):
    __tablename__ = "prompts"

    id: Mapped[str] = mapped_column(primary_key=True)
    messages: Mapped[list[Any]]
    tags: Mapped[list[Any]]


class Response(Base):
    __tablename__ = "responses"

    id: Mapped[str] = mapped_column(primary_key=True)
    """A hash of the prompt, the text and all that is known of where it came from."""
    prompt_id: Mapped[str] = mapped_column(ForeignKey("prompts.id"), index=True)
    text: Mapped[str]
    checkpoint: Mapped[str]
    sampling: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    finished: Mapped[bool]


class Annotator(Base):
    """Whoever judged: a person (behind a pseudonym), a simulated one, a model."""

    __tablename__ = "annotators"

    handle: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]


class Account(Base):
    __tablename__ = "accounts"

    id: Mapped[int] = mapped_column(primary_key=True)
    handle: Mapped[str] = mapped_column(ForeignKey("annotators.handle"), unique=True)
    name: Mapped[str | None] = mapped_column(unique=True)
    """None: erased."""
    role: Mapped[str]
    active: Mapped[bool]
    qualified: Mapped[bool | None]
    """None: not decided yet."""
    password_hash: Mapped[str | None]
    created: Mapped[str]
    drawn: Mapped[int]
    """Hand-outs so far: with the seed it keys what is drawn for him next."""


class ApiToken(Base):
    __tablename__ = "api_tokens"

    digest: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    label: Mapped[str]
    created: Mapped[str]


class Invite(Base):
    __tablename__ = "invites"

    nonce: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[str]
    expires: Mapped[float]
    used: Mapped[bool]


class Task(Base):
    __tablename__ = "tasks"
    __table_args__ = (
        _partial("ix_tasks_open_place", "kind", "place", where=OPEN),
        _partial("ix_tasks_open_score", "kind", "score", "place", where=OPEN),
        _partial("ix_tasks_disputed", "place", where=DISPUTED),
        _partial("ix_tasks_gold", "id", where="is_gold"),
        Index("ix_tasks_tally", "round", "kind", "state", "wanted", "taken", "done"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(unique=True)
    """Of its content: the same task enqueued again is the same task."""
    kind: Mapped[str]
    prompt_id: Mapped[str] = mapped_column(ForeignKey("prompts.id"))
    responses: Mapped[list[Any]]
    draft: Mapped[str]
    demonstration_id: Mapped[int | None]
    """Of a review: what is reviewed."""
    author: Mapped[str | None]
    """Of a review and a live task: whose it is."""
    round: Mapped[int]
    is_gold: Mapped[bool]
    gold: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))
    sensitive: Mapped[bool]
    score: Mapped[float]
    place: Mapped[int]
    """Its place in the random order."""
    shown: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))
    """Which of its responses are shown, ascending; None: all of them. Fixed once anybody has had it in hands."""
    reserved: Mapped[bool]
    """It comes at random alone, so that what judges are measured on is chosen by nobody."""
    since: Mapped[int]
    """The oldest guideline under which a judgement of it counts."""
    state: Mapped[str]
    wanted: Mapped[int]
    taken: Mapped[int]
    """Places in somebody's hands or filled: never more than wanted."""
    done: Mapped[int]


class HandOut(Base):
    __tablename__ = "hand_outs"
    __table_args__ = (
        Index("ix_hand_outs_account_task", "account_id", "task_id"),
        Index("ix_hand_outs_account_state", "account_id", "state", "ordinal"),
        _partial("ix_hand_outs_live", "expires", where=LIVE),
    )

    ordinal: Mapped[int] = mapped_column(primary_key=True)
    token: Mapped[str] = mapped_column(unique=True)
    task_id: Mapped[int] = mapped_column(ForeignKey("tasks.id"), index=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    state: Mapped[str]
    """live, submitted, released, expired or recalled."""
    purpose: Mapped[str]
    takes_place: Mapped[bool]
    """False: gold, a repeat or a correction, which fill no place of the task."""
    display_order: Mapped[list[Any]]
    guideline_version: Mapped[int]
    issued: Mapped[float]
    expires: Mapped[float]
    submitted: Mapped[float | None]
    seconds: Mapped[float | None]
    corrects: Mapped[str | None] = mapped_column(index=True)
    """The token of the earlier hand-out whose result it is to replace."""
    result: Mapped[str | None]
    """The judgement (id) or demonstration (number) that it led to; None: neither."""


class Judgement(Base):
    __tablename__ = "judgements"
    __table_args__ = (Index("ix_judgements_purpose_round", "purpose", "round"),)

    ordinal: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(unique=True)
    task_id: Mapped[int | None] = mapped_column(ForeignKey("tasks.id"), index=True)
    prompt_id: Mapped[str] = mapped_column(ForeignKey("prompts.id"))
    responses: Mapped[list[Any]]
    handle: Mapped[str] = mapped_column(ForeignKey("annotators.handle"), index=True)
    purpose: Mapped[str]
    round: Mapped[int]
    objective: Mapped[str]
    said: Mapped[dict[str, Any]]
    """ranking, strength, flags, ratings, edited, display_order."""
    seconds: Mapped[float | None]
    guideline_version: Mapped[str]
    created: Mapped[str]
    supersedes: Mapped[str | None] = mapped_column(unique=True)


class Rationale(Base):
    __tablename__ = "rationales"

    judgement_id: Mapped[str] = mapped_column(ForeignKey("judgements.id"), primary_key=True)
    text: Mapped[str]


class Demonstration(Base):
    __tablename__ = "demonstrations"

    id: Mapped[int] = mapped_column(primary_key=True)
    prompt_id: Mapped[str] = mapped_column(ForeignKey("prompts.id"))
    text: Mapped[str]
    source: Mapped[str]
    handle: Mapped[str] = mapped_column(ForeignKey("annotators.handle"), index=True)
    task_id: Mapped[int | None] = mapped_column(ForeignKey("tasks.id"))
    judgement_id: Mapped[str | None]
    """Of an edited response: the judgement in which it was edited."""
    created: Mapped[str]
    supersedes: Mapped[int | None] = mapped_column(index=True)
    standing: Mapped[str] = mapped_column(index=True)


class Review(Base):
    __tablename__ = "reviews"

    id: Mapped[int] = mapped_column(primary_key=True)
    demonstration_id: Mapped[int] = mapped_column(ForeignKey("demonstrations.id"), index=True)
    handle: Mapped[str] = mapped_column(ForeignKey("annotators.handle"))
    verdict: Mapped[str]
    created: Mapped[str]


class Exclusion(Base):
    """An annotator whose work does not count, from when to when."""

    __tablename__ = "exclusions"

    id: Mapped[int] = mapped_column(primary_key=True)
    handle: Mapped[str] = mapped_column(ForeignKey("annotators.handle"), index=True)
    why: Mapped[str]
    created: Mapped[str]
    ended: Mapped[str | None]


class Audit(Base):
    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[str]
    account_id: Mapped[int | None]
    action: Mapped[str]
    details: Mapped[dict[str, Any]]
