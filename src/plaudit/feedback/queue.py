"""Who gets which task: a place is leased, runs out, comes free again; no task is ever in more hands than it has places.

A task has `wanted` places; `taken` counts those in somebody's hands or filled, and changes in the same transaction
as the hand-out that takes or leaves the place. So the invariant taken <= wanted needs no counting over hand-outs.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any, cast, get_args

from sqlalchemy import ColumnElement, Select, and_, bindparam, exists, func, or_, select, text, update
from sqlalchemy.orm import Session, aliased

from plaudit.feedback import schema
from plaudit.feedback.accounts import is_qualified
from plaudit.feedback.orders import right_pairs
from plaudit.feedback.records import HandOut, LeaseLost, NotYours, Purpose, Settings, TaskKind
from plaudit.feedback.room import Room
from plaudit.feedback.rows import judgements_of, prompt_of_row, responses_of
from plaudit.types import MOST_RANKED

ORDER: tuple[TaskKind, ...] = ("review", "ranking", "contest", "demonstration")
"""In which the kinds are handed out where a person takes any."""
MOST_LIVE = 2
"""Hand-outs in one person's hands: the one on the page, and the next."""
REPEAT_AFTER = 10
"""Rankings of his own between a task and its repeat, so that he does not remember."""
MOST_STALE = 200


# Statements of the hot path, made once. `account` and `handle` are the person's.
_hand = aliased(schema.HandOut)
_HAD = exists().where(
    _hand.account_id == bindparam("account"),
    _hand.task_id == schema.Task.id,
    _hand.state.in_(("live", "submitted")),
    _hand.guideline_version >= schema.Task.since,
)
"""That this person has, or had, the task, under a guideline that still counts for it."""


def _first(where: str, *order: Any) -> Select[schema.Task]:
    """The first task of these that he has not had and that is no review of his own work; locked where locks are."""
    task = schema.Task
    others = or_(task.author.is_(None), task.author != bindparam("handle"))
    return select(task).where(text(where), ~_HAD, others).order_by(*order).limit(1).with_for_update(skip_locked=True)


_OF_KIND = schema.Task.kind == bindparam("kind")
FIRST_OPEN = _first(schema.OPEN, schema.Task.place).where(_OF_KIND)
FIRST_RESERVED = FIRST_OPEN.where(schema.Task.reserved)
FIRST_TEACHING = _first(schema.OPEN, schema.Task.score.desc(), schema.Task.place.desc()).where(
    _OF_KIND, ~schema.Task.reserved
)
FIRST_DISPUTED = _first(schema.DISPUTED, schema.Task.place)
FIRST_GOLD = select(schema.Task).where(text("is_gold"), ~_HAD).order_by(schema.Task.place).limit(1)
LIVE_OF = (
    select(schema.HandOut, schema.Task.kind)
    .join(schema.Task, schema.Task.id == schema.HandOut.task_id)
    .where(schema.HandOut.account_id == bindparam("account"), schema.HandOut.state == "live")
    .order_by(schema.HandOut.ordinal)
)
STALE = (
    select(schema.HandOut)
    .where(text(schema.LIVE), schema.HandOut.expires < bindparam("now"))
    .order_by(schema.HandOut.task_id)
    .limit(MOST_STALE)
    .with_for_update(skip_locked=True)
)


