"""The administrator's view: how the work goes, who does it, what is asked, and taking it home."""

from __future__ import annotations

import csv
import io
import json
import secrets
from collections.abc import Iterator
from datetime import timedelta
from typing import Literal, cast, get_args

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from plaudit.feedback.contests import scores
from plaudit.feedback.desk import now
from plaudit.feedback.records import Account, BadAnswer, NotYours, PersonFigures, Role, TaskKind, TaskState
from plaudit.feedback.web.room import Form, Room, field, room_of
from plaudit.feedback.web.sessions import INVITE_SECONDS, fingerprint
from plaudit.feedback.web.settings import CHOICES, LABELS, changes_of

router = APIRouter(include_in_schema=False, prefix="/admin")
ROLES: tuple[Role, ...] = get_args(Role)
PER_PAGE = 50


def _administrator(request: Request) -> tuple[Room, Account]:
    room = room_of(request)
    return room, room.person(request, "administrator")


@router.get("")
def overview(request: Request) -> Response:
    room, me = _administrator(request)
    return room.page(
        request,
        "admin/overview.html",
        me=me,
        figures=room.desk.figures(),
        progress=room.desk.progress_all(),
        contests=scores(room.desk),
    )


@router.get("/progress")
def progress_part(request: Request) -> Response:
    room, me = _administrator(request)
    return room.page(request, "admin/progress.html", me=me, progress=room.desk.progress_all())


# -- people ------------------------------------------------------------------------------------------------------------


@router.get("/people")
def people(request: Request) -> Response:
    return _people(request)


def _people(request: Request, *, link: str = "", link_for: str = "") -> Response:
    room, me = _administrator(request)
    figures = {person.annotator: person for person in room.desk.people()}
    accounts = room.desk.accounts()
    handles = {account.handle for account in accounts}
    return room.page(
        request,
        "admin/people.html",
        me=me,
        roles=ROLES,
        rows=[(account, figures.get(account.handle)) for account in accounts],
        others=[person for handle, person in figures.items() if handle not in handles],
        link=link,
        link_for=link_for,
    )


@router.get("/people.csv")
def people_table(request: Request) -> Response:
    """For pay: judgements and time per person."""
    room, _ = _administrator(request)
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(("annotator", "name", "judgements", "skipped", "median_seconds", "total_seconds", "excluded"))
    for one in room.desk.people():
        table.writerow(_pay_row(one))
    return Response(text.getvalue(), media_type="text/csv", headers=_as_file("people.csv"))


def _pay_row(one: PersonFigures) -> tuple[object, ...]:
    # a spreadsheet would take a name that begins so for a formula
    name = "'" + one.name if one.name[:1] in ("=", "+", "-", "@") else one.name
    return one.annotator, name, one.judgements, one.skipped, one.median_seconds, one.total_seconds, one.excluded


@router.post("/invites")
async def invite(request: Request, form: Form) -> Response:
    return await run_in_threadpool(_invite, request, field(form, "role", "annotator"))


def _invite(request: Request, role: str) -> Response:
    room, me = _administrator(request)
    return _people(request, link=invite_link(room, as_role(role), by=me.id), link_for=f"a new {role}")


def invite_link(room: Room, role: Role, *, by: int | None) -> str:
    """A link that makes one account, once."""
    nonce = secrets.token_urlsafe(18)
    room.desk.record_invite(nonce, role, now() + timedelta(seconds=INVITE_SECONDS), by=by)
    return f"{room.auth.url}/join/{room.signer.invite(nonce)}"


@router.post("/people/{id}")
async def change_person(request: Request, id: int, form: Form) -> Response:
    return await run_in_threadpool(_change_person, request, id, field(form, "action"), field(form, "value"))


def _change_person(request: Request, id: int, action: str, value: str) -> Response:
    room, me = _administrator(request)
    person = room.desk.account(id)
    if person is None:
        raise NotYours("there is no such account")
    if id == me.id and action != "reset":
        raise BadAnswer("nobody changes his own rights: another administrator can")
    link = ""
    match action:
        case "role":
            room.desk.set_role(id, as_role(value), by=me.id)
        case "active":
            room.desk.set_active(id, value == "yes", by=me.id)
        case "qualified":
            room.desk.set_qualified(id, value == "yes", by=me.id)
        case "erase":
            if value.strip() != person.name:
                raise BadAnswer("to erase somebody for good, type the name exactly")
            room.desk.erase_person(id, by=me.id)
        case "reset":
            link = f"{room.auth.url}/reset/{room.signer.reset(id, fingerprint(room.desk.password_hash(id)))}"
            room.desk.record("password link made", by=me.id, account=person.id)
        case _:
            raise BadAnswer(f"there is no such change as {action!r}")
    room.forget(id)
    if link:
        return _people(request, link=link, link_for=person.name)
    return room.go("/admin/people", said="Changed.")


