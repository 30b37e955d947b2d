"""Looking at the work: progress, figures, tasks, who is left out, what comes out in the end, and the audit trail."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from statistics import median
from typing import Any, Literal, cast

from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.orm import Session, aliased

from plaudit.data.formats import judgement_to_dict
from plaudit.feedback import schema
from plaudit.feedback.accounts import IMPORTED, PERSON, is_qualified
from plaudit.feedback.queue import gold_count, in_round, newest_round
from plaudit.feedback.records import (
    AuditRow,
    BadAnswer,
    Figures,
    PersonFigures,
    Progress,
    ProjectProgress,
    Settings,
    TaskKind,
    TaskRow,
    TaskState,
)
from plaudit.feedback.room import Room, now
from plaudit.feedback.rows import demonstration_of_row, judgements_of
from plaudit.feedback.store import Store
from plaudit.types import Demonstration, Judgement

COUNTED = (PERSON, IMPORTED)
"""Kinds of annotators whose judgements are trained on where the annotators are people."""
_FEW_TASKS = 1000
_PACE_OF = 200
"""Newest submissions whose median time is shown."""
_LOOKED_AT_AFTER = 10
"""Submissions of a person between two looks at how many places the whole has filled."""


class Office(Room):
    _figures: tuple[object, Figures] | None = None
    _tally: tuple[float, ProjectProgress] | None = None

    def __init__(self, store: Store, *, clock: Callable[[], datetime] = now) -> None:
        super().__init__(store, clock=clock)
        self._looked: dict[int, tuple[int, int]] = {}
        """Account -> (his submissions, places that were filled) when the whole was last looked at for him."""

    # -- progress -----------------------------------------------------------------------------------------------

    def progress(self, account: int) -> Progress:
        hand = schema.HandOut
        his = (hand.account_id == account, hand.state == "submitted")
        midnight = self.clock().replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
        with self.store.read() as session:
            first = select(func.count()).select_from(hand).where(*his, hand.corrects.is_(None))
            newest = select(hand.seconds).where(*his).order_by(hand.ordinal.desc()).limit(_PACE_OF)
            seconds = [one for one in session.scalars(newest) if one is not None]
            settings = self._settings(session)
            whole = self._recent_tally(session, settings)
            done = session.scalar(first) or 0
            return Progress(
                done=done,
                mine_today=session.scalar(first.where(hand.submitted >= midnight)) or 0,
                left=self._left(account, done, whole),
                median_seconds=median(seconds) if seconds else None,
                quota=settings.quota,
                finished=whole.finished,
            )

    def _left(self, account: int, done: int, whole: ProjectProgress) -> int:
        """Places to be filled, as he is told. Were the true number told after each submission, it would fall after all
        but gold and repeats, which he is not to know: so each counts as one, until the whole is looked at again."""
        if whole.finished:
            return max(0, whole.wanted - whole.done)
        then, filled = self._looked.get(account, (done, whole.done))
        if done - then >= _LOOKED_AT_AFTER or whole.done < filled:  # fewer than before: the round is another one
            then, filled = done, whole.done
        self._looked[account] = then, filled
        return max(1, whole.wanted - filled - (done - then))

    def _recent_tally(self, session: Session, settings: Settings) -> ProjectProgress:
        """How far the whole is; of a large project it may be a second old, since everybody asks after every task."""
        kept, now = self._tally, time.monotonic()
        if kept is None or kept[1].tasks <= _FEW_TASKS or now - kept[0] > 1:
            kept = self._tally = (now, _round_progress(session, settings, newest_round(session)))
        return kept[1]

    def progress_all(self, round: int | None = None) -> ProjectProgress:
        """Of a round, the newest by default."""
        with self.store.read() as session:
            which = newest_round(session) if round is None else round
            found = _round_progress(session, self._settings(session), which)
            return replace(found, undecidable=_undecidable(session, which)) if found.disputed else found

    def pause_reason(self, account: int) -> str | None:
        """Why there is nothing for him, in words; None where he may go on."""
        with self.store.read() as session:
            row = session.get(schema.Account, account)
            settings = self._settings(session)
            if row is None or not row.active:
                return "This account is closed."
            if not is_qualified(row, settings):
                if row.qualified is False:
                    return "The qualification round was not passed. Whoever runs this project can let you in."
                if not gold_count(session):
                    return "A qualification round is asked for, but there are no tasks for it yet."
                return None
            if _round_progress(session, settings, newest_round(session)).finished:
                return "The work is done. Thank you!"
            open_tasks = select(schema.Task.id).where(
                schema.Task.state == "open", schema.Task.taken < schema.Task.wanted
            )
            return None if session.scalar(open_tasks.limit(1)) else "Nothing is left for you at the moment."

    def tasks(
        self,
        *,
        kind: TaskKind | None = None,
        state: TaskState | None = None,
        page: int = 0,
        per_page: int = 50,
    ) -> list[TaskRow]:
        statement = select(schema.Task, schema.Prompt).join(schema.Prompt).order_by(schema.Task.id)
        if kind is not None:
            statement = statement.where(schema.Task.kind == kind)
        if state is not None:
            statement = statement.where(schema.Task.state == state)
        with self.store.read() as session:
            return [
                TaskRow(
                    id=task.id,
                    kind=cast(TaskKind, task.kind),
                    state=cast(TaskState, task.state),
                    round=task.round,
                    prompt=prompt.messages[-1]["content"],
                    wanted=task.wanted,
                    done=task.done,
                    gold=task.is_gold,
                    sensitive=task.sensitive,
                    score=task.score,
                )
                for task, prompt in session.execute(statement.offset(page * per_page).limit(per_page))
            ]

    # -- figures ------------------------------------------------------------------------------------------------

    def people(self) -> tuple[PersonFigures, ...]:
        return self.figures().people

    def figures(self) -> Figures:
        """Of what counts as people's; where there is none yet, of what else was taken over. Kept for as long as
        nothing changes."""
        with self.store.read() as session:
            counts = (select(func.max(t.ordinal)) for t in (schema.Judgement, schema.HandOut))
            edits = select(func.max(schema.Audit.id))
            version = (*(session.scalar(one) for one in counts), session.scalar(edits))
            if self._figures is not None and self._figures[0] == version:
                return self._figures[1]
            from plaudit.feedback.statistics import figures_of  # loads numpy: the page must start without

            figures = figures_of(self._labels(session))
            self._figures = (version, figures)
            return figures

    def _labels(self, session: Session) -> Any:
        from plaudit.feedback.statistics import Labels

        found = session.execute(
            select(schema.Judgement, schema.Task.since, schema.Annotator.kind)
            .outerjoin(schema.Task, schema.Task.id == schema.Judgement.task_id)
            .join(schema.Annotator, schema.Annotator.handle == schema.Judgement.handle)
            .where(_standing())
            .order_by(schema.Judgement.ordinal)
        )
        current = [(row, kind) for row, since, kind in found if _is_current(row, since)]
        peoples = [row for row, kind in current if kind in COUNTED]
        rows = peoples or [row for row, _ in current]
        whole = {one.id: one for one in judgements_of(session, rows)}
        tasks = {row.id: row for row in session.scalars(select(schema.Task).where(schema.Task.is_gold))}
        first: dict[tuple[int | None, str], Judgement] = {}
        for row in rows:
            if row.purpose == "work":
                first.setdefault((row.task_id, row.handle), whole[row.id])
        hands = select(schema.Account.handle, schema.HandOut.seconds).join(
            schema.HandOut, schema.HandOut.account_id == schema.Account.id
        )
        seconds: dict[str, list[float]] = defaultdict(list)
        for handle, one in session.execute(hands.where(schema.HandOut.seconds.is_not(None))):
            seconds[handle].append(one or 0.0)
        return Labels(
            work=[whole[row.id] for row in rows if row.purpose in ("work", "taken_over")],
            gold=[
                (whole[r.id], tasks[r.task_id].gold or []) for r in rows if r.purpose == "gold" and r.task_id in tasks
            ],
            repeats=[
                (first[row.task_id, row.handle], whole[row.id])
                for row in rows
                if row.purpose == "repeat" and (row.task_id, row.handle) in first
            ],
            names={row.handle: row.name or "" for row in session.scalars(select(schema.Account))} if peoples else {},
            excluded=frozenset(_excluded(session)),
            seconds=seconds,
        )

    # -- who counts ---------------------------------------------------------------------------------------------

    def exclude(self, annotator: str, why: str, *, by: int | None = None) -> None:
        """His judgements and demonstrations count no more; they stay in the store, and `include` takes it back."""
        if not why.strip():
            raise BadAnswer("say why: it is kept with the exclusion")
        with self.store.write() as session:
            if session.get(schema.Annotator, annotator) is None:
                raise BadAnswer(f"there is no annotator {annotator!r}; `plaudit feedback people` lists them")
            if annotator not in _excluded(session):
                session.add(schema.Exclusion(handle=annotator, why=why.strip(), created=self._stamp()))
            self._record(session, "excluded", by, {"annotator": annotator})

    def include(self, annotator: str, *, by: int | None = None) -> None:
        with self.store.write() as session:
            ongoing = select(schema.Exclusion).where(
                schema.Exclusion.handle == annotator, schema.Exclusion.ended.is_(None)
            )
            for row in session.scalars(ongoing):
                row.ended = self._stamp()
            self._record(session, "included", by, {"annotator": annotator})

    def excluded(self) -> dict[str, str]:
        """Handle -> why."""
        with self.store.read() as session:
            return _excluded(session)

    # -- what comes out -----------------------------------------------------------------------------------------

    def judgements(self, *, up_to_round: int | None = None) -> list[Judgement]:
        """What people said, here or elsewhere, and what counts: no gold, no repeats, none corrected, excluded or
        called back; where an adjudicator has decided, his alone."""
        with self.store.read() as session:
            statement = (
                select(schema.Judgement, schema.Task.since)
                .outerjoin(schema.Task, schema.Task.id == schema.Judgement.task_id)
                .join(schema.Annotator, schema.Annotator.handle == schema.Judgement.handle)
                .where(_standing(), schema.Annotator.kind.in_(COUNTED))
                .where(schema.Judgement.purpose.in_(("work", "adjudication", "taken_over")))
                .order_by(schema.Judgement.ordinal)
            )
            if up_to_round is not None:
                statement = statement.where(schema.Judgement.round <= up_to_round)
            excluded = _excluded(session)
            found = session.execute(statement)
            rows = [row for row, since in found if row.handle not in excluded and _is_current(row, since)]
            adjudicated = {row.task_id for row in rows if row.purpose == "adjudication"}
            rows = [row for row in rows if row.purpose == "adjudication" or row.task_id not in adjudicated]
            return judgements_of(session, rows)

    def demonstrations(self) -> dict[int, Demonstration]:
        """Those that were accepted, by their number, but for excluded people's."""
        with self.store.read() as session:
            excluded = _excluded(session)
            rows = session.scalars(
                select(schema.Demonstration)
                .where(schema.Demonstration.standing == "accepted")
                .order_by(schema.Demonstration.id)
            ).all()
            return {row.id: demonstration_of_row(session, row) for row in rows if row.handle not in excluded}

    def demonstration_authors(self) -> dict[int, str]:
        """Number -> handle, of every demonstration there is."""
        with self.store.read() as session:
            rows = session.execute(select(schema.Demonstration.id, schema.Demonstration.handle))
            return dict(rows.all())

    def annotator_of(self) -> dict[str, str]:
        """Judgement id -> handle, of every judgement there is."""
        with self.store.read() as session:
            return dict(session.execute(select(schema.Judgement.id, schema.Judgement.handle)).all())

    def export(self, what: Literal["judgements", "demonstrations"]) -> Iterator[dict[str, Any]]:
        """Rows of JSON: what counts of what people said, or the accepted demonstrations."""
        if what == "judgements":
            yield from map(judgement_to_dict, self.judgements())
            return
        authors = self.demonstration_authors()
        for number, one in self.demonstrations().items():
            messages = [*(asdict(m) for m in one.prompt.messages), {"role": "assistant", "content": one.response}]
            yield {"messages": messages, "source": one.source, "annotator": authors[number], "number": number}

    def audit(self, page: int = 0, per_page: int = 100) -> list[AuditRow]:
        """The newest first."""
        statement = select(schema.Audit).order_by(schema.Audit.id.desc()).offset(page * per_page).limit(per_page)
        with self.store.read() as session:
            return [
                AuditRow(at=row.at, account=row.account_id, action=row.action, details=row.details)
                for row in session.scalars(statement)
            ]


