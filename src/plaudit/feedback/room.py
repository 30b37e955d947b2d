"""What everything at the desk stands on: the store, the clock, the settings, the guideline, the audit trail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session

from plaudit.feedback import schema
from plaudit.feedback.records import Guideline, NotYours, Settings
from plaudit.feedback.rows import put_new
from plaudit.feedback.store import Store


def now() -> datetime:
    return datetime.now(UTC)


class Room:
    """A project opened. Makes its first rows where the store is new."""

    def __init__(self, store: Store, *, clock: Callable[[], datetime] = now) -> None:
        self.store, self.clock = store, clock
        self._guidelines: dict[int, Guideline] = {}
        with store.read() as session:
            is_new = session.get(schema.Project, 1) is None
        if is_new:
            # Two may open a new store at once.
            first = {"id": 1, "settings": asdict(Settings()), "recipe": {}, "queued": {}, "guideline": 1}
            with store.write() as session:
                put_new(session, schema.Project, [first | {"created": self._stamp()}])
                empty = {"version": 1, "text": "", "created": self._stamp(), "recalls": False}
                put_new(session, schema.Guideline, [empty])

    def record(self, action: str, *, by: int | None = None, **details: object) -> None:
        """A line of the audit trail: no names in it, for it is kept when a person is erased."""
        with self.store.write() as session:
            self._record(session, action, by, details)

    def _record(self, session: Session, action: str, by: int | None, details: dict[str, Any]) -> None:
        session.add(schema.Audit(at=self._stamp(), account_id=by, action=action, details=details))

    def _stamp(self) -> str:
        return self.clock().astimezone(UTC).isoformat(timespec="milliseconds")

    def _settings(self, session: Session) -> Settings:
        return settings_of(session.get_one(schema.Project, 1).settings)

    def _guideline(self, session: Session, version: int | None = None) -> Guideline:
        """The one of that version, or the newest. A version never changes, so it is read once."""
        if version is None:
            version = session.get_one(schema.Project, 1).guideline
        if version not in self._guidelines:
            row = session.get_one(schema.Guideline, version)
            self._guidelines[version] = Guideline(version=row.version, text=row.text, created=row.created)
        return self._guidelines[version]

    def _person(self, session: Session, account: int) -> schema.Account:
        """The account, held until the transaction ends, so that one person's requests come one after the other."""
        row = session.get(schema.Account, account, with_for_update=True)
        if row is None or not row.active:
            raise NotYours("this account is not active")
        return row


def settings_of(stored: dict[str, Any]) -> Settings:
    fields: dict[str, Any] = stored | {"aspects": tuple(stored["aspects"])}
    return Settings(**fields)