class Queue(Room):
    def next_task(self, account: int, kinds: Sequence[TaskKind] | None = None) -> HandOut | None:
        """What he has in hands of these kinds already, else the next task, leased to him; None: nothing for him."""
        wanted = tuple(kinds or get_args(TaskKind))
        with self.store.write(durable=False) as session:
            person = self._person(session, account)
            self._expire(session)
            # What he took back comes before what lies ready.
            mine = sorted(self._live(session, account, wanted), key=lambda one: (one.corrects is None, one.ordinal))
            hand = mine[0] if mine else self._draw(session, person, wanted)
            return None if hand is None else self._shown(session, hand)

    def prefetch(self, account: int, token: str) -> HandOut | None:
        """The task after the one in hand, leased too."""
        with self.store.write(durable=False) as session:
            person = self._person(session, account)
            hand = _his(session, account, token)
            self._expire(session)
            mine = self._live(session, account, get_args(TaskKind))
            others = [one for one in mine if one.token != token]
            if others:
                return self._shown(session, others[0])
            if len(mine) >= MOST_LIVE:
                return None
            kind = cast(TaskKind, session.get_one(schema.Task, hand.task_id).kind)
            drawn = self._draw(session, person, (kind,))
            return None if drawn is None else self._shown(session, drawn)

    def hand_out(self, account: int, token: str) -> HandOut:
        """The hand-out again. NotYours where it is somebody else's, LeaseLost where it was given back."""
        with self.store.read() as session:
            hand = _his(session, account, token)
            if hand.state in ("released", "recalled"):
                raise LeaseLost("this task was given back; take the next one")
            return self._shown(session, hand)

    def release(self, account: int, token: str) -> None:
        """Give it back unanswered; what is submitted or ran out stays as it is."""
        with self.store.write(durable=False) as session:
            self._person(session, account)
            hand = _his(session, account, token)
            if hand.state == "live":
                hand.state = "released"
                _leave_place(session, hand)

    # -- drawing ------------------------------------------------------------------------------------------------

    def _draw(self, session: Session, person: schema.Account, kinds: Sequence[TaskKind]) -> schema.HandOut | None:
        settings = self._settings(session)
        if not is_qualified(person, settings):
            undecided = "ranking" in kinds and person.qualified is None
            gold = self._gold(session, person, settings) if undecided else None
            if gold is not None:
                return gold
            if undecided:  # what he has judged must do: it was among the real work, before there was a round
                self._qualify(session, person, settings)
            if not is_qualified(person, settings):
                return None
        if person.role != "annotator" and "ranking" in kinds:
            disputed = self._candidate(session, person, FIRST_DISPUTED)
            if disputed is not None:
                return self._lease(session, person, disputed, "adjudication", settings)
        for kind in ORDER:
            hand = self._of_kind(session, person, kind, settings) if kind in kinds else None
            if hand is not None:
                return hand
        return None

    def _of_kind(
        self, session: Session, person: schema.Account, kind: TaskKind, settings: Settings
    ) -> schema.HandOut | None:
        if kind == "ranking" and quota_taken(session, settings):
            return None
        task = self._open_task(session, person, kind, settings)
        if task is None:
            return None
        if kind == "ranking":
            chance = Random(f"what {settings.seed} {person.id} {person.drawn}").random()
            if chance < settings.gold_share:
                other = self._gold(session, person, settings)
            elif chance < settings.gold_share + settings.repeat_share:
                other = self._repeat(session, person, settings)
            else:
                other = None
            if other is not None:
                return other
        return self._lease(session, person, task, "contest" if kind == "contest" else "work", settings)

    def _open_task(
        self, session: Session, person: schema.Account, kind: TaskKind, settings: Settings
    ) -> schema.Task | None:
        """The next one in the order of the settings; of an active order a share is chosen by nobody."""
        statements = [FIRST_OPEN]
        if kind == "ranking" and settings.order == "active":
            chance = Random(f"who chooses {settings.seed} {person.id} {person.drawn}").random()
            statements = [FIRST_TEACHING, FIRST_RESERVED]
            if chance < settings.random_share:
                statements.reverse()
        found = (self._candidate(session, person, statement, kind=kind) for statement in statements)
        return next((task for task in found if task is not None), None)

    def _candidate(
        self, session: Session, person: schema.Account, statement: Select[schema.Task], **values: str
    ) -> schema.Task | None:
        return session.scalar(statement, {"account": person.id, "handle": person.handle, **values})

    def _gold(self, session: Session, person: schema.Account, settings: Settings) -> schema.HandOut | None:
        task = self._candidate(session, person, FIRST_GOLD)
        return None if task is None else self._lease(session, person, task, "gold", settings)

    def _repeat(self, session: Session, person: schema.Account, settings: Settings) -> schema.HandOut | None:
        """His oldest ranking that was not asked twice, once he has made some more since."""
        his, again = schema.HandOut, aliased(schema.HandOut)
        worked = (his.account_id == person.id, his.state == "submitted", his.purpose == "work", his.corrects.is_(None))
        newest = select(his.ordinal).where(*worked).order_by(his.ordinal.desc()).limit(1).offset(REPEAT_AFTER - 1)
        last = session.scalar(newest)
        if last is None:
            return None
        asked_again = exists().where(
            again.account_id == person.id, again.task_id == his.task_id, again.purpose == "repeat"
        )
        statement = (
            select(schema.Task)
            .join(his, his.task_id == schema.Task.id)
            .where(*worked, his.ordinal <= last, schema.Task.kind == "ranking", ~asked_again)
            .order_by(his.ordinal)
            .limit(1)
        )
        task = session.scalar(statement)
        return None if task is None else self._lease(session, person, task, "repeat", settings)

    def _qualify(self, session: Session, person: schema.Account, settings: Settings) -> None:
        """Decides on him once he has judged the gold tasks of the qualification round."""
        if person.role != "annotator" or person.qualified is not None or not settings.qualification:
            return
        later = aliased(schema.Judgement)
        statement = (
            select(schema.Judgement, schema.Task)
            .join(schema.Task, schema.Task.id == schema.Judgement.task_id)
            .where(schema.Judgement.handle == person.handle, schema.Judgement.purpose == "gold")
            .where(~exists().where(later.supersedes == schema.Judgement.id))
        )
        scored = [
            right_pairs(one.said["ranking"], task.gold or [], one.said.get("unordered", ()))
            for one, task in session.execute(statement)
        ]
        if scored and len(scored) >= min(settings.qualification, gold_count(session)):
            pairs = sum(count for _, count in scored)
            person.qualified = pairs > 0 and sum(right for right, _ in scored) / pairs >= settings.qualification_pass

    # -- leases -------------------------------------------------------------------------------------------------

    def _lease(
        self, session: Session, person: schema.Account, task: schema.Task, purpose: Purpose, settings: Settings
    ) -> schema.HandOut:
        takes_place = purpose not in ("gold", "repeat")
        order = list(shown_of(task))
        Random(f"order {settings.seed} {person.id} {person.drawn}").shuffle(order)
        person.drawn += 1
        task.taken += takes_place
        hand = self._new_hand(session, person.id, task, settings)
        hand.purpose, hand.takes_place, hand.display_order = purpose, takes_place, order
        session.add(hand)
        session.flush()
        return hand

    def _new_hand(self, session: Session, account: int, task: schema.Task, settings: Settings) -> schema.HandOut:
        issued = self.clock().timestamp()
        return schema.HandOut(
            token=secrets.token_urlsafe(18),
            task_id=task.id,
            account_id=account,
            state="live",
            guideline_version=self._guideline(session).version,
            issued=issued,
            expires=issued + settings.lease_seconds,
        )

    def _live(self, session: Session, account: int, kinds: Sequence[str]) -> list[schema.HandOut]:
        return [hand for hand, kind in session.execute(LIVE_OF, {"account": account}) if kind in kinds]

    def _expire(self, session: Session) -> None:
        """Places whose lease ran out come free."""
        for hand in session.scalars(STALE, {"now": self.clock().timestamp()}).all():
            hand.state = "expired"
            _leave_place(session, hand)

    def _shown(self, session: Session, hand: schema.HandOut) -> HandOut:
        task = session.get_one(schema.Task, hand.task_id)
        corrected = None
        draft = task.draft
        if hand.corrects is not None:
            earlier = session.scalars(select(schema.HandOut).where(schema.HandOut.token == hand.corrects)).one()
            corrected = session.scalar(select(schema.Judgement).where(schema.Judgement.id == earlier.result))
            if task.kind == "demonstration" and earlier.result is not None:
                draft = session.get_one(schema.Demonstration, int(earlier.result)).text
        return HandOut(
            token=hand.token,
            kind=cast(TaskKind, task.kind),
            task_id=task.id,
            prompt=prompt_of_row(session.get_one(schema.Prompt, task.prompt_id)),
            responses=tuple(responses_of(session, responses_in(hand, task))),
            display_order=display_order_of(hand),
            draft=draft,
            guideline=self._guideline(session, hand.guideline_version),
            expires=datetime.fromtimestamp(hand.expires, UTC),
            sensitive=task.sensitive and self._settings(session).blur,
            corrects=judgements_of(session, [corrected])[0] if corrected is not None else None,
        )


