"""From a run and an address to a running page."""

from __future__ import annotations

import gc
import ipaddress
import os
import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn

from plaudit.feedback.desk import Desk
from plaudit.feedback.web.administration import invite_link
from plaudit.feedback.web.app import create_app
from plaudit.feedback.web.room import Room
from plaudit.feedback.web.sessions import Auth
from plaudit.feedback.web.speaking import Speaker
from plaudit.types import InputError

SECRET = "label.secret"
LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """Where to listen, and where people find it."""

    host: str = "127.0.0.1"
    port: int = 8400
    url: str | None = None
    """As people reach it, where a proxy is in front."""

    def auth(self, secret: bytes) -> Auth:
        """No sign-in where nobody but this computer can come."""
        if self.url is not None:
            parts = urlsplit(self.url)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
                raise InputError(f"--url is {self.url!r}; it looks like https://label.example.org")
            hosts = frozenset({parts.hostname.lower(), *LOCAL})
            return Auth(secret=secret, open=False, url=self.url.rstrip("/"), hosts=hosts)
        name = f"[{self.host}]" if ":" in self.host else self.host
        local = self.host in LOCAL
        everywhere = _is_unspecified(self.host)
        shown = socket.gethostname() if everywhere else name
        return Auth(
            secret=secret,
            open=local,
            url=f"http://{shown}:{self.port}",
            hosts=frozenset(LOCAL) if local else frozenset({*LOCAL, self.host.lower(), *_names()}),
            addresses=everywhere,
        )


def _is_unspecified(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _names() -> set[str]:
    return {socket.gethostname().lower(), socket.getfqdn().lower()}


def secret_of(folder: Path) -> bytes:
    """What signs cookies and links; made once, and read by its owner alone."""
    path = folder / SECRET
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        secret = bytes.fromhex(path.read_text(encoding="ascii").strip())
        if len(secret) < 32:
            raise InputError(f"{path}: cut short; delete it, and everybody signs in again") from None
        return secret
    with os.fdopen(handle, "w", encoding="ascii") as file:
        made = secrets.token_bytes(32)
        file.write(made.hex() + "\n")
    return made


def collect_rarely() -> None:
    """A request, like the taking in of a run, leaves thousands of short-lived objects: they are counted, not traced."""
    gc.set_threshold(50_000, 20, 20)


def serve(
    desk: Desk,
    address: Address,
    *,
    secret: bytes,
    speaker: Speaker | None,
    open_browser: bool,
    say: Callable[[str], None],
) -> None:
    """The page, until it is stopped. InputError where the address is taken."""
    with closing(_listen(address)) as listener:
        auth = replace(address, port=listener.getsockname()[1]).auth(secret)
        app = create_app(desk, auth=auth, speaker=speaker)
        say(f"the page is at {auth.url} (Ctrl-C stops it)")
        if not auth.open:
            _say_about_entry(app.state.room, say)
        if open_browser:
            threading.Timer(0.5, webbrowser.open, [auth.url]).start()
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=75,  # somebody reads for a minute, and sends on the same line
            timeout_graceful_shutdown=5,
        )
        gc.collect()
        gc.freeze()  # what is there by now stays
        uvicorn.Server(config).run(sockets=[listener])


def _listen(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # with the protocol named, asyncio sends without delay: an answer in two pieces would wait 40 ms for its second
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address.host, address.port))
    except OSError as error:
        listener.close()
        reason = error.strerror or error
        raise InputError(f"{address.host}:{address.port}: {reason}; choose another with --port") from None
    listener.listen(128)
    return listener


def _say_about_entry(room: Room, say: Callable[[str], None]) -> None:
    if not room.auth.secure:
        say("note: this goes over plain HTTP, which others in the network can read; see docs/labelling.md for --url")
    desk = room.desk
    if not any(one.role == "administrator" and one.active and desk.password_hash(one.id) for one in desk.accounts()):
        link = invite_link(room, "administrator", by=None)
        say(f"nobody can administer it yet; whoever opens this link first does:\n{link}")
