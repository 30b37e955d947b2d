"""What comes back from people: judgements, demonstrations, reviews, and what each of them sets off."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import exists, select, update
from sqlalchemy.orm import Session, aliased

from plaudit.data.formats import clean_text, content_hash, judgement_id
from plaudit.data.judgements import check_ranking
from plaudit.feedback import schema
from plaudit.feedback.demonstrations import WITHDRAWN, Demonstrations, is_withdrawn
from plaudit.feedback.orders import agreement, signs
from plaudit.feedback.queue import display_order_of, newest_round, responses_in
from plaudit.feedback.records import Answer, BadAnswer, HandOut, LeaseLost, NotYours, Settings
from plaudit.feedback.rows import (
    demonstration_of_row,
    judgement_fields,
    judgements_of,
    prompt_of_row,
    put_prompts,
    put_responses,
    response_id,
    responses_of,
)
from plaudit.types import Demonstration, InputError, Judgement, Prompt, Response

TAKEN = "this task ran out, and somebody else has it now; take the next one"
RECALLED = "the guideline has changed since this task was handed to you; it will come again"


class Submissions(Demonstrations):
    def submit(self, account: int, token: str, answer: Answer) -> Judgement | Demonstration | None:
        """Writes down what a person says, on the disk when this returns.

        The same token again gives the first result, whatever the answer holds. A lease that ran out is accepted while
        nobody else has the place; LeaseLost otherwise. BadAnswer says what is missing.
        """
        with self.store.write() as session:
            person = self._person(session, account)
            hand = session.scalar(select(schema.HandOut).where(schema.HandOut.token == token).with_for_update())
            if hand is None or hand.account_id != account:
                raise NotYours("this task is not in your hands")
            if hand.state == "submitted":
                return _result(session, hand)
            task = session.get_one(schema.Task, hand.task_id, with_for_update=True)
            if task.kind == "review" and is_withdrawn(session, task.demonstration_id):
                raise LeaseLost("its author has written it anew since; take the next one")
            self._take_again(session, hand, task)
            answer = _clean(answer)
            settings = self._settings(session)
            if task.kind in ("demonstration", "review"):
                result = self._written(session, hand, task, person, answer, settings)
            else:
                result = self._judged(session, hand, task, person, answer, settings)
            hand.state, hand.seconds, hand.submitted = "submitted", answer.seconds, self.clock().timestamp()
            return result

    def undo(self, account: int) -> HandOut | None:
        """His newest submission once more; what he submits then supersedes it. None: there is nothing (left)."""
        with self.store.write(durable=False) as session:
            self._person(session, account)
            his, later = schema.HandOut, aliased(schema.HandOut)
            taken_back = exists().where(later.corrects == his.token, later.state.in_(("live", "submitted")))
            reviewed = schema.Demonstration.id == schema.Task.demonstration_id
            statement = (
                select(his)
                .join(schema.Task, schema.Task.id == his.task_id)
                .where(his.account_id == account, his.state == "submitted", his.result.is_not(None), ~taken_back)
                .where(~exists().where(reviewed, WITHDRAWN))
                .where(his.guideline_version >= schema.Task.since)
                .order_by(his.submitted.desc(), his.ordinal.desc())
                .limit(1)
            )
            earlier = session.scalar(statement)
            if earlier is None:
                return None
            task = session.get_one(schema.Task, earlier.task_id)
            hand = self._new_hand(session, account, task, self._settings(session))
            hand.purpose, hand.takes_place, hand.corrects = earlier.purpose, False, earlier.token
            hand.display_order = earlier.display_order
            session.add(hand)
            session.flush()
            return self._shown(session, hand)

    def propose(self, account: int, prompt: Prompt, responses: Sequence[Response]) -> HandOut:
        """A task of his own making: his prompt and the model's responses, for him alone to rank."""
        if len({one.text for one in responses}) < 2:
            raise BadAnswer("the responses are all the same: there is nothing to rank")
        with self.store.write() as session:
            person = self._person(session, account)
            settings = self._settings(session)
            put_prompts(session, [prompt])
            put_responses(session, [(prompt, responses)])
            task = schema.Task(
                key=content_hash(["live", person.handle, person.drawn]), kind="live", prompt_id=prompt.id,
                responses=[response_id(prompt, one) for one in responses], draft="", author=person.handle,
                round=newest_round(session), is_gold=False, sensitive=False, score=0.0, place=0, since=1,
                shown=None, reserved=False, state="open", wanted=1, taken=0, done=0,
            )  # fmt: skip
            session.add(task)
            session.flush()
            return self._shown(session, self._lease(session, person, task, "work", settings))

    # -- judgements ---------------------------------------------------------------------------------------------

    def _take_again(self, session: Session, hand: schema.HandOut, task: schema.Task) -> None:
        """A hand-out that ran out or was given back gets its place again, if there is one."""
        others = (schema.HandOut.corrects == hand.corrects, schema.HandOut.token != hand.token)
        if hand.corrects is not None:
            if session.scalar(select(schema.HandOut.token).where(*others, schema.HandOut.state == "submitted")):
                raise LeaseLost("you have corrected this answer already")
            # Of one answer there is one correction: what lies in another tab of his comes to nothing.
            lying = schema.HandOut.state.in_(("live", "expired"))
            session.execute(update(schema.HandOut).where(*others, lying).values(state="released"))
        if hand.state == "live":
            return
        if hand.state == "recalled" or hand.guideline_version < task.since:
            raise LeaseLost(RECALLED)
        other = session.scalar(
            select(schema.HandOut).where(
                schema.HandOut.account_id == hand.account_id, schema.HandOut.task_id == task.id,
                schema.HandOut.state.in_(("live", "submitted")), schema.HandOut.takes_place == hand.takes_place,
                schema.HandOut.corrects.is_(None), schema.HandOut.guideline_version >= task.since,
            )
        ) if hand.corrects is None else None  # fmt: skip
        if other is not None and other.state == "submitted":
            raise LeaseLost("you have answered this task already")
        if task.state == "disputed" and hand.takes_place and hand.purpose != "adjudication":
            raise LeaseLost(TAKEN)  # the place that is left is for whoever decides
        if other is not None:  # the same task in another tab of his: its place is his
            other.state = "released"
        elif hand.takes_place:
            if task.taken >= task.wanted or task.state in ("done", "closed"):
                raise LeaseLost(TAKEN)
            task.taken += 1

    def _judged(
        self,
        session: Session,
        hand: schema.HandOut,
        task: schema.Task,
        person: schema.Account,
        answer: Answer,
        settings: Settings,
    ) -> Judgement:
        _check(answer, len(hand.display_order), settings)
        earlier = None
        if hand.corrects is not None:
            earlier = session.scalars(select(schema.HandOut).where(schema.HandOut.token == hand.corrects)).one()
        judgement = self._judgement(session, hand, task, person, answer, settings, earlier and earlier.result)
        session.add(
            schema.Judgement(task_id=task.id, purpose=hand.purpose, round=task.round, **judgement_fields(judgement))
        )
        session.flush()
        if judgement.rationale:
            session.add(schema.Rationale(judgement_id=judgement.id, text=judgement.rationale))
        hand.result = judgement.id
        if hand.purpose in ("work", "adjudication"):
            self._edited(session, judgement, task, person, settings)
        session.flush()
        if hand.takes_place:
            task.done += 1
        if hand.purpose == "gold":
            self._qualify(session, person, settings)
        else:
            self._settle(session, task, settings)
        return judgement

    def _judgement(
        self,
        session: Session,
        hand: schema.HandOut,
        task: schema.Task,
        person: schema.Account,
        answer: Answer,
        settings: Settings,
        supersedes: str | None,
    ) -> Judgement:
        prompt = prompt_of_row(session.get_one(schema.Prompt, task.prompt_id))
        responses = responses_of(session, responses_in(hand, task))
        said = judgement_id(
            prompt, responses, answer.ranking, settings.objective, person.handle, answer.flags,
            unordered=answer.unordered,
        )  # fmt: skip
        return Judgement(
            # Of the hand-out too: who says the same of the same twice has judged twice.
            id=content_hash([said, hand.token])[:16],
            prompt=prompt,
            responses=responses,
            ranking=answer.ranking,
            unordered=answer.unordered,
            objective=settings.objective,
            strength=answer.strength,
            flags=answer.flags,
            ratings=answer.ratings,
            rationale=answer.rationale,
            edited=answer.edited,
            display_order=display_order_of(hand),
            annotator=person.handle,
            guideline_version=str(hand.guideline_version),
            seconds=answer.seconds,
            created=self._stamp(),
            supersedes=supersedes,
        )

    def _settle(self, session: Session, task: schema.Task, settings: Settings) -> None:
        """A task whose places are filled is done, or disputed where its judgements disagree too much."""
        if task.state not in ("open", "disputed") or task.done < task.wanted:
            return
        task_is_new = task.state == "open" and task.kind == "ranking"
        task.state = "done"
        if task_is_new and settings.adjudicate_below is not None:
            said = [row.said for row in _standing(session, task)]
            share = agreement([signs(one["ranking"], one.get("unordered", ())) for one in said])
            if share is not None and share < settings.adjudicate_below:
                task.state, task.wanted = "disputed", task.wanted + 1


