"""What the handlers share: the desk, who is asking, and how a page is made."""

from __future__ import annotations

import hmac
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, cast
from urllib.parse import urlencode

from fastapi import Depends, Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.datastructures import FormData
from starlette.responses import HTMLResponse, RedirectResponse, Response

from plaudit.feedback.desk import Desk
from plaudit.feedback.records import Account, HandOut, NotYours, Role, Settings, TaskKind
from plaudit.feedback.web.sessions import Auth, Known, Limiter, Session, Signer, digest, fingerprint
from plaudit.feedback.web.speaking import Speaker
from plaudit.feedback.web.static import VERSION
from plaudit.feedback.web.text import brief, revealed, styled
from plaudit.feedback.words import nobody_may_decide

TEMPLATES = Path(__file__).parent / "templates"
KINDS: Mapping[str, TaskKind] = {
    "rank": "ranking",
    "compare": "contest",
    "write": "demonstration",
    "review": "review",
    "live": "live",
}
"""The first part of a page's address, and the kind of work done there."""
PLACES: Mapping[TaskKind, str] = {kind: place for place, kind in KINDS.items()}
REMEMBERED = 5.0
"""Seconds for which an account, or the settings, are not looked up again."""
HAND_OUTS = 256
"""Tasks kept at hand until they are answered."""


class SignInFirst(Exception):
    """Nobody is signed in."""


class Forged(Exception):
    """A form that this page did not make."""


class Room:
    def __init__(self, desk: Desk, auth: Auth, speaker: Speaker | None) -> None:
        self.desk, self.auth, self.speaker = desk, auth, speaker
        self.signer = Signer(auth.secret)
        self.failures = Limiter(per_second=10 / 300, burst=10)
        """Of signing in, per name."""
        self.failures_from = Limiter(per_second=50 / 300, burst=50)
        """The same per address, behind which a whole office may sit."""
        self.static = f"/static/{VERSION}"
        self._known: dict[int, Known] = {}
        self._settings: tuple[float, Settings] | None = None
        self._shown: OrderedDict[tuple[int, str], HandOut] = OrderedDict()
        self._lock = threading.Lock()
        self._pages = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=StrictUndefined,
        )
        self._pages.globals.update(static=self.static, has_speaker=speaker is not None, is_open=auth.open)  # pyright: ignore[reportCallIssue, reportArgumentType]
        self._pages.filters |= {
            "styled": styled,
            "revealed": revealed,
            "brief": brief,
            "when": when,
            "duration": duration,
            "percent": percent,
            "nobody_may_decide": nobody_may_decide,
        }

    # -- who is asking --------------------------------------------------------------------------------------------

    def known(self, id: int) -> Known | None:
        found = self._known.get(id)
        if found is None or found.until < time.monotonic():
            account = self.desk.account(id)
            if account is None:
                return None
            found = Known(account, fingerprint(self.desk.password_hash(id)), time.monotonic() + REMEMBERED)
            self._known[id] = found
        return found

    def forget(self, id: int) -> None:
        """Look the account up again: its role, password or standing was changed."""
        self._known.pop(id, None)

    def visitor(self, request: Request) -> Account | None:
        if self.auth.open:
            with self._lock:
                # two first requests at once would make two of them
                return self.desk.local_account()
        session: Session = request.state.session
        known = None if session.account is None else self.known(session.account)
        if known is None or not known.account.active or known.fingerprint != session.fingerprint:
            return None
        return known.account

    def person(self, request: Request, *roles: Role) -> Account:
        """Who is signed in; with `roles`, one of these."""
        account = self.visitor(request)
        if account is None:
            raise SignInFirst
        return _with_role(account, roles)

    def bearer(self, request: Request, *roles: Role) -> Account:
        """Whose token it is; where no sign-in is needed, whoever sits here."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token:
            account = self.desk.account_of_token(digest(token.strip()))
        else:
            account = self.visitor(request) if self.auth.open else None
        if account is None or not account.active:
            raise SignInFirst
        return _with_role(account, roles)

    # -- what is asked for again and again ----------------------------------------------------------------------

    def settings(self) -> Settings:
        """Those of a moment ago."""
        if self._settings is None or self._settings[0] < time.monotonic():
            self._settings = (time.monotonic() + REMEMBERED, self.desk.settings())
        return self._settings[1]

    def change_settings(self, changes: Mapping[str, object], *, by: int) -> Settings:
        self.desk.change_settings(changes, by=by)
        self._settings = None
        return self.settings()

    def hand_out(self, account: int, token: str) -> HandOut:
        """As it was shown; whether it still stands is for the desk to say when the answer comes."""
        found = self._shown.get((account, token))
        return self.desk.hand_out(account, token) if found is None else found

    def remember(self, account: int, hand_out: HandOut) -> None:
        with self._lock:
            self._shown[account, hand_out.token] = hand_out
            if len(self._shown) > HAND_OUTS:
                self._shown.popitem(last=False)

    # -- pages ------------------------------------------------------------------------------------------------------

    def csrf(self, request: Request) -> str:
        return self.signer.csrf(request.state.session)

    def page(self, request: Request, template: str, /, *, status: int = 200, **context: Any) -> HTMLResponse:
        """A whole page, or where htmx or our own script asks for it, the part that changes."""
        context.setdefault("me", None)
        context |= {"csrf": self.csrf(request), "path": request.url.path, "notice": request.query_params.get("said")}
        return HTMLResponse(self._pages.get_template(template).render(context), status)

    def path(self, path: str, **query: str) -> str:
        return f"{path}?{urlencode(query)}" if query else path

    def go(self, path: str, **query: str) -> Response:
        return RedirectResponse(self.path(path, **query), 303)


def _with_role(account: Account, roles: tuple[Role, ...]) -> Account:
    if roles and account.role not in roles:
        raise NotYours(f"this is for {' and '.join(f'{role}s' for role in roles)} only")
    return account


def room_of(request: Request) -> Room:
    return cast(Room, request.app.state.room)


async def read_form(request: Request) -> FormData:
    """The form, once it is sure that a page of ours made it."""
    form = await request.form(max_files=0, max_fields=400)
    room = room_of(request)
    given = request.headers.get("x-csrf-token") or form.get("csrf")
    if not isinstance(given, str) or not _equal(given, room.csrf(request)):
        raise Forged
    return form


def _equal(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())


Form = Annotated[FormData, Depends(read_form)]


def field(form: FormData, name: str, default: str = "") -> str:
    value = form.get(name, default)
    return value if isinstance(value, str) else default


# -- words for figures ------------------------------------------------------------------------------------------------


def when(value: str | datetime) -> str:
    """A moment, in UTC, to the minute."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return str(value)
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"
