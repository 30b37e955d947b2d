"""axe finds nothing on any page, at either width, light or dark; and a page is small."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page

from plaudit.feedback.desk import now
from plaudit.feedback.records import Answer
from plaudit.feedback.web import Speaker
from plaudit.feedback.web.sessions import Signer
from plaudit.feedback.web.static import FILES
from web import project
from web.conftest import Serve, Visit
from web.staging import SECRET, Site, join

AXE = (Path(__file__).parent / "axe" / "axe.min.js").read_text(encoding="utf-8")
PAGES = [
    "/rank",
    "/compare",
    "/write",
    "/review",
    "/live",
    "/guidelines",
    "/account",
    "/nothing-here",
    "/admin",
    "/admin/people",
    "/admin/tasks",
    "/admin/guidelines",
    "/admin/settings",
    "/admin/export",
    "/admin/audit",
]
PHONE = {"width": 390, "height": 844}


def flaws(page: Page) -> list[str]:
    # not by a script tag, which the page's policy would refuse
    page.evaluate(AXE)
    found: dict[str, Any] = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{page.url} {one['id']} ({one['impact']}): {one['help']}: {[node['html'][:160] for node in one['nodes']]}"
        for one in found["violations"]
    ]


@pytest.fixture
def busy(serve: Serve) -> Site:
    """With something on every page."""
    site = serve(
        tasks=6, speaker=Speaker("nothing"), aspects=["helpful"], ask_strength=True, ask_rationale=True, overlap=2
    )
    desk = site.desk
    desk.add_demonstration_tasks([(project.asked("Explain rainbows."), ""), (project.asked("Name a river."), "Rhine.")])
    (prompt, responses), *_ = project.questions(2)
    desk.add_tasks("contest", [(prompt, responses[:2])])
    desk.add_tasks("ranking", [(project.asked("Hello", "Hi!", "How are you?"), responses)], sensitive=True)
    ids = [join(desk, name) for name in ("Ann", "Ben")]
    for id in ids:
        for _ in range(3):
            work = desk.next_task(id, ("ranking",))
            assert work is not None
            desk.submit(id, work.token, Answer(ranking=((0,), (1, 2), (3,)), seconds=20.0))
    work = desk.next_task(ids[0], ("demonstration",))
    assert work is not None
    desk.submit(ids[0], work.token, Answer(text="Light is **bent** in drops of rain.", seconds=80.0))
    desk.add_api_token(desk.local_account().id, "digest", "a script")
    return site


@pytest.mark.parametrize("look", ["laptop, light", "laptop, dark", "phone, light"])
def test_axe_finds_nothing(busy: Site, visit: Visit, look: str) -> None:
    options: dict[str, object] = {"color_scheme": look.split(", ")[1]}
    if "phone" in look:
        options["viewport"] = PHONE
    page = visit(busy, "/guidelines", may_complain=True, **options)
    found: list[str] = []
    for path in PAGES:
        page.goto(busy.url + path)
        page.evaluate("document.querySelectorAll('main details').forEach(one => { one.open = true; })")
        found += flaws(page)
        # nothing sticks out, so that nobody scrolls sideways
        if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
            found.append(f"{path} is too wide")
    page.goto(f"{busy.url}/rank")
    page.keyboard.press("1")
    found += flaws(page)
    page.keyboard.press("?")
    found += flaws(page)
    assert found == []


def test_axe_finds_nothing_where_one_enters(serve: Serve, visit: Visit) -> None:
    site = serve(open=False)
    site.desk.record_invite("n", "annotator", now() + timedelta(hours=1))
    found: list[str] = []
    for path in ("/sign-in", f"/join/{Signer(SECRET).invite('n')}"):
        found += flaws(visit(site, path))
    assert found == []


def test_targets_are_large_enough(busy: Site, visit: Visit) -> None:
    """WCAG 2.5.8: 24 by 24; what one aims at all day is larger."""
    page = visit(busy, "/rank", viewport=PHONE)
    sizes = page.evaluate(
        "[...document.querySelectorAll('button, .ranks label, .toggle, select, .edit summary, nav a')]"
        ".filter(e => e.checkVisibility()).map(e => [e.textContent.trim(), e.getBoundingClientRect().width,"
        " e.getBoundingClientRect().height])"
    )
    assert len(sizes) > 20
    assert [one for one in sizes if min(one[1:]) < 24] == []


def test_the_first_page_is_small(busy: Site) -> None:
    """The page and every file it may load, as they are sent, stay far below 100 KB."""
    sent = 0
    with httpx.Client(base_url=busy.url) as client:
        html = client.get("/rank").text
        sent += len(html)
        for name in FILES:
            with client.stream("GET", html.split('href="')[1].split('"')[0].rpartition("/")[0] + f"/{name}") as answer:
                sent += sum(map(len, answer.iter_raw()))
    assert 20_000 < sent < 60_000


def test_nothing_is_loaded_from_elsewhere(busy: Site, visit: Visit) -> None:
    page = visit(busy, "/guidelines")
    asked: list[str] = []
    page.context.on("request", lambda request: asked.append(request.url))
    for path in PAGES[:8]:
        if path != "/nothing-here":
            page.goto(busy.url + path)
    assert asked
    assert [url for url in asked if not url.startswith(busy.url)] == []


def test_the_openapi_description_is_whole(busy: Site) -> None:
    with httpx.Client(base_url=busy.url) as client:
        described = json.loads(client.get("/api/v1/openapi.json").text)
    assert all(path.startswith("/api/v1/") for path in described["paths"])
    assert "/api/v1/tasks/{token}/answer" in described["paths"]
