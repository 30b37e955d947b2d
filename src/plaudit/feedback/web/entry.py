"""Coming in and going out: sign-in, invites, and one's own account."""

from __future__ import annotations

import unicodedata
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse, Response

from plaudit.feedback.records import NotYours
from plaudit.feedback.web.room import Form, Room, field, room_of
from plaudit.feedback.web.sessions import (
    Session,
    digest,
    fingerprint,
    hash_password,
    new_token,
    password_fits,
    password_flaw,
)

router = APIRouter(include_in_schema=False)
LONGEST_NAME = 60
LOCAL = "local"
"""The account of whoever sits at the computer, where no sign-in is needed."""
WRONG = "That name and password do not go together."
OLD_LINK = "This link has been used, or is too old. Ask for a new one."


@router.get("/healthz")
async def healthy() -> Response:
    return PlainTextResponse("ok\n")


@router.get("/sign-in")
def sign_in_page(request: Request, next: str = "/") -> Response:
    room = room_of(request)
    if room.visitor(request) is not None:
        return room.go(inside(next))
    return room.page(request, "sign_in.html", next=inside(next), flaw="", name="")


@router.post("/sign-in")
async def sign_in(request: Request, form: Form) -> Response:
    return await run_in_threadpool(_sign_in, request, form)


def _sign_in(request: Request, form: Form) -> Response:
    room = room_of(request)
    name, onward = field(form, "name").strip()[:LONGEST_NAME], inside(field(form, "next", "/"))
    limits = [
        (room.failures, f"name {name.casefold()}"),
        (room.failures_from, f"address {request.client.host if request.client else ''}"),
    ]

    def sorry(flaw: str, status: int) -> Response:
        return room.page(request, "sign_in.html", status=status, flaw=flaw, name=name, next=onward)

    if any(limiter.left(key) < 1 for limiter, key in limits):
        return sorry("Too many tries. Wait a few minutes.", 429)
    account = room.desk.account_named(name)
    hashed = None if account is None else room.desk.password_hash(account.id)
    fits = password_fits(field(form, "password"), hashed)
    if account is None or not fits or not account.active:
        for limiter, key in limits:
            limiter.spend(key)
        return sorry(WRONG, 403)
    _begin(request, room, account.id, hashed)
    room.desk.record("signed in", by=account.id)
    return room.go(onward)


@router.post("/sign-out")
async def sign_out(request: Request, form: Form) -> Response:
    request.state.session = Session()
    return room_of(request).go("/sign-in")


@router.get("/join/{invite}")
def join_page(request: Request, invite: str) -> Response:
    room = room_of(request)
    if room.signer.invited(invite) is None:
        raise NotYours(OLD_LINK)
    return room.page(request, "join.html", flaw="", name="", resets=False)


@router.post("/join/{invite}")
async def join(request: Request, invite: str, form: Form) -> Response:
    return await run_in_threadpool(_join, request, invite, form)


def _join(request: Request, invite: str, form: Form) -> Response:
    room = room_of(request)
    nonce = room.signer.invited(invite)
    if nonce is None:
        raise NotYours(OLD_LINK)
    name, password = field(form, "name").strip(), field(form, "password")
    flaw = name_flaw(name) or password_flaw(password, name)
    if flaw is None and room.desk.account_named(name) is not None:
        flaw = "Somebody goes by that name already."
    if flaw is not None:
        return room.page(request, "join.html", status=422, flaw=flaw, name=name, resets=False)
    hashed = hash_password(password)
    role = room.desk.use_invite(nonce)  # from here on the link is spent
    account = room.desk.add_account(name, role, hashed)
    _begin(request, room, account.id, hashed)
    return room.go("/guidelines")


@router.get("/reset/{link}")
def reset_page(request: Request, link: str) -> Response:
    room = room_of(request)
    _, name = _to_reset(room, link)
    return room.page(request, "join.html", flaw="", name=name, resets=True)


@router.post("/reset/{link}")
async def reset(request: Request, link: str, form: Form) -> Response:
    return await run_in_threadpool(_reset, request, link, form)


