"""The application: its rooms, and what it says when something goes wrong."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, Response

from plaudit.feedback.desk import Desk
from plaudit.feedback.records import BadAnswer, LeaseLost, NotYours
from plaudit.feedback.store import StoreAway
from plaudit.feedback.web import administration, api, entry, work
from plaudit.feedback.web.guard import Guard
from plaudit.feedback.web.room import Forged, Room, SignInFirst, room_of
from plaudit.feedback.web.sessions import Auth, Signer
from plaudit.feedback.web.speaking import Speaker, SpeakerAway
from plaudit.feedback.web.static import send_file
from plaudit.types import PlauditError

LOG = logging.getLogger("plaudit.label")


def create_app(desk: Desk, *, auth: Auth, speaker: Speaker | None = None) -> FastAPI:
    """The label page. Without a `speaker` there is no live mode."""
    room = Room(desk, auth, speaker)

    @asynccontextmanager
    async def alive(_: FastAPI) -> AsyncGenerator[None]:
        yield
        if speaker is not None:
            speaker.close()

    app = FastAPI(
        title="Plaudit",
        summary="Ranking, writing and reviewing, as the page does it.",
        version="1",
        docs_url=None,  # it would load scripts from elsewhere
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
        lifespan=alive,
        middleware=[Middleware(Guard, auth=auth, signer=Signer(auth.secret), sorry=_sorry)],
    )
    app.state.room = room
    app.add_route(f"{room.static}/{{name}}", send_file)
    for module in (entry, administration, api, work):  # work has the paths that would fit all
        app.include_router(module.router)
    for kind in (SignInFirst, Forged, PlauditError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, _sorry)
    return app


def _status(error: Exception) -> tuple[int, str]:
    """The HTTP status of an error, and what the person is told."""
    match error:
        case SignInFirst():
            return 401, "Sign in first."
        case Forged():
            return 403, "This form is out of date. Load the page again, and send it once more."
        case NotYours():
            return 403, f"{error}"
        case LeaseLost():
            return 409, f"{error}"
        case BadAnswer():
            return 422, f"{error}"
        case SpeakerAway():
            return 503, f"{error}"
        case StoreAway():
            return 503, "Nothing was written down: the store takes nothing just now. Send it again in a minute."
        case PlauditError():
            return 400, f"{error}"
        case RequestValidationError():
            return 422, "; ".join(f"{'.'.join(map(str, e['loc'][1:]))}: {e['msg']}" for e in error.errors())
        case HTTPException():
            return error.status_code, "There is no such page." if error.status_code == 404 else str(error.detail)
        case _:
            return 500, "Something went wrong here, and has been written down. Your work is kept; try again."


def _sorry(request: Request, error: Exception) -> Response:
    status, words = _status(error)
    if status == 500:
        # the trace is for the log alone
        LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
    elif isinstance(error, StoreAway):
        # which database, and what is wrong with it, is for whoever runs the page
        LOG.error("%s %s: %s", request.method, request.url.path, error)
    if request.url.path.startswith("/api/"):
        return JSONResponse({"error": words}, status, {"www-authenticate": "Bearer"} if status == 401 else None)
    if "application/json" in request.headers.get("accept", ""):
        return JSONResponse({"error": words}, status)
    room = room_of(request)
    if status == 401 and request.method == "GET" and "hx-request" not in request.headers:
        return room.go("/sign-in", next=request.url.path)
    return room.page(request, "sorry.html", status=status, words=words, code=status)
