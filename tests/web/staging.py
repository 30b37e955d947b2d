"""The page as a server of its own, people with accounts, and callers without a browser."""

from __future__ import annotations

import re
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import uvicorn
from playwright.sync_api import Page

from plaudit.feedback.desk import Desk
from plaudit.feedback.records import Role
from plaudit.feedback.store import Store
from plaudit.feedback.web import Auth, Speaker, create_app
from plaudit.feedback.web.sessions import hash_password

PASSWORD = "seven green kites"
HASHED = hash_password(PASSWORD)
"""Once, since it is slow on purpose."""
SECRET = bytes(range(32))


@dataclass
class Site:
    """A page that runs, and the desk behind it."""

    desk: Desk
    url: str
    server: uvicorn.Server
    thread: threading.Thread

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(timeout=20)


def auth_of(port: int, *, open: bool) -> Auth:
    return Auth(secret=SECRET, open=open, url=f"http://127.0.0.1:{port}", hosts=frozenset({"127.0.0.1", "localhost"}))


def start(desk: Desk, *, open: bool, speaker: Speaker | None = None, port: int = 0) -> Site:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(128)  # whoever is sooner than the server waits, and is not refused
    port = listener.getsockname()[1]
    app = create_app(desk, auth=auth_of(port, open=open), speaker=speaker)
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{port}"
    httpx.get(f"{url}/healthz", timeout=20)
    return Site(desk, url, server, thread)


def sign_in(page: Page, site: Site, name: str) -> None:
    page.goto(f"{site.url}/sign-in")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(re.compile(r"/(rank|guidelines)"))


def join(desk: Desk, name: str, role: Role = "annotator") -> int:
    return desk.add_account(name, role, HASHED).id


class Caller(httpx.Client):
    """A browser without scripts: keeps cookies, and sends the token of the last page it saw."""

    def form(self, path: str, data: dict[str, object] | None = None, *, of: str = "/guidelines") -> httpx.Response:
        page = self.get(of, follow_redirects=True)
        token = re.search(r'data-csrf="([0-9a-f]+)"', page.text)
        assert token is not None
        return self.post(path, data={"csrf": token[1], **(data or {})})


def caller(site: Site, name: str = "") -> Caller:
    one = Caller(base_url=site.url, timeout=30)
    if name:
        answer = one.form("/sign-in", {"name": name, "password": PASSWORD}, of="/sign-in")
        assert answer.status_code == 303, answer.text
    return one


def reopened(desk: Desk) -> Desk:
    """The same project through a store of its own."""
    return Desk(Store.open(desk.store.name))


@contextmanager
def locked(database: str) -> Iterator[None]:
    """Another process writes into the SQLite file, and does not end."""
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.close()
