"""The work of an annotator: a task is shown, an answer comes back."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, JSONResponse, Response

from plaudit.data.conversation import clean_text, prompt_of
from plaudit.feedback.records import Account, BadAnswer, HandOut, Progress
from plaudit.feedback.web.forms import FLAGS, RATINGS, STRENGTHS, Said, answer_of, asks_for_ends, said_before
from plaudit.feedback.web.room import KINDS, PLACES, Form, Room, field, room_of
from plaudit.types import MOST_RANKED, Demonstration, Message

router = APIRouter(include_in_schema=False)
LONGEST_PROMPT = 20_000


@router.get("/")
def start(request: Request) -> Response:
    room = room_of(request)
    room.person(request)
    return room.go("/rank")


@router.get("/guidelines")
def guidelines(request: Request) -> Response:
    room = room_of(request)
    me = room.person(request)
    versions = sorted(room.desk.guidelines(), key=lambda one: one.version, reverse=True)
    return room.page(request, "guidelines.html", me=me, versions=versions)


@router.get("/guidelines/now")
def guide(request: Request) -> Response:
    """The newest alone, for the window beside the work."""
    room = room_of(request)
    room.person(request)
    return room.page(request, "guide.html", guideline=room.desk.guideline())


@router.get("/live")
def live(request: Request) -> Response:
    room = room_of(request)
    me = room.person(request)
    if room.speaker is None:
        return room.page(request, "sorry.html", status=404, words="The page was started without --live.", code=404)
    waiting = room.desk.next_task(me.id, ("live",))
    if waiting is not None:
        return show(request, room, me, waiting)
    return room.page(request, "live.html", me=me, place="live", progress=room.desk.progress(me.id), most=MOST_RANKED)


@router.post("/live")
async def ask(request: Request, form: Form) -> Response:
    room = room_of(request)
    return await run_in_threadpool(_ask, request, room, field(form, "prompt"), field(form, "count", "4"))


def _ask(request: Request, room: Room, text: str, count: str) -> Response:
    me = room.person(request)
    if room.speaker is None:
        raise BadAnswer("the page was started without --live")
    if not text.strip() or len(text) > LONGEST_PROMPT:
        raise BadAnswer(f"a prompt has between 1 and {LONGEST_PROMPT} characters")
    if count not in [str(i) for i in range(2, MOST_RANKED + 1)]:
        raise BadAnswer(f"between 2 and {MOST_RANKED} answers can be ranked")
    prompt = prompt_of([Message(role="user", content=clean_text(text.replace("\r\n", "\n").strip()))])
    responses = room.speaker.answers(prompt.messages, int(count))
    room.desk.propose(me.id, prompt, responses)
    return room.go("/live")


@router.get("/hand-out/{token}")
def again(request: Request, token: str) -> Response:
    room = room_of(request)
    me = room.person(request)
    return show(request, room, me, room.desk.hand_out(me.id, token))


@router.post("/hand-out/{token}")
async def submit(request: Request, token: str, form: Form) -> Response:
    """Twice the same token is one judgement, whatever the second one holds."""
    return await run_in_threadpool(_submit, request, token, form)


def _submit(request: Request, token: str, form: Form) -> Response:
    room = room_of(request)
    me = room.person(request)
    hand_out = room.hand_out(me.id, token)
    try:
        done = room.desk.submit(me.id, token, answer_of(form, hand_out, room.settings()))
    except BadAnswer as flaw:
        if wants_json(request):
            raise
        return show(request, room, me, hand_out, status=422, flaw=str(flaw))
    if wants_json(request):
        kept = None if done is None or isinstance(done, Demonstration) else done.id
        return JSONResponse({"kept": kept, "progress": progress_of(room.desk.progress(me.id))})
    return room.go(f"/{PLACES[hand_out.kind]}")


@router.post("/undo")
async def undo(request: Request, form: Form) -> Response:
    return await run_in_threadpool(_undo, request)


def _undo(request: Request) -> Response:
    room = room_of(request)
    me = room.person(request)
    hand_out = room.desk.undo(me.id)
    if hand_out is None:
        if wants_json(request):
            return JSONResponse({"token": None})
        return room.go("/rank", said="There is nothing to take back.")
    if wants_json(request):
        return JSONResponse({"token": hand_out.token})
    return room.go(f"/hand-out/{hand_out.token}")


@router.get("/{place}/next")
def next_part(request: Request, place: str, after: str = "") -> Response:
    """The next task alone, without the page around it; with `after`, the one that comes after that hand-out."""
    room = room_of(request)
    me = room.person(request)
    if place not in KINDS:
        return room.page(request, "sorry.html", status=404, words="There is no such page.", code=404)
    if after:
        hand_out = room.desk.prefetch(me.id, after)
        if hand_out is None or PLACES[hand_out.kind] != place:
            return Response(status_code=204)
    else:
        hand_out = room.desk.next_task(me.id, (KINDS[place],))
    return show(request, room, me, hand_out, part=True, place=place)


@router.get("/{place}")
def work(request: Request, place: str) -> Response:
    room = room_of(request)
    me = room.person(request)
    if place not in KINDS:
        return room.page(request, "sorry.html", status=404, words="There is no such page.", code=404)
    return show(request, room, me, room.desk.next_task(me.id, (KINDS[place],)), place=place)


def show(
    request: Request,
    room: Room,
    me: Account,
    hand_out: HandOut | None,
    *,
    part: bool = False,
    place: str = "rank",
    status: int = 200,
    flaw: str = "",
) -> HTMLResponse:
    """The page of a task, or why there is none."""
    context: dict[str, Any] = {"me": me, "flaw": flaw, "hand_out": hand_out}
    if hand_out is None or not part:
        context["progress"] = room.desk.progress(me.id)
    if hand_out is None:
        reason = room.desk.pause_reason(me.id)
        context |= {"place": place, "reason": reason, "task": "pause.html"}
    else:
        room.remember(me.id, hand_out)
        context |= {
            "place": PLACES[hand_out.kind],
            "said": said_before(hand_out),
            "settings": room.settings(),
            "ends": asks_for_ends(hand_out, room.settings()),
            "flags": FLAGS,
            "strengths": STRENGTHS,
            "scale": RATINGS,
            "task": {"demonstration": "writing.html", "review": "review.html"}.get(hand_out.kind, "ranking.html"),
        }
    context.setdefault("said", Said())
    return room.page(request, context["task"] if part else "work.html", status=status, **context)


def progress_of(progress: Progress) -> dict[str, Any]:
    return {
        "done": progress.done,
        "mine_today": progress.mine_today,
        "left": progress.left,
        "median_seconds": progress.median_seconds,
        "quota": progress.quota,
        "finished": progress.finished,
    }


def wants_json(request: Request) -> bool:
    return "application/json" in request.headers.get("accept", "")