@router.post("/annotators")
async def change_annotator(request: Request, form: Form) -> Response:
    return await run_in_threadpool(
        _change_annotator, request, field(form, "annotator"), field(form, "action"), field(form, "why").strip()
    )


def _change_annotator(request: Request, annotator: str, action: str, why: str) -> Response:
    room, me = _administrator(request)
    if action == "include":
        room.desk.include(annotator, by=me.id)
        return room.go("/admin/people", said="That work counts again.")
    if not why:
        raise BadAnswer("say why the work is left out")
    room.desk.exclude(annotator, why, by=me.id)
    return room.go("/admin/people", said="That work is left out; nothing of it is deleted.")


def as_role(role: str) -> Role:
    if role not in ROLES:
        raise BadAnswer(f"there is no role {role!r}")
    return role


# -- tasks, guidelines, settings ---------------------------------------------------------------------------------------


@router.get("/tasks")
def tasks(request: Request, kind: str = "", state: str = "", page: int = 0) -> Response:
    room, me = _administrator(request)
    kinds, states = get_args(TaskKind), get_args(TaskState)
    rows = room.desk.tasks(
        kind=cast(TaskKind, kind) if kind in kinds else None,
        state=cast(TaskState, state) if state in states else None,
        page=max(0, page),
        per_page=PER_PAGE,
    )
    return room.page(
        request,
        "admin/tasks.html",
        me=me,
        rows=rows,
        more=len(rows) == PER_PAGE,
        kinds=kinds,
        states=states,
        kind=kind,
        state=state,
        page=max(0, page),
    )


@router.get("/guidelines")
def guidelines(request: Request) -> Response:
    room, me = _administrator(request)
    versions = sorted(room.desk.guidelines(), key=lambda one: one.version, reverse=True)
    return room.page(request, "admin/guidelines.html", me=me, versions=versions)


@router.post("/guidelines")
async def publish(request: Request, form: Form) -> Response:
    return await run_in_threadpool(_publish, request, field(form, "text"), bool(field(form, "recall")))


def _publish(request: Request, text: str, recall: bool) -> Response:
    room, me = _administrator(request)
    if not text.strip():
        raise BadAnswer("the guidelines are empty")
    made = room.desk.publish_guideline(text.replace("\r\n", "\n").strip() + "\n", recall=recall, by=me.id)
    return room.go("/admin/guidelines", said=f"Version {made.version} is published.")


@router.get("/settings")
def settings(request: Request) -> Response:
    room, me = _administrator(request)
    return room.page(
        request, "admin/settings.html", me=me, settings=room.desk.settings(), labels=LABELS, choices=CHOICES
    )


@router.post("/settings")
async def change_settings(request: Request, form: Form) -> Response:
    return await run_in_threadpool(_change_settings, request, form)


def _change_settings(request: Request, form: Form) -> Response:
    room, me = _administrator(request)
    changes = changes_of(form, room.desk.settings())
    if changes:
        room.change_settings(changes, by=me.id)
    return room.go("/admin/settings", said="The settings are changed." if changes else "Nothing was changed.")


# -- taking it home ----------------------------------------------------------------------------------------------------


@router.get("/export")
def exports(request: Request) -> Response:
    room, me = _administrator(request)
    return room.page(request, "admin/export.html", me=me)


@router.get("/export/{what}.jsonl")
def export(request: Request, what: Literal["judgements", "demonstrations"]) -> Response:
    room, me = _administrator(request)
    room.desk.record("exported", by=me.id, what=what)
    return StreamingResponse(
        export_lines(room, what), media_type="application/jsonl", headers=_as_file(f"{what}.jsonl")
    )


def export_lines(room: Room, what: Literal["judgements", "demonstrations"]) -> Iterator[str]:
    return (json.dumps(row, ensure_ascii=False) + "\n" for row in room.desk.export(what))


@router.get("/audit")
def audit(request: Request, page: int = 0) -> Response:
    room, me = _administrator(request)
    names = {account.id: account.name for account in room.desk.accounts()}
    rows = room.desk.audit(max(0, page))
    return room.page(request, "admin/audit.html", me=me, rows=rows, names=names, page=max(0, page))


def _as_file(name: str) -> dict[str, str]:
    return {"content-disposition": f'attachment; filename="{name}"'}
