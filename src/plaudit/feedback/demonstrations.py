"""Answers that people write, from scratch, out of a draft or by editing a response; a second person reviews them."""

from __future__ import annotations

from sqlalchemy import and_, exists, select, update
from sqlalchemy.orm import Session, aliased

from plaudit.data.formats import content_hash
from plaudit.feedback import schema
from plaudit.feedback.queue import Queue
from plaudit.feedback.records import Answer, BadAnswer, Settings, Standing
from plaudit.feedback.rows import demonstration_of_row
from plaudit.types import Demonstration, Judgement

FROM_SCRATCH, FROM_DRAFT, FROM_EDIT = "people: from scratch", "people: a draft bettered", "people: a response edited"


_amended = aliased(schema.Demonstration)
WITHDRAWN = and_(
    schema.Demonstration.standing == "superseded",
    ~exists().where(
        _amended.supersedes == schema.Demonstration.id,
        _amended.standing == "accepted",
        _amended.handle != schema.Demonstration.handle,
    ),
)
"""That its author has written it anew, or taken it out: what a reviewer has amended stands in his words."""


class Demonstrations(Queue):
    def _written(
        self,
        session: Session,
        hand: schema.HandOut,
        task: schema.Task,
        person: schema.Account,
        answer: Answer,
        settings: Settings,
    ) -> Demonstration | None:
        if "skip" in answer.flags:  # somebody else may know
            if hand.takes_place:
                task.taken -= 1
            return None
        if task.kind == "review":
            return self._reviewed(session, hand, task, person, answer)
        if not answer.text.strip():
            raise BadAnswer("the answer is empty: write one, or skip the task")
        earlier = _earlier(session, hand)
        if earlier is not None:
            self._withdraw(session, earlier)
        row = self._demonstration(
            session, task, person, answer.text, FROM_DRAFT if task.draft else FROM_SCRATCH, settings,
            supersedes=None if earlier is None else earlier.id,
        )  # fmt: skip
        hand.result = str(row.id)
        if hand.takes_place:
            task.done += 1
            task.state = "done" if task.done >= task.wanted else task.state
        return demonstration_of_row(session, row)

    def _demonstration(
        self,
        session: Session,
        task: schema.Task,
        person: schema.Account,
        text: str,
        source: str,
        settings: Settings,
        *,
        supersedes: int | None = None,
        judgement_id: str | None = None,
    ) -> schema.Demonstration:
        row = schema.Demonstration(
            prompt_id=task.prompt_id, text=text, source=source, handle=person.handle, task_id=task.id,
            judgement_id=judgement_id, created=self._stamp(), supersedes=supersedes,
            standing="proposed" if settings.review_demonstrations else "accepted",
        )  # fmt: skip
        session.add(row)
        session.flush()
        if settings.review_demonstrations:
            session.add(
                schema.Task(
                    key=content_hash(["review", row.id]), kind="review", prompt_id=row.prompt_id, responses=[],
                    draft=text, demonstration_id=row.id, author=person.handle, round=task.round, is_gold=False,
                    sensitive=task.sensitive, score=0.0, place=row.id, shown=None, reserved=False, since=1,
                    state="open", wanted=1, taken=0, done=0,
                )
            )  # fmt: skip
        return row

    def _edited(
        self,
        session: Session,
        judgement: Judgement,
        task: schema.Task,
        person: schema.Account,
        settings: Settings,
    ) -> None:
        """Edited responses of a ranking are demonstrations; in a correction, those that stayed as they were stay."""
        kept: set[str] = set()
        # One that stayed is of the judgement in which it was edited, however many have superseded that since.
        before = schema.Demonstration.judgement_id.in_(_superseded_by(session, judgement))
        for row in session.scalars(select(schema.Demonstration).where(before, ~WITHDRAWN)).all():
            if row.text in judgement.edited.values():
                kept.add(row.text)
            else:
                self._withdraw(session, row)
        for text in dict.fromkeys(judgement.edited.values()):
            if text not in kept:
                self._demonstration(session, task, person, text, FROM_EDIT, settings, judgement_id=judgement.id)

    def _reviewed(
        self, session: Session, hand: schema.HandOut, task: schema.Task, person: schema.Account, answer: Answer
    ) -> Demonstration | None:
        row = session.get_one(schema.Demonstration, task.demonstration_id)
        if answer.verdict is None:
            raise BadAnswer("accept it, reject it, or amend it")
        if answer.verdict == "amend" and not answer.text.strip():
            raise BadAnswer("the amended answer is empty")
        for amended in session.scalars(select(schema.Demonstration).where(schema.Demonstration.supersedes == row.id)):
            if amended.handle == person.handle:  # of his first review, which this one corrects
                amended.standing = "superseded"
        session.add(
            schema.Review(demonstration_id=row.id, handle=person.handle, verdict=answer.verdict, created=self._stamp())
        )
        standing: dict[str, Standing] = {"accept": "accepted", "reject": "rejected", "amend": "superseded"}
        row.standing = standing[answer.verdict]
        result = row
        if answer.verdict == "amend":
            result = schema.Demonstration(
                prompt_id=row.prompt_id, text=answer.text, source=f"{row.source}, amended", handle=person.handle,
                task_id=task.id, created=self._stamp(), supersedes=row.id, standing="accepted",
            )  # fmt: skip
            session.add(result)
            session.flush()
        hand.result = str(result.id)
        if hand.takes_place:
            task.done += 1
        task.state = "done"
        return None if answer.verdict == "reject" else demonstration_of_row(session, result)

    def _withdraw(self, session: Session, row: schema.Demonstration) -> None:
        """It is replaced, and what a reviewer made of it too: nobody need review it any more, or correct his review."""
        row.standing = "superseded"
        session.execute(
            update(schema.Demonstration).where(schema.Demonstration.supersedes == row.id).values(standing="superseded")
        )
        session.execute(
            update(schema.Task)
            .where(schema.Task.demonstration_id == row.id, schema.Task.state == "open")
            .values(state="closed")
        )
        reviews = select(schema.Task.id).where(schema.Task.demonstration_id == row.id)
        session.execute(
            update(schema.HandOut)
            .where(schema.HandOut.task_id.in_(reviews), schema.HandOut.state == "live")
            .values(state="released")
        )


def is_withdrawn(session: Session, number: int | None) -> bool:
    of_it = select(schema.Demonstration.id).where(schema.Demonstration.id == number)
    return session.scalar(of_it.where(WITHDRAWN)) is not None


def _superseded_by(session: Session, judgement: Judgement) -> list[str]:
    """The ids of what it corrects, of what that corrected, and so on."""
    found: list[str] = []
    last = judgement.supersedes
    while last is not None:
        found.append(last)
        last = session.scalar(select(schema.Judgement.supersedes).where(schema.Judgement.id == last))
    return found


def _earlier(session: Session, hand: schema.HandOut) -> schema.Demonstration | None:
    """The demonstration that this hand-out corrects."""
    if hand.corrects is None:
        return None
    before = session.scalars(select(schema.HandOut).where(schema.HandOut.token == hand.corrects)).one()
    return None if before.result is None else session.get_one(schema.Demonstration, int(before.result))