def _standing(session: Session, task: schema.Task) -> Sequence[schema.Judgement]:
    """The judgements of a task that count: no repeats, none corrected, none of a guideline that was called back."""
    later = aliased(schema.Judgement)
    statement = select(schema.Judgement).where(
        schema.Judgement.task_id == task.id,
        schema.Judgement.purpose == "work",
        ~exists().where(later.supersedes == schema.Judgement.id),
    )
    return [row for row in session.scalars(statement) if int(row.guideline_version) >= task.since]


def _result(session: Session, hand: schema.HandOut) -> Judgement | Demonstration | None:
    if hand.result is None:
        return None
    kind = session.get_one(schema.Task, hand.task_id).kind
    if kind in ("demonstration", "review"):
        row = session.get_one(schema.Demonstration, int(hand.result))
        return None if row.standing == "rejected" and kind == "review" else demonstration_of_row(session, row)
    judged = session.scalars(select(schema.Judgement).where(schema.Judgement.id == hand.result)).one()
    return judgements_of(session, [judged])[0]


def _clean(answer: Answer) -> Answer:
    """No characters in it that a tokenizer or a database cannot take."""
    return replace(
        answer,
        rationale=clean_text(answer.rationale).strip(),
        text=clean_text(answer.text),
        edited={index: clean_text(text) for index, text in answer.edited.items()},
        seconds=max(0.0, answer.seconds) if math.isfinite(answer.seconds) else 0.0,
    )


