"""Who may sit at the desk: accounts, their tokens and invites, and how a person is forgotten."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from plaudit.feedback import schema
from plaudit.feedback.records import Account, BadAnswer, NotYours, Role, Settings
from plaudit.feedback.room import Room

PERSON = "person"
"""The kind of annotator that an account stands for, and how its handles begin."""
IMPORTED = "imported"
"""The kind of an annotator whose judgements whoever runs the project took in, to count beside its people's."""
LOCAL = "local"
_LONGEST_NAME = 80


class Accounts(Room):
    when_erased: Callable[[str], None] | None = None
    """Called with the handle of who was erased: for copies outside of the store."""

    def accounts(self) -> list[Account]:
        """Everybody but those who were erased."""
        with self.store.read() as session:
            settings = self._settings(session)
            rows = session.scalars(select(schema.Account).where(schema.Account.name.is_not(None)))
            return [_account(row, settings) for row in rows.all()]

    def account(self, id: int) -> Account | None:
        with self.store.read() as session:
            row = session.get(schema.Account, id)
            return None if row is None else _account(row, self._settings(session))

    def account_named(self, name: str) -> Account | None:
        with self.store.read() as session:
            row = session.scalar(select(schema.Account).where(schema.Account.name == name.strip()))
            return None if row is None else _account(row, self._settings(session))

    def add_account(self, name: str, role: Role, password_hash: str | None = None, *, by: int | None = None) -> Account:
        """BadAnswer where the name is empty, too long, or somebody else's."""
        name = name.strip()
        if not name or len(name) > _LONGEST_NAME:
            raise BadAnswer(f"a name has 1 to {_LONGEST_NAME} characters")
        handle = f"{PERSON}-{secrets.token_hex(4)}"
        try:
            with self.store.write() as session:
                session.add(schema.Annotator(handle=handle, kind=PERSON))
                session.flush()
                row = schema.Account(
                    handle=handle, name=name, role=role, active=True, qualified=None,
                    password_hash=password_hash, created=self._stamp(), drawn=0,
                )  # fmt: skip
                session.add(row)
                session.flush()
                self._record(session, "account added", by, {"account": row.id, "role": role})
                return _account(row, self._settings(session))
        except IntegrityError as error:
            raise BadAnswer(f"the name {name!r} is taken") from error

    def local_account(self) -> Account:
        """The one of whoever sits at this machine."""
        return self.account_named(LOCAL) or self.add_account(LOCAL, "administrator")

    def password_hash(self, id: int) -> str | None:
        with self.store.read() as session:
            row = session.get(schema.Account, id)
            return None if row is None or not row.active else row.password_hash

    def set_password_hash(self, id: int, password_hash: str, *, by: int | None = None) -> None:
        with self.store.write() as session:
            _existing(session, id).password_hash = password_hash
            self._record(session, "password set", by, {"account": id})

    def set_role(self, id: int, role: Role, *, by: int | None = None) -> None:
        with self.store.write() as session:
            _existing(session, id).role = role
            self._record(session, "role set", by, {"account": id, "role": role})

    def set_active(self, id: int, active: bool, *, by: int | None = None) -> None:
        with self.store.write() as session:
            _existing(session, id).active = active
            self._record(session, "account activated" if active else "account closed", by, {"account": id})

    def set_qualified(self, id: int, qualified: bool | None, *, by: int | None = None) -> None:
        """Overrules the qualification round; None: he may try on the gold tasks that are left."""
        with self.store.write() as session:
            _existing(session, id).qualified = qualified
            self._record(session, "qualification set", by, {"account": id, "qualified": qualified})

    def add_api_token(self, id: int, digest: str, label: str) -> None:
        with self.store.write() as session:
            _existing(session, id)
            session.add(schema.ApiToken(digest=digest, account_id=id, label=label, created=self._stamp()))
            self._record(session, "token made", id, {"label": label})

    def api_tokens(self, id: int) -> list[tuple[str, str, str]]:
        """(digest, label, created) of each."""
        with self.store.read() as session:
            rows = session.scalars(select(schema.ApiToken).where(schema.ApiToken.account_id == id))
            return [(row.digest, row.label, row.created) for row in rows]

    def account_of_token(self, digest: str) -> Account | None:
        """None where the token is not known, or its account not active."""
        with self.store.read() as session:
            token = session.get(schema.ApiToken, digest)
            row = None if token is None else session.get_one(schema.Account, token.account_id)
            return None if row is None or not row.active else _account(row, self._settings(session))

    def revoke_api_token(self, digest: str, *, by: int | None = None) -> None:
        with self.store.write() as session:
            token = session.get(schema.ApiToken, digest)
            if token is not None:
                session.delete(token)
                self._record(session, "token revoked", by, {"account": token.account_id})

    def record_invite(self, nonce: str, role: Role, expires: datetime, *, by: int | None = None) -> None:
        with self.store.write() as session:
            session.add(schema.Invite(nonce=nonce, role=role, expires=expires.timestamp(), used=False))
            self._record(session, "invited", by, {"role": role})

    def use_invite(self, nonce: str) -> Role:
        """The role it grants; NotYours where it is not known, used already, or too old."""
        with self.store.write() as session:
            row = session.get(schema.Invite, nonce, with_for_update=True)
            if row is None:
                raise NotYours("this invitation is not known here")
            if row.used:
                raise NotYours("this invitation was used already; ask for another")
            if row.expires < self.clock().timestamp():
                raise NotYours("this invitation is too old; ask for another")
            row.used = True
            return _role(row.role)

    def erase_person(self, id: int, *, by: int | None = None) -> None:
        """Forget who he was, for good: name, password, tokens, free words. What he judged stays, under his handle."""
        with self.store.write() as session:
            row = _existing(session, id)
            his = select(schema.Judgement.id).where(schema.Judgement.handle == row.handle)
            session.execute(delete(schema.Rationale).where(schema.Rationale.judgement_id.in_(his)))
            session.execute(delete(schema.ApiToken).where(schema.ApiToken.account_id == id))
            row.name, row.password_hash, row.active = None, None, False
            self._record(session, "person erased", by, {"account": id})
        if self.when_erased is not None:
            self.when_erased(row.handle)


def _existing(session: Session, id: int) -> schema.Account:
    row = session.get(schema.Account, id, with_for_update=True)
    if row is None:
        raise NotYours(f"there is no account {id}")
    return row


def _account(row: schema.Account, settings: Settings) -> Account:
    return Account(
        id=row.id,
        name=row.name or "",
        handle=row.handle,
        role=_role(row.role),
        active=row.active,
        qualified=is_qualified(row, settings),
    )


def is_qualified(row: schema.Account, settings: Settings) -> bool:
    """Whether the real work is open to him: a qualification round is for annotators alone."""
    return row.role != "annotator" or not settings.qualification or bool(row.qualified)


def _role(stored: str) -> Role:
    for role in ("annotator", "adjudicator", "administrator"):
        if stored == role:
            return role
    raise NotYours(f"there is no role {stored!r}")
