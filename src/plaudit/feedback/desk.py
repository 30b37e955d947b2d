"""The one door to the people's room: accounts, work, administration. It never sees HTTP; its callers never see SQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from plaudit.feedback.records import (
    Account,
    Answer,
    AuditRow,
    Figures,
    Guideline,
    HandOut,
    PersonFigures,
    Progress,
    ProjectProgress,
    Role,
    Settings,
    TaskKind,
    TaskRow,
    TaskState,
)
from plaudit.types import Demonstration, Judgement, Prompt, Response


def now() -> datetime:
    return datetime.now(UTC)


class Desk:
    """Threads may share one. `account` is always an account's id."""

    def __init__(self, store: Any, *, clock: Callable[[], datetime] = now) -> None:
        self.store, self.clock = store, clock

    # -- accounts -----------------------------------------------------------------------------------------------
    def accounts(self) -> list[Account]:
        raise NotImplementedError

    def account(self, id: int) -> Account | None:
        raise NotImplementedError

    def account_named(self, name: str) -> Account | None:
        raise NotImplementedError

    def add_account(self, name: str, role: Role, password_hash: str | None = None) -> Account:
        raise NotImplementedError

    def local_account(self) -> Account:
        raise NotImplementedError

    def password_hash(self, id: int) -> str | None:
        raise NotImplementedError

    def set_password_hash(self, id: int, password_hash: str) -> None:
        raise NotImplementedError

    def set_role(self, id: int, role: Role, *, by: int | None = None) -> None:
        raise NotImplementedError

    def set_active(self, id: int, active: bool, *, by: int | None = None) -> None:
        raise NotImplementedError

    def add_api_token(self, id: int, digest: str, label: str) -> None:
        raise NotImplementedError

    def api_tokens(self, id: int) -> list[tuple[str, str, str]]:
        raise NotImplementedError  # digest, label, created

    def account_of_token(self, digest: str) -> Account | None:
        raise NotImplementedError

    def revoke_api_token(self, digest: str) -> None:
        raise NotImplementedError

    def record_invite(self, nonce: str, role: Role, expires: datetime, *, by: int | None = None) -> None:
        raise NotImplementedError

    def use_invite(self, nonce: str) -> Role:
        raise NotImplementedError  # NotYours where unknown, used or too old

    def erase_person(self, id: int, *, by: int | None = None) -> None:
        raise NotImplementedError

    # -- work ---------------------------------------------------------------------------------------------------
    def next_task(self, account: int, kinds: Sequence[TaskKind] | None = None) -> HandOut | None:
        raise NotImplementedError

    def prefetch(self, account: int, token: str) -> HandOut | None:
        raise NotImplementedError

    def hand_out(self, account: int, token: str) -> HandOut:
        raise NotImplementedError

    def submit(self, account: int, token: str, answer: Answer) -> Judgement | Demonstration | None:
        raise NotImplementedError

    def release(self, account: int, token: str) -> None:
        raise NotImplementedError

    def undo(self, account: int) -> HandOut | None:
        raise NotImplementedError

    def propose(self, account: int, prompt: Prompt, responses: Sequence[Response]) -> HandOut:
        raise NotImplementedError

    def progress(self, account: int) -> Progress:
        raise NotImplementedError

    def pause_reason(self, account: int) -> str | None:
        raise NotImplementedError

    # -- guidelines and settings --------------------------------------------------------------------------------
    def guideline(self) -> Guideline:
        raise NotImplementedError

    def guidelines(self) -> list[Guideline]:
        raise NotImplementedError

    def publish_guideline(self, text: str, *, recall: bool = False, by: int | None = None) -> Guideline:
        raise NotImplementedError

    def settings(self) -> Settings:
        raise NotImplementedError

    def change_settings(self, changes: Mapping[str, object], *, by: int | None = None) -> Settings:
        raise NotImplementedError

    # -- administration -----------------------------------------------------------------------------------------
    def progress_all(self) -> ProjectProgress:
        raise NotImplementedError

    def figures(self) -> Figures:
        raise NotImplementedError

    def people(self) -> tuple[PersonFigures, ...]:
        raise NotImplementedError

    def tasks(
        self, *, kind: TaskKind | None = None, state: TaskState | None = None, page: int = 0, per_page: int = 50
    ) -> list[TaskRow]:
        raise NotImplementedError

    def exclude(self, annotator: str, why: str, *, by: int | None = None) -> None:
        raise NotImplementedError

    def include(self, annotator: str, *, by: int | None = None) -> None:
        raise NotImplementedError

    def export(self, what: Literal["judgements", "demonstrations"]) -> Iterator[dict[str, Any]]:
        raise NotImplementedError

    def record(self, action: str, *, by: int | None = None, **details: object) -> None:
        raise NotImplementedError

    def audit(self, page: int = 0, per_page: int = 100) -> list[AuditRow]:
        raise NotImplementedError
