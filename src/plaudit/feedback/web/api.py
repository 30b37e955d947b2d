"""The same by JSON, for programs: /api/v1, with a bearer token per user."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, Request
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response, StreamingResponse

from plaudit.feedback.records import Answer, BadAnswer, HandOut, Role, TaskKind, TaskState, Verdict
from plaudit.feedback.web.administration import export_lines, invite_link
from plaudit.feedback.web.forms import asks_for_ends
from plaudit.feedback.web.room import Room, room_of
from plaudit.types import Demonstration, Flag, Judgement, QuestionForm

_SCHEME = HTTPBearer(auto_error=False, description="A token from the page of your account.")
router = APIRouter(prefix="/api/v1", dependencies=[Depends(_SCHEME)])


class ChatMessage(BaseModel):
    role: Literal["system", "user", "assistant"]
    content: str


class Task(BaseModel):
    """A task in your hands."""

    token: str = Field(description="Send the answer to it; twice the same token is one answer.")
    kind: TaskKind
    messages: list[ChatMessage]
    responses: list[str] = Field(description="In stored order, which answers speak of.")
    ask: QuestionForm = Field(description="Of responses to be ranked: all in order, or the best and the worst.")
    display_order: list[int] = Field(description="Position p shows responses[display_order[p]].")
    draft: str
    guideline_version: int
    expires: datetime
    sensitive: bool


class AnswerIn(BaseModel):
    """A ranking, a text or a verdict, as the kind of the task asks."""

    model_config = ConfigDict(extra="forbid")

    ranking: list[list[int]] = Field(default_factory=list[list[int]], description="Tie groups, best first.")
    unordered: list[int] = Field(
        default_factory=list[int],
        description="The group of the ranking that lies between the best and the worst, where no more was asked for.",
    )
    flags: list[Flag] = Field(default_factory=list[Flag])
    strength: float | None = None
    ratings: dict[str, list[float | None]] = Field(default_factory=dict[str, list[float | None]])
    rationale: str = Field(default="", max_length=100_000)
    edited: dict[int, str] = Field(default_factory=dict[int, str])
    text: str = Field(default="", max_length=100_000)
    verdict: Verdict | None = None
    seconds: float = Field(default=0.0, ge=0, le=86_400)


class Kept(BaseModel):
    judgement: str | None = Field(description="Its id, where the task was to rank.")


class ProgressOut(BaseModel):
    done: int
    mine_today: int
    left: int
    median_seconds: float | None
    quota: int | None
    finished: bool


class GuidelineOut(BaseModel):
    version: int
    text: str
    created: str


class Me(BaseModel):
    name: str
    handle: str
    role: Role
    qualified: bool


class InviteIn(BaseModel):
    role: Role = "annotator"


class InviteOut(BaseModel):
    link: str


class GuidelineIn(BaseModel):
    text: str = Field(min_length=1, max_length=100_000)
    recall: bool = False


def _task(hand_out: HandOut, room: Room) -> Task:
    return Task(
        token=hand_out.token,
        kind=hand_out.kind,
        messages=[ChatMessage(role=m.role, content=m.content) for m in hand_out.prompt.messages],
        responses=[response.text for response in hand_out.responses],
        ask="best_and_worst" if asks_for_ends(hand_out, room.settings()) else "ranking",
        display_order=list(hand_out.display_order),
        draft=hand_out.draft,
        guideline_version=hand_out.guideline.version,
        expires=hand_out.expires,
        sensitive=hand_out.sensitive,
    )


def _kept(done: Judgement | Demonstration | None) -> Kept:
    return Kept(judgement=done.id if isinstance(done, Judgement) else None)


# -- work --------------------------------------------------------------------------------------------------------------


@router.get("/me")
def me(request: Request) -> Me:
    account = room_of(request).bearer(request)
    return Me(name=account.name, handle=account.handle, role=account.role, qualified=account.qualified)


@router.post("/tasks/next", response_model=Task, responses={204: {"description": "There is nothing for you now."}})
def next_task(request: Request, kind: TaskKind | None = None) -> Any:
    """A task, leased to you; until it is answered the same one comes again."""
    room = room_of(request)
    account = room.bearer(request)
    hand_out = room.desk.next_task(account.id, None if kind is None else (kind,))
    return Response(status_code=204) if hand_out is None else _task(hand_out, room)


@router.get("/tasks/{token}")
def task(request: Request, token: str) -> Task:
    room = room_of(request)
    return _task(room.desk.hand_out(room.bearer(request).id, token), room)


@router.put("/tasks/{token}/answer")
def answer(request: Request, token: str, given: AnswerIn) -> Kept:
    """Answer a task of yours. To do it again changes nothing and gives the first result."""
    room = room_of(request)
    account = room.bearer(request)
    made = Answer(
        ranking=tuple(tuple(group) for group in given.ranking),
        unordered=tuple(given.unordered),
        flags=tuple(given.flags),
        strength=given.strength,
        ratings={aspect: tuple(values) for aspect, values in given.ratings.items()},
        rationale=given.rationale,
        edited=given.edited,
        text=given.text,
        verdict=given.verdict,
        seconds=given.seconds,
    )
    return _kept(room.desk.submit(account.id, token, made))


@router.post("/tasks/{token}/release", status_code=204)
def release(request: Request, token: str) -> Response:
    """Give a task back unanswered."""
    room = room_of(request)
    room.desk.release(room.bearer(request).id, token)
    return Response(status_code=204)


@router.post("/undo", response_model=Task, responses={204: {"description": "There is nothing to take back."}})
def undo(request: Request) -> Any:
    """Your newest answer again; answering supersedes it."""
    room = room_of(request)
    hand_out = room.desk.undo(room.bearer(request).id)
    return Response(status_code=204) if hand_out is None else _task(hand_out, room)


@router.get("/progress")
def progress(request: Request) -> ProgressOut:
    room = room_of(request)
    return ProgressOut(**dataclasses.asdict(room.desk.progress(room.bearer(request).id)))


@router.get("/guidelines")
def guidelines(request: Request) -> list[GuidelineOut]:
    room = room_of(request)
    room.bearer(request)
    return [GuidelineOut(version=g.version, text=g.text, created=g.created) for g in room.desk.guidelines()]


# -- administration ----------------------------------------------------------------------------------------------------


def _administrator(request: Request) -> tuple[Room, int]:
    room = room_of(request)
    return room, room.bearer(request, "administrator").id


@router.get("/admin/progress")
def all_progress(request: Request) -> dict[str, Any]:
    room, _ = _administrator(request)
    return dataclasses.asdict(room.desk.progress_all())


@router.get("/admin/figures")
def figures(request: Request) -> dict[str, Any]:
    """Agreement, biases and people, with 95 % intervals."""
    room, _ = _administrator(request)
    return dataclasses.asdict(room.desk.figures())


@router.get("/admin/tasks")
def tasks(
    request: Request, kind: TaskKind | None = None, state: TaskState | None = None, page: int = 0
) -> list[dict[str, Any]]:
    room, _ = _administrator(request)
    return [dataclasses.asdict(row) for row in room.desk.tasks(kind=kind, state=state, page=max(0, page))]


@router.get("/admin/settings")
def settings(request: Request) -> dict[str, Any]:
    room, _ = _administrator(request)
    return dataclasses.asdict(room.desk.settings())


@router.patch("/admin/settings")
def change_settings(request: Request, changes: Annotated[dict[str, Any], Body()]) -> dict[str, Any]:
    room, by = _administrator(request)
    known = dataclasses.asdict(room.desk.settings())
    if unknown := sorted(set(changes) - set(known)):
        raise BadAnswer(f"there is no setting {unknown[0]!r}; there are {', '.join(known)}")
    return dataclasses.asdict(room.change_settings(changes, by=by))


@router.post("/admin/guidelines", status_code=201)
def publish(request: Request, given: GuidelineIn) -> GuidelineOut:
    room, by = _administrator(request)
    made = room.desk.publish_guideline(given.text, recall=given.recall, by=by)
    return GuidelineOut(version=made.version, text=made.text, created=made.created)


@router.post("/admin/invites", status_code=201)
def invite(request: Request, given: InviteIn) -> InviteOut:
    room, by = _administrator(request)
    return InviteOut(link=invite_link(room, given.role, by=by))


@router.get("/admin/export/{what}")
def export(request: Request, what: Literal["judgements", "demonstrations"]) -> Response:
    """JSON lines."""
    room, by = _administrator(request)
    room.desk.record("exported", by=by, what=what)
    return StreamingResponse(export_lines(room, what), media_type="application/jsonl")


@router.get("/admin/audit")
def audit(request: Request, page: int = 0) -> list[dict[str, Any]]:
    room, _ = _administrator(request)
    return [dataclasses.asdict(row) for row in room.desk.audit(max(0, page))]
