"""What every request passes: the name it was sent to, where it came from, its size; and the headers of every answer."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request, cookie_parser
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from plaudit.feedback.web.sessions import SESSION_SECONDS, Auth, Limiter, Session, Signer

Sorry = Callable[[Request, Exception], Response]
"""Makes the page of an error."""
SAFE = ("GET", "HEAD", "OPTIONS")
LARGEST_BODY = 2 << 20
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class Guard:
    """ASGI middleware. `scope["state"]["session"]` is what the cookie says; where a handler puts another there, the
    cookie becomes that."""

    def __init__(self, app: ASGIApp, auth: Auth, signer: Signer, sorry: Sorry) -> None:
        self.app, self.auth, self.signer, self.sorry = app, auth, signer, sorry
        self.limiter = Limiter(per_second=40, burst=240)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        static = scope["path"].startswith("/static/")
        cookie = cookie_parser(headers.get("cookie", "")).get(self.auth.cookie, "")
        known = self.signer.session(cookie) if cookie else None
        session = known or Session()
        scope.setdefault("state", {})["session"] = session

        begun = False

        async def send_guarded(message: Message) -> None:
            nonlocal begun
            begun = True
            if message["type"] == "http.response.start":
                self._dress(MutableHeaders(scope=message), scope, known, static=static)
            await send(message)

        refusal = self._refusal(scope, headers, session)
        try:
            await (self.app if refusal is None else refusal)(scope, receive, send_guarded)
        except Exception as error:
            if begun:
                raise
            # here rather than outside, so that this answer too has the headers
            await self.sorry(Request(scope), error)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope, headers: Headers, session: Session) -> PlainTextResponse | None:
        if not self._is_ours(headers.get("host", "")):
            return PlainTextResponse("this page does not go by that name\n", 421)
        if self.auth.open and ("x-forwarded-for" in headers or "forwarded" in headers):
            # everybody behind the proxy would be the administrator
            return PlainTextResponse("behind a proxy the page is started with --url\n", 403)
        if scope["method"] not in SAFE:
            if not self._is_from_here(headers):
                return PlainTextResponse("this was sent by another site\n", 403)
            length = headers.get("content-length", "0")
            if "transfer-encoding" in headers or not length.isdigit() or int(length) > LARGEST_BODY:
                return PlainTextResponse("that is too long\n", 413)
        if not self.limiter.spend(_who(scope, session)):
            return PlainTextResponse("too many requests; wait a moment\n", 429, {"retry-after": "2"})
        return None

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name.lower() in self.auth.hosts:
            return True
        if not self.auth.addresses:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _is_from_here(self, headers: Headers) -> bool:
        origin = headers.get("origin")
        if origin is not None:
            # the proxy may have ended TLS, so that the scheme is not compared
            ours = (headers.get("host", "").lower(), urlsplit(self.auth.url).netloc.lower())
            return urlsplit(origin).netloc.lower() in ours
        return headers.get("sec-fetch-site", "none") in ("same-origin", "none")

    def _dress(self, headers: MutableHeaders, scope: Scope, known: Session | None, *, static: bool) -> None:
        headers.update(HEADERS)
        if self.auth.secure:
            headers["strict-transport-security"] = "max-age=31536000"
        if static:
            headers["cache-control"] = "public, max-age=31536000, immutable"
            return
        headers["cache-control"] = "no-store"
        session: Session = scope["state"]["session"]
        if session is not known and not scope["path"].startswith("/api/"):
            secure = "; Secure" if self.auth.secure else ""
            headers.append(
                "set-cookie",
                f"{self.auth.cookie}={self.signer.cookie(session)}; Path=/; HttpOnly; SameSite=Lax; "
                f"Max-Age={SESSION_SECONDS}{secure}",
            )


def _who(scope: Scope, session: Session) -> str:
    """Whose requests are counted together. A token is not yet known to be one, so that its address counts."""
    if session.account is not None:
        return f"account {session.account}"
    client = scope.get("client")
    return f"address {client[0] if client else ''}"
