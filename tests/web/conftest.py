"""A real server on a free port, a real browser where one is installed, and people who sign in."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from plaudit.feedback.web import Speaker
from web import project
from web.staging import Caller, Site, caller, sign_in, start

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


Serve = Callable[..., Site]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """`serve(open=, tasks=, speaker=, **settings)`: a project of its own, and its page."""
    sites: list[Site] = []

    def make(*, open: bool = True, tasks: int = 6, speaker: Speaker | None = None, **settings: Any) -> Site:
        folder = tmp_path / f"project{len(sites)}"
        folder.mkdir()
        site = start(project.desk_of(folder, tasks=tasks, **settings), open=open, speaker=speaker)
        sites.append(site)
        return site

    yield make
    for site in sites:
        site.stop()
        site.desk.store.close()


Call = Callable[..., Caller]


@pytest.fixture
def call() -> Iterator[Call]:
    """`call(site, name)`: without a browser, signed in where there is a name."""
    callers: list[Caller] = []

    def make(site: Site, name: str = "") -> Caller:
        callers.append(caller(site, name))
        return callers[-1]

    yield make
    for one in callers:
        one.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        one = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield one
        one.close()


Visit = Callable[..., Page]


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """`visit(site, path)`: a browser of its own. What it complains of, or what fails in it, fails the test."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def go(site: Site, path: str = "/rank", *, name: str = "", may_complain: bool = False, **options: object) -> Page:
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 800}} | options))  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        if not may_complain:
            page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
            page.on("pageerror", lambda error: complaints.append(str(error)))
        if name:
            sign_in(page, site, name)
        page.goto(site.url + path)
        return page

    yield go
    for context in contexts:
        context.close()
    assert complaints == []