def _is_current(row: schema.Judgement, since: int | None) -> bool:
    """That no newer guideline has called its task back; what was taken over has no task."""
    return since is None or int(row.guideline_version) >= since


def _standing() -> ColumnElement[bool]:
    """That no other judgement supersedes it."""
    later = aliased(schema.Judgement)
    return ~exists().where(later.supersedes == schema.Judgement.id)


def _excluded(session: Session) -> dict[str, str]:
    rows = session.scalars(select(schema.Exclusion).where(schema.Exclusion.ended.is_(None)))
    return {row.handle: row.why for row in rows}


def _undecidable(session: Session, round: int) -> int:
    person, hand, task = schema.Account, schema.HandOut, schema.Task
    his = (hand.account_id == person.id, hand.task_id == task.id, hand.guideline_version >= task.since)
    had = exists().where(*his, hand.state.in_(("live", "submitted"))).correlate(person, task)
    may_decide = exists().where(person.active, person.role != "annotator", ~had).correlate(task)
    disputed = (in_round(round), task.state == "disputed", task.taken < task.wanted)
    return session.scalar(select(func.count()).select_from(task).where(*disputed, ~may_decide)) or 0


def _round_progress(session: Session, settings: Settings, round: int) -> ProjectProgress:
    task = schema.Task
    sums = (func.count(), func.sum(task.wanted), func.sum(task.done), func.sum(task.taken))
    states: dict[str, Sequence[Any]] = {}
    for row in session.execute(select(*sums, task.state).where(in_round(round)).group_by(task.state)):
        states[row[-1]] = row
    count, wanted, done, taken = (int(sum(row[i] or 0 for row in states.values())) for i in range(4))
    if "closed" in states:  # their empty places are nobody's any more
        wanted -= int(states["closed"][1] - states["closed"][2])
    is_open = any(state in states for state in ("open", "disputed"))
    enough = settings.quota is not None and done >= settings.quota
    standings = select(schema.Demonstration.standing, func.count()).group_by(schema.Demonstration.standing)
    return ProjectProgress(
        tasks=count,
        wanted=wanted if settings.quota is None else min(wanted, settings.quota),
        done=done,
        disputed=states["disputed"][0] if "disputed" in states else 0,
        undecidable=0,  # which is asked for apart: not everybody needs it after every task
        live=taken - done,
        demonstrations=dict(session.execute(standings).all()),
        finished=count > 0 and (enough or not is_open),
    )