def _reset(request: Request, link: str, form: Form) -> Response:
    room = room_of(request)
    id, name = _to_reset(room, link)
    password = field(form, "password")
    if (flaw := password_flaw(password, name)) is not None:
        return room.page(request, "join.html", status=422, flaw=flaw, name=name, resets=True)
    _set_password(request, room, id, password)
    return room.go("/")


def _to_reset(room: Room, link: str) -> tuple[int, str]:
    found = room.signer.to_reset(link)
    account = None if found is None else room.desk.account(found[0])
    if found is None or account is None or fingerprint(room.desk.password_hash(account.id)) != found[1]:
        raise NotYours(OLD_LINK)
    return account.id, account.name


@router.get("/account")
def account_page(request: Request) -> Response:
    return _account(request, flaw="", made="")


def _account(request: Request, *, flaw: str, made: str, status: int = 200) -> Response:
    room = room_of(request)
    me = room.person(request)
    tokens = room.desk.api_tokens(me.id)
    progress = room.desk.progress(me.id)
    return room.page(
        request, "account.html", me=me, flaw=flaw, made=made, tokens=tokens, progress=progress, status=status
    )


@router.post("/account/password")
async def change_password(request: Request, form: Form) -> Response:
    return await run_in_threadpool(_change_password, request, form)


def _change_password(request: Request, form: Form) -> Response:
    room = room_of(request)
    me = room.person(request)
    if room.failures.left(f"name {me.name.casefold()}") < 1:
        return _account(request, flaw="Too many tries. Wait a few minutes.", made="", status=429)
    if not password_fits(field(form, "old"), room.desk.password_hash(me.id)):
        room.failures.spend(f"name {me.name.casefold()}")
        return _account(request, flaw="The present password is not that.", made="", status=403)
    password = field(form, "password")
    if (flaw := password_flaw(password, me.name)) is not None:
        return _account(request, flaw=flaw, made="", status=422)
    _set_password(request, room, me.id, password)
    return room.go("/account", said="Your password is changed; other browsers are signed out.")


@router.post("/account/tokens")
async def make_token(request: Request, form: Form) -> Response:
    return await run_in_threadpool(_make_token, request, form)


def _make_token(request: Request, form: Form) -> Response:
    room = room_of(request)
    me = room.person(request)
    token = new_token()
    room.desk.add_api_token(me.id, digest(token), field(form, "label").strip()[:60] or "token")
    return _account(request, flaw="", made=token)


@router.post("/account/tokens/revoke")
async def revoke_token(request: Request, form: Form) -> Response:
    return await run_in_threadpool(_revoke_token, request, form)


def _revoke_token(request: Request, form: Form) -> Response:
    room = room_of(request)
    me = room.person(request)
    wanted = field(form, "digest")
    if wanted not in [one[0] for one in room.desk.api_tokens(me.id)]:
        raise NotYours("that token is not yours")
    room.desk.revoke_api_token(wanted, by=me.id)
    return room.go("/account", said="The token is revoked.")


def _begin(request: Request, room: Room, id: int, hashed: str | None) -> None:
    room.forget(id)
    request.state.session = Session(account=id, fingerprint=fingerprint(hashed))


def _set_password(request: Request, room: Room, id: int, password: str) -> None:
    hashed = hash_password(password)
    room.desk.set_password_hash(id, hashed, by=id)
    _begin(request, room, id, hashed)


def name_flaw(name: str) -> str | None:
    if not 1 <= len(name) <= LONGEST_NAME:
        return f"A name has between 1 and {LONGEST_NAME} characters."
    if name.casefold() == LOCAL:
        return "That name is the page's own."
    if any(unicodedata.category(sign)[0] == "C" or unicodedata.category(sign) in ("Zl", "Zp") for sign in name):
        return "A name has no signs that cannot be seen."
    return None


def inside(path: str) -> str:
    """The path where it is one of ours, else the start: nobody is led elsewhere by signing in."""
    parts = urlsplit(path)
    ours = path.startswith("/") and not path.startswith(("//", "/\\")) and not parts.scheme and not parts.netloc
    return path if ours and path.isprintable() else "/"