def _check(answer: Answer, count: int, settings: Settings) -> None:
    unranked = {"skip", "all_bad"} & set(answer.flags)
    if "skip" in answer.flags and answer.ranking:
        raise BadAnswer("skipped, and ranked too: it is one or the other")
    if not answer.ranking and not unranked:
        raise BadAnswer("every response needs a rank: or skip the task, or say that all are bad")
    try:
        check_ranking(answer.ranking, count, "your answer", unordered=answer.unordered)
    except InputError as error:
        raise BadAnswer(str(error)) from error
    if answer.unordered and settings.ask == "ranking":
        raise BadAnswer("every response needs a rank of its own, or a tie: this project asks for whole rankings")
    unknown = sorted(set(answer.ratings) - set(settings.aspects))
    if unknown:
        raise BadAnswer(f"the aspect {unknown[0]!r} is not asked for in this project")
    for aspect, ratings in answer.ratings.items():
        if len(ratings) != count:
            raise BadAnswer(f"{aspect}: {len(ratings)} ratings for {count} responses")
        if any(one is not None and not math.isfinite(one) for one in ratings):
            raise BadAnswer(f"{aspect}: a rating is no number")
    if answer.strength is not None and not math.isfinite(answer.strength):
        raise BadAnswer("the strength is no number")
    for index, text in answer.edited.items():
        if not 0 <= index < count:
            raise BadAnswer(f"there is no response {index} to edit")
        if not text.strip():
            raise BadAnswer("an edited response is empty")
