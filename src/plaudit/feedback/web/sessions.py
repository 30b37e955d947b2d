"""Who is at the other end: signed cookies, passwords, invites, tokens, and how often one may try."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from itsdangerous import BadData, URLSafeTimedSerializer

from plaudit.feedback.records import Account

SESSION_SECONDS = 7 * 24 * 3600
INVITE_SECONDS = 7 * 24 * 3600
SHORTEST_PASSWORD, LONGEST_PASSWORD = 10, 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Auth:
    """Who may enter. `open`: this computer alone is served, and who sits there is the administrator."""

    secret: bytes
    """Signs cookies and links; whoever has it can be anybody."""
    open: bool
    url: str
    """Where the page is, as people reach it: the links that are given away begin with it."""
    hosts: frozenset[str]
    """The names the page goes by. A request for another name is refused: a stranger's name may point here."""
    addresses: bool = False
    """Whether any IP address will do as the name."""

    @property
    def secure(self) -> bool:
        return urlsplit(self.url).scheme == "https"

    @property
    def cookie(self) -> str:
        return "__Host-plaudit" if self.secure else "plaudit"


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """What the cookie says: somebody, and once signed in, who."""

    nonce: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    account: int | None = None
    fingerprint: str = ""
    """Of the password at that time: changing it ends every session that it began."""


class Signer:
    """Everything that is signed, each kind with a salt of its own: no kind can stand for another."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._sessions, self._invites, self._resets = (
            URLSafeTimedSerializer(secret, salt=f"plaudit {kind}", signer_kwargs={"digest_method": hashlib.sha256})
            for kind in ("session", "invite", "reset")
        )

    def cookie(self, session: Session) -> str:
        return self._sessions.dumps([session.nonce, session.account, session.fingerprint])

    def session(self, cookie: str) -> Session | None:
        match _read(self._sessions, cookie, SESSION_SECONDS):
            case [str(nonce), int() | None as account, str(fingerprint)]:
                return Session(nonce=nonce, account=account, fingerprint=fingerprint)
            case _:
                return None

    def csrf(self, session: Session) -> str:
        return hmac.new(self._secret, f"csrf {session.nonce}".encode(), "sha256").hexdigest()

    def invite(self, nonce: str) -> str:
        return self._invites.dumps(nonce)

    def invited(self, text: str) -> str | None:
        nonce = _read(self._invites, text, INVITE_SECONDS)
        return nonce if isinstance(nonce, str) else None

    def reset(self, account: int, fingerprint: str) -> str:
        """A link to a new password. It carries the old one's fingerprint, so that it works once."""
        return self._resets.dumps([account, fingerprint])

    def to_reset(self, text: str) -> tuple[int, str] | None:
        match _read(self._resets, text, INVITE_SECONDS):
            case [int(account), str(fingerprint)]:
                return account, fingerprint
            case _:
                return None


def _read(serializer: URLSafeTimedSerializer, text: str, seconds: int) -> Any:
    try:
        return serializer.loads(text, max_age=seconds)
    except BadData:
        return None


# -- passwords and tokens -------------------------------------------------------------------------------------------

_HASHER = PasswordHasher()
_AT_ONCE = threading.Semaphore(2)
"""Each takes 64 MiB for a moment."""
_NOBODY = "$argon2id$v=19$m=65536,t=3,p=4$" + "AAAAAAAAAAAAAAAAAAAAAA" + "$" + "A" * 43
"""Compared where there is no such name, so that the time taken does not tell who has an account."""


def hash_password(password: str) -> str:
    with _AT_ONCE:
        return _HASHER.hash(password)


def password_fits(password: str, hashed: str | None) -> bool:
    with _AT_ONCE:
        try:
            return _HASHER.verify(hashed or _NOBODY, password) and hashed is not None
        except (VerificationError, InvalidHashError):
            return False


def password_flaw(password: str, name: str) -> str | None:
    if len(password) < SHORTEST_PASSWORD:
        return f"A password has at least {SHORTEST_PASSWORD} characters; a few words in a row are good."
    if len(password) > LONGEST_PASSWORD:
        return f"A password has at most {LONGEST_PASSWORD} characters."
    if password.casefold() == name.casefold() or len(set(password)) < 4:
        return "That is too easily guessed."
    return None


def fingerprint(password_hash: str | None) -> str:
    return hashlib.sha256((password_hash or "").encode()).hexdigest()[:16]


def new_token() -> str:
    return "plaudit_" + secrets.token_urlsafe(32)


def digest(token: str) -> str:
    """What is stored of a token: it is random and long, so that a plain hash keeps it."""
    return hashlib.sha256(token.encode()).hexdigest()


# -- how often ------------------------------------------------------------------------------------------------------


class Limiter:
    """A bucket per key that fills at `per_second` up to `burst`; what is spent beyond is refused."""

    def __init__(self, *, per_second: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_second, self.burst, self._clock = per_second, burst, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def left(self, key: str) -> float:
        with self._lock:
            return self._left(key)

    def _left(self, key: str) -> float:
        level, at = self._buckets.get(key, (self.burst, self._clock()))
        return min(self.burst, level + (self._clock() - at) * self.per_second)

    def spend(self, key: str) -> bool:
        """Take one; False where there is none."""
        with self._lock:
            left = self._left(key)
            if left < 1:
                return False
            self._buckets[key] = (left - 1, self._clock())
            self._buckets.move_to_end(key)
            if len(self._buckets) > 10_000:
                self._buckets.popitem(last=False)
            return True


@dataclass(slots=True)
class Known:
    """An account as it was a moment ago."""

    account: Account
    fingerprint: str
    until: float