def _his(session: Session, account: int, token: str) -> schema.HandOut:
    hand = session.scalar(select(schema.HandOut).where(schema.HandOut.token == token))
    if hand is None or hand.account_id != account:
        raise NotYours("this task is not in your hands")
    return hand


def shown_of(task: schema.Task) -> Sequence[int]:
    """Never more than can be ranked, whatever the store holds."""
    return (range(len(task.responses)) if task.shown is None else task.shown)[:MOST_RANKED]


def responses_in(hand: schema.HandOut, task: schema.Task) -> list[str]:
    """The responses that a hand-out shows, in stored order. A hand-out's display order counts all of the task's."""
    return [task.responses[index] for index in sorted(hand.display_order)]


def display_order_of(hand: schema.HandOut) -> tuple[int, ...]:
    """The order on the page, in places among the responses that are shown."""
    places = {index: place for place, index in enumerate(sorted(hand.display_order))}
    return tuple(places[index] for index in hand.display_order)


def _leave_place(session: Session, hand: schema.HandOut) -> None:
    if hand.takes_place:
        session.execute(update(schema.Task).where(schema.Task.id == hand.task_id).values(taken=schema.Task.taken - 1))


def newest_round(session: Session) -> int:
    return session.scalar(select(func.max(schema.Task.round))) or 0


def in_round(round: int) -> ColumnElement[bool]:
    """The rankings that a round asks for."""
    return and_(schema.Task.round == round, schema.Task.kind == "ranking", ~schema.Task.is_gold)


def gold_count(session: Session) -> int:
    return len(session.scalars(select(schema.Task.id).where(schema.Task.is_gold)).all())


def quota_taken(session: Session, settings: Settings) -> bool:
    """Whether the newest round's quota is filled or in hands: nobody begins what nobody needs."""
    if settings.quota is None:
        return False
    session.scalar(select(schema.Project.id).with_for_update())  # one at a time, or two would take the last place
    taken = session.scalar(select(func.sum(schema.Task.taken)).where(in_round(newest_round(session))))
    return (taken or 0) >= settings.quota
