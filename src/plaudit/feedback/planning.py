"""Putting work on the desk: tasks, gold, scores, guidelines, settings, judgements of an earlier log."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from random import Random
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Table, bindparam, exists, func, insert, or_, select, update
from sqlalchemy.orm import Session

from plaudit.data.formats import content_hash
from plaudit.data.judgements import check_ranking
from plaudit.feedback import schema
from plaudit.feedback.accounts import IMPORTED, PERSON
from plaudit.feedback.collect import drawn
from plaudit.feedback.orders import Ranking
from plaudit.feedback.queue import in_round, newest_round
from plaudit.feedback.records import BadAnswer, Chosen, Guideline, OpenRanking, Settings, TaskKind
from plaudit.feedback.room import Room
from plaudit.feedback.rows import (
    judgement_fields,
    put_new,
    put_prompts,
    put_responses,
    response_id,
    texts_of,
)
from plaudit.types import MOST_RANKED, Judgement, Prompt, Response

RANGES: Mapping[str, tuple[float, float]] = {
    "overlap": (1, 1000),
    "lease_seconds": (10, 7 * 86400),
    "gold_share": (0, 0.9),
    "repeat_share": (0, 0.9),
    "qualification": (0, 1000),
    "qualification_pass": (0, 1),
    "adjudicate_below": (0, 1),
    "quota": (1, 10**9),
    "random_share": (0, 0.9),
    "shown": (2, MOST_RANKED),
}
"""Of the settings that are numbers: the least and the most."""
_AT_ONCE = 500


class Planning(Room):
    # -- tasks --------------------------------------------------------------------------------------------------

    def add_tasks(
        self,
        kind: TaskKind,
        tasks: Iterable[tuple[Prompt, Sequence[Response]]],
        *,
        round: int = 0,
        sensitive: bool = False,
    ) -> list[int]:
        """Tasks to rank (or to compare blind), each with as many places as the overlap. Returns their ids.

        The same task again is the same task, open again where it was closed and its round is still the newest.
        Rankings of a later round close what is open of earlier ones.
        """
        tasks = [(prompt, list(responses)) for prompt, responses in tasks]
        with self.store.write() as session:
            settings = self._settings(session)
            put_prompts(session, [prompt for prompt, _ in tasks])
            put_responses(session, tasks)
            rows = [
                self._task_row(settings, kind, prompt, responses, round=round, sensitive=sensitive)
                | {"wanted": settings.overlap}
                for prompt, responses in tasks
            ]
            if kind == "ranking":
                session.execute(
                    update(schema.Task)
                    .where(schema.Task.kind == "ranking", schema.Task.round < round, ~schema.Task.is_gold)
                    .where(schema.Task.state.in_(("open", "disputed")))
                    .values(state="closed")
                )
            ids = self._put_tasks(session, rows)
            if kind == "ranking" and round == newest_round(session):
                _open_again(session, ids, settings)
            return ids

    def add_gold(
        self, tasks: Iterable[tuple[Prompt, Sequence[Response], Ranking]], *, sensitive: bool = False
    ) -> list[int]:
        """Rankings whose answer is known. They measure annotators and teach no judge."""
        tasks = [(prompt, list(responses), ranking) for prompt, responses, ranking in tasks]
        for prompt, responses, ranking in tasks:
            check_ranking(ranking, len(responses), f"gold task, prompt {prompt.id}")
            if len(responses) > MOST_RANKED:
                raise BadAnswer(
                    f"gold task, prompt {prompt.id}: {len(responses)} responses, of which people rank at most "
                    f"{MOST_RANKED} at a time; leave some out"
                )
            if len(ranking) < 2:
                raise BadAnswer(f"gold task, prompt {prompt.id}: its answer ties everything, so nothing can be wrong")
        with self.store.write() as session:
            settings = self._settings(session)
            put_prompts(session, [prompt for prompt, _, _ in tasks])
            put_responses(session, [(prompt, responses) for prompt, responses, _ in tasks])
            rows = [
                self._task_row(
                    settings, "ranking", prompt, responses, sensitive=sensitive, gold=[list(g) for g in ranking]
                )
                for prompt, responses, ranking in tasks
            ]
            self._record(session, "gold tasks added", None, {"tasks": len(rows)})
            return self._put_tasks(session, rows)

    def add_demonstration_tasks(
        self, tasks: Iterable[tuple[Prompt, str]], *, sensitive: bool = False, limit: int | None = None
    ) -> list[int]:
        """Prompts to answer, each with a draft to better ("": from scratch). One answer each.

        `limit`: none are added beyond so many open ones.
        """
        tasks = list(tasks)
        with self.store.write() as session:
            if limit is not None:
                is_open = (schema.Task.kind == "demonstration", schema.Task.state == "open")
                there = session.scalar(select(func.count()).select_from(schema.Task).where(*is_open)) or 0
                tasks = tasks[: max(0, limit - there)]
            settings = self._settings(session)
            put_prompts(session, [prompt for prompt, _ in tasks])
            rows = [
                self._task_row(settings, "demonstration", prompt, [], draft=draft, sensitive=sensitive) | {"wanted": 1}
                for prompt, draft in tasks
            ]
            return self._put_tasks(session, rows)

    def newest_round(self) -> int:
        """Of the tasks there are; 0 where there are none."""
        with self.store.read() as session:
            return session.scalar(select(func.max(schema.Task.round))) or 0

    def queued(self, what: str) -> str | None:
        """The hash of what was taken in under this name (a round's responses, a log)."""
        with self.store.read() as session:
            return session.get_one(schema.Project, 1).queued.get(what)

    def mark_queued(self, what: str, digest: str) -> None:
        with self.store.write() as session:
            project = session.get_one(schema.Project, 1, with_for_update=True)
            project.queued = project.queued | {what: digest}

    def close_other_rankings(self, round: int, tasks: Iterable[tuple[Prompt, Sequence[Response]]]) -> None:
        """Open rankings of this round that are not among these: their responses were sampled anew since."""
        with self.store.write() as session:
            settings = self._settings(session)
            kept = {self._task_row(settings, "ranking", p, r, round=round)["key"] for p, r in tasks}
            statement = select(schema.Task).where(
                schema.Task.round == round, schema.Task.kind == "ranking", ~schema.Task.is_gold
            )
            for task in session.scalars(statement.where(schema.Task.state.in_(("open", "disputed")))):
                if task.key not in kept:
                    task.state = "closed"

    def open_rankings(self, round: int) -> list[OpenRanking]:
        """The rankings of a round that have a place to fill, gold not among them."""
        with self.store.read() as session:
            task = schema.Task
            statement = select(task).where(in_round(round), task.state == "open", task.taken < task.wanted)
            rows = session.scalars(statement.order_by(task.place)).all()
            prompts, responses = texts_of(session, rows)
            return [
                OpenRanking(
                    id=row.id,
                    prompt=prompts[row.prompt_id],
                    responses=tuple(responses[id] for id in row.responses),
                    begun=row.taken > 0,
                )
                for row in rows
            ]

    def plan(self, chosen: Sequence[Chosen]) -> None:
        """What comes when the order is active: the highest score first, with these responses shown. Tasks that anybody
        has, or had, in hands keep the responses that they have: he may still answer, and others judge the same."""
        with self.store.read() as session:
            known = dict(session.execute(select(schema.Task.id, schema.Task.responses)).all())
        for one in chosen:
            if one.task not in known:
                raise BadAnswer(f"there is no task {one.task} to plan")
            if one.shown is not None:
                _check_shown(one.shown, len(known[one.task]), one.task)
        task = cast(Table, schema.Task.__table__)
        is_it = task.c.id == bindparam("task")
        ordered = update(task).where(is_it).values(score=bindparam("told"), reserved=bindparam("apart"))
        handed = exists().where(schema.HandOut.task_id == task.c.id)
        showing = update(task).where(is_it, ~handed).values(shown=bindparam("some"))
        for start in range(0, len(chosen), _AT_ONCE):  # in parts, so that nobody's answer waits for long
            # By number, as everybody locks tasks: or two would wait for each other.
            part = sorted(chosen[start : start + _AT_ONCE], key=lambda one: one.task)
            some = [{"task": one.task, "some": sorted(one.shown)} for one in part if one.shown is not None]
            with self.store.write() as session:
                connection = session.connection()
                connection.execute(
                    ordered, [{"task": one.task, "told": one.score, "apart": one.reserved} for one in part]
                )
                if some:
                    connection.execute(showing, some)

    def set_sensitive(self, task: int, sensitive: bool, *, by: int | None = None) -> None:
        """Whether its texts are blurred until somebody asks for them."""
        with self.store.write() as session:
            session.execute(update(schema.Task).where(schema.Task.id == task).values(sensitive=sensitive))
            self._record(session, "task flagged", by, {"task": task, "sensitive": sensitive})

    def _task_row(
        self,
        settings: Settings,
        kind: TaskKind,
        prompt: Prompt,
        responses: Sequence[Response],
        *,
        draft: str = "",
        round: int = 0,
        sensitive: bool = False,
        gold: list[list[int]] | None = None,
    ) -> dict[str, Any]:
        ids = [response_id(prompt, one) for one in responses]
        key = content_hash([kind, prompt.id, ids, draft, gold])
        if kind == "contest" or gold is not None:
            # Whoever reads the page's source sees the stored order: it must not tell which is whose, or the best.
            order = _shuffled(len(ids), settings.seed, prompt)
            ids = [ids[index] for index in order]
            gold = None if gold is None else [sorted(order.index(index) for index in group) for group in gold]
        many = settings.shown or MOST_RANKED
        shown = list(drawn(len(ids), many, settings.seed, prompt)) if kind == "ranking" else None
        if gold is not None or shown == [*range(len(ids))]:
            shown = None
        return {
            "key": key, "kind": kind, "prompt_id": prompt.id, "responses": ids, "draft": draft,
            "demonstration_id": None, "author": None, "round": round, "is_gold": gold is not None, "gold": gold,
            "sensitive": sensitive, "score": 0.0, "place": _place(settings.seed, key), "since": 1, "state": "open",
            "shown": shown, "reserved": False,
            "wanted": 0, "taken": 0, "done": 0,
        }  # fmt: skip

    def _put_tasks(self, session: Session, rows: Sequence[Mapping[str, Any]]) -> list[int]:
        keys = [row["key"] for row in rows]
        known = _ids(session, keys)
        new = {row["key"]: dict(row) for row in rows if row["key"] not in known}
        if new:
            session.execute(insert(schema.Task), list(new.values()))
            self._record(session, "tasks added", None, {"tasks": len(new), "kind": rows[0]["kind"]})
        ids = _ids(session, keys)
        return [ids[key] for key in keys]

    def take_over(self, judgements: Sequence[Judgement], *, kind: str) -> int:
        """Judgements made elsewhere, each once; `kind` says who made them. Returns how many are new.

        BadAnswer where some are imported of an annotator whose judgements do not count in this project.
        """
        with self.store.write() as session:
            if kind == IMPORTED:
                _check_counted(session, {one.annotator for one in judgements})
            known = set(session.scalars(select(schema.Judgement.id)))
            new = {one.id: one for one in judgements if one.id not in known}
            put_prompts(session, [one.prompt for one in new.values()])
            put_responses(session, [(one.prompt, one.responses) for one in new.values()])
            put_new(session, schema.Annotator, [{"handle": h, "kind": kind} for h in {j.annotator for j in judgements}])
            rows = [
                judgement_fields(one) | {"task_id": None, "purpose": "taken_over", "round": 0} for one in new.values()
            ]
            for start in range(0, len(rows), _AT_ONCE):
                session.execute(insert(schema.Judgement), rows[start : start + _AT_ONCE])
            reasons = [{"judgement_id": one.id, "text": one.rationale} for one in new.values() if one.rationale]
            put_new(session, schema.Rationale, reasons)
            if new:
                self._record(session, "judgements taken over", None, {"judgements": len(new), "kind": kind})
            return len(new)

    # -- guidelines and settings --------------------------------------------------------------------------------

    def guideline(self) -> Guideline:
        with self.store.read() as session:
            return self._guideline(session)

    def guidelines(self) -> list[Guideline]:
        """Every version, the newest first."""
        with self.store.read() as session:
            rows = session.scalars(select(schema.Guideline).order_by(schema.Guideline.version.desc()))
            return [Guideline(version=row.version, text=row.text, created=row.created) for row in rows]

    def publish_guideline(self, text: str, *, recall: bool = False, by: int | None = None) -> Guideline:
        """A new version. With `recall`, rankings of the newest round are asked for again under it: what was said under
        older versions stays in the store and counts no more."""
        with self.store.write() as session:
            project = session.get_one(schema.Project, 1, with_for_update=True)
            project.guideline = version = project.guideline + 1
            session.add(schema.Guideline(version=version, text=text, created=self._stamp(), recalls=recall))
            session.flush()
            if recall:
                _call_back(session, version, self._settings(session).overlap)
            self._record(session, "guideline published", by, {"version": version, "recall": recall})
            return self._guideline(session)

    def settings(self) -> Settings:
        with self.store.read() as session:
            return self._settings(session)

    def change_settings(self, changes: Mapping[str, object], *, by: int | None = None) -> Settings:
        """The settings with these fields changed; a new overlap holds for the open tasks too. BadAnswer names a field
        that cannot be."""
        with self.store.write() as session:
            old = self._settings(session)
            new = _checked(asdict(old) | dict(changes))
            project = session.get_one(schema.Project, 1, with_for_update=True)
            project.settings = asdict(new)
            if new.overlap != old.overlap:
                _give_places(session, new.overlap)
            if new != old:
                changed = {k: v for k, v in asdict(new).items() if v != asdict(old)[k]}
                self._record(session, "settings changed", by, changed)
            return new

    def apply_recipe(self, said: Mapping[str, object]) -> Settings:
        """Settings as a recipe has them. Only what it says anew is a change: the rest may have been set on the page."""
        plain = cast("dict[str, Any]", json.loads(json.dumps(said)))
        with self.store.read() as session:
            before = session.get_one(schema.Project, 1).recipe
        changes = {key: value for key, value in plain.items() if key not in before or before[key] != value}
        if not changes:
            return self.settings()
        changed = self.change_settings(changes)
        with self.store.write() as session:
            session.get_one(schema.Project, 1).recipe = plain
        return changed


def _check_counted(session: Session, handles: set[str]) -> None:
    others = select(schema.Annotator).where(schema.Annotator.kind.not_in((PERSON, IMPORTED)))
    for row in session.scalars(others.order_by(schema.Annotator.handle)):
        if row.handle in handles:
            raise BadAnswer(
                f"{row.handle} is {row.kind} in this run, and people's rankings alone count here; if another is meant, "
                "give the annotator of these rankings another name"
            )


def _place(seed: int, key: str) -> int:
    """Its place in the random order, whatever the order in which tasks come."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{key}".encode()).digest()[:4]) >> 1


def _shuffled(count: int, seed: int, prompt: Prompt) -> list[int]:
    order = list(range(count))
    Random(f"stored {seed} {prompt.id}").shuffle(order)
    return order


def _check_shown(shown: Sequence[int], count: int, task: int) -> None:
    if len(set(shown)) < 2 or len(set(shown)) != len(shown) or not set(shown) <= {*range(count)}:
        raise BadAnswer(f"task {task}: it has {count} responses, of which {list(shown)} cannot be shown")


def _ids(session: Session, keys: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for start in range(0, len(keys), _AT_ONCE):
        part = keys[start : start + _AT_ONCE]
        found |= dict(session.execute(select(schema.Task.key, schema.Task.id).where(schema.Task.key.in_(part))).all())
    return found


def _open_again(session: Session, ids: Sequence[int], settings: Settings) -> None:
    """Rankings of the newest round that were closed, with the places that the settings give them now."""
    task = schema.Task
    closed = select(task).where(in_round(newest_round(session)), task.state == "closed").with_for_update()
    for start in range(0, len(ids), _AT_ONCE):
        for row in session.scalars(closed.where(task.id.in_(ids[start : start + _AT_ONCE])).order_by(task.id)):
            # One place more than the overlap is an adjudicator's: it was closed before he had decided.
            if settings.adjudicate_below is not None and row.wanted == row.done + 1 > settings.overlap:
                row.state = "disputed"
            else:
                row.wanted = max(settings.overlap, row.taken)
                row.state = "done" if row.done >= row.wanted else "open"


def _call_back(session: Session, version: int, overlap: int) -> None:
    """Every ranking of the newest round begins anew; what is in people's hands is taken from them, gold too, which
    looks like any other."""
    task, ours = schema.Task, in_round(newest_round(session))
    rankings = select(task.id).where(or_(ours, task.is_gold), task.state != "closed")
    session.execute(
        update(schema.HandOut)
        .where(schema.HandOut.state == "live", schema.HandOut.task_id.in_(rankings))
        .values(state="recalled")
    )
    session.execute(
        update(task)
        .where(ours, task.state != "closed")
        .values(since=version, state="open", taken=0, done=0, wanted=overlap)
    )


def _give_places(session: Session, overlap: int) -> None:
    """More places make a done ranking open again; fewer are never less than what is taken."""
    task = schema.Task
    newest = select(task.round).where(task.kind == "ranking").order_by(task.round.desc()).limit(1).scalar_subquery()
    ours = (task.kind == "ranking", ~task.is_gold, task.round == newest)
    session.execute(update(task).where(*ours, task.state == "done", task.done < overlap).values(state="open"))
    session.execute(update(task).where(*ours, task.state == "open", task.taken <= overlap).values(wanted=overlap))
    session.execute(update(task).where(*ours, task.state == "open", task.taken > overlap).values(wanted=task.taken))
    session.execute(update(task).where(*ours, task.state == "open", task.done >= task.wanted).values(state="done"))


def _checked(values: Mapping[str, object]) -> Settings:
    known = [field.name for field in fields(Settings)]
    for name in values:
        if name not in known:
            raise BadAnswer(f"there is no setting {name!r}; there are {', '.join(known)}")
    try:
        settings = TypeAdapter(Settings).validate_json(json.dumps(values), strict=True)
    except (ValidationError, TypeError, ValueError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        raise BadAnswer(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error
    for name, (least, most) in RANGES.items():
        value = getattr(settings, name)
        if value is not None and not least <= value <= most:
            raise BadAnswer(f"{name}: {value} is not within {least:g} to {most:g}")
    if settings.gold_share + settings.repeat_share > 0.9:
        raise BadAnswer("gold_share and repeat_share: together more than 0.9, so little real work would be done")
    if settings.adjudicate_below is not None and settings.overlap < 2:
        raise BadAnswer("adjudicate_below: needs an overlap of 2 or more, or nobody disagrees")
    return settings
