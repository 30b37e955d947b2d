"""Where a run's rankings and demonstrations come from: files, simulated annotators, or people at the desk.

People go on working while a run trains. So what they have said when a round's collecting ends is written down once,
and the run keeps to it, whatever they add; the verbs of single acts (`plaudit sample`, `plaudit sft`) take it up anew.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from plaudit.data.conversation import clean_text
from plaudit.data.formats import (
    append_judgements,
    content_hash,
    current_judgements,
    read_judgements,
    read_log,
    why_useless,
)
from plaudit.data.responses import by_prompt, distinct_responses
from plaudit.data.split import split_by_prompt
from plaudit.feedback.accounts import PERSON
from plaudit.feedback.collect import by_chance, collect_judgements, drawn
from plaudit.feedback.desk import Desk
from plaudit.feedback.project import LOG, RESPONSES, open_store, queue_round
from plaudit.feedback.records import Chosen, ProjectProgress
from plaudit.feedback.words import figures_to_dict, nobody_may_decide
from plaudit.material import Material
from plaudit.progress import Journal
from plaudit.recipe import Recipe
from plaudit.run_folder import Result, RunFolder, read_manifest, read_rows, write_json
from plaudit.types import Annotator, Demonstration, Estimate, InputError, Judgement, Prompt, Question, Response

FIGURES = (
    "tie_share", "agreement", "decided_agreement", "alpha", "kendall_tau", "ceiling", "first_preferred",
    "longer_preferred",
)  # fmt: skip
"""Of the labels as a whole, that go into the summary and the report."""
ASKED = "asked.json"
Task = tuple[Prompt, Sequence[Response]]
Shown = tuple[str, tuple[str, ...]]
"""A prompt's id, and the texts that are ranked, as a log has them, which cleans them when it is read."""
SECONDS_BETWEEN_LOOKS = 1.0
"""At the store, while people work."""


class Asks(Protocol):
    """What to ask as the judgements so far have it, in the order of asking: `count` questions or more, unless there are
    fewer tasks, which come in an order of chance."""

    def __call__(
        self, tasks: Sequence[Task], judgements: Sequence[Judgement], *, shown: int | None, count: int
    ) -> list[Question]: ...


class Labels:
    """Of one run. `fresh`: what people have done since it was last written down is taken up."""

    def __init__(self, recipe: Recipe, material: Material, folder: RunFolder, *, fresh: bool = False) -> None:
        self.recipe, self.material, self.folder, self.fresh = recipe, material, folder, fresh

    @property
    def by_people(self) -> bool:
        return self.recipe.feedback.annotators == "people"

    @cached_property
    def desk(self) -> Desk:
        return open_store(self.folder.path, self.recipe)

    @property
    def log(self) -> Path:
        return self.folder.path / LOG

    def responses(self, index: int) -> list[tuple[Prompt, list[Response]]]:
        """What was sampled in a round, prompt by prompt."""
        return by_prompt(read_rows(self.folder.path / f"round_{index}" / "responses" / RESPONSES))

    @property
    def made_by(self) -> str:
        """Who makes the rankings, in words."""
        feedback = self.recipe.feedback
        if self.recipe.data.preferences:
            return "files"
        words = {
            None: "simulated people of the world",
            "people": "people",
            "endpoint": f"the model {feedback.endpoint.model}",
            "stand_in": f"the reward {feedback.stand_in.reward}, with noise",
        }
        return words.get(feedback.annotators, f"{feedback.annotators}")

    # -- demonstrations -----------------------------------------------------------------------------------------

    def demonstrations(self) -> dict[int, Demonstration]:
        """What people wrote and others accepted, by number, where the recipe asks for it."""
        if not self.recipe.feedback.use_demonstrations:
            return {}
        accepted = self.desk.demonstrations()
        manifest = read_manifest(self.folder.path / "round_0" / "sft")
        before: Sequence[int] | None = manifest.get("labels", {}).get("demonstrations") if manifest else None
        if self.fresh or before is None or not set(before) <= accepted.keys():
            return accepted
        if newer := len(accepted) - len(before):
            self.folder.say(f"accepted since Act I was done: {newer} demonstrations; `plaudit sft` takes them up")
        return {number: accepted[number] for number in before}

    # -- rankings -----------------------------------------------------------------------------------------------

    def collect(self, index: int, asks: Asks) -> None:
        """A round's rankings, written down when this returns. An active order asks what to ask about."""
        if self.by_people:
            self._collect_from_people(index, asks)
            return
        tasks = [(p, distinct) for p, r in self.responses(index) if len(distinct := distinct_responses(r)) > 1]
        queue, many = self.recipe.feedback.queue, len(tasks)
        if queue.quota is not None:
            many = min(many, math.ceil(queue.quota / self.recipe.feedback.judgements_per_prompt))
        if queue.quota is not None or queue.order == "active":
            tasks.sort(key=lambda task: content_hash([self.recipe.seed, task[0].id]))
        if queue.order == "random" or not tasks:
            chosen = [self._some(task) for task in tasks[:many]]
            self._keep(index, {"asked": [_shown(task) for task in chosen]}, self._have_judged(chosen))
        else:
            self._collect_actively(index, tasks, many, asks)

    def _have_judged(self, tasks: Sequence[Task]) -> list[str]:
        """What the annotators say of these tasks, now or at an earlier start: its ids in the log."""
        said = collect_judgements(
            tasks,
            self.annotators,
            per_prompt=self.recipe.feedback.judgements_per_prompt,
            seed=self.recipe.seed,
            path=self.log,
            ask=self.recipe.feedback.queue.ask,
            costly=self.recipe.feedback.annotators == "endpoint",
        )
        return [one.id for one in said]

    def _keep(self, index: int, asked: Mapping[str, object], said: Sequence[str]) -> None:
        """Write down what a round's annotators were asked, and the ids of what they said. The log may hold more, of
        another queue, or of annotators with other settings."""
        write_json(self._asked_file(index), {**asked, "by": self._annotators_key(), "said": list(said)})

    def _said(self, index: int) -> list[str]:
        kept = _content(self._asked_file(index))
        if "said" not in kept:
            raise InputError(f"round {index} has no rankings yet: run `plaudit sample` (or `plaudit run`) first")
        if kept.get("by") != self._annotators_key():
            raise InputError(
                f"the rankings of round {index} were made under other settings of `feedback`: run `plaudit sample` "
                "(or `plaudit run`), which has them made as the recipe has it now"
            )
        return kept["said"]

    def _annotators_key(self) -> str:
        """Of what decides who says what: the queue, and the annotators as they are set."""
        feedback = self.recipe.feedback
        told = {"annotators", "judgements_per_prompt", "queue", "stand_in"}
        return content_hash([feedback.model_dump(mode="json", include=told), [a.name for a in self.annotators]])

    @cached_property
    def annotators(self) -> list[Annotator]:
        return self.material.annotators()

    def _asked_file(self, index: int) -> Path:
        return self.folder.path / f"round_{index}" / "asking" / ASKED

    def _usable(self, ids: Collection[str]) -> list[Judgement]:
        """Those of these that a judge can learn from."""
        logged = read_judgements(self.log, format="native").items if self.log.exists() else ()
        return [one for one in current_judgements(logged) if one.id in ids]

    def _some(self, task: Task) -> Task:
        """Of the responses as many as are shown at a time, chosen by nobody."""
        prompt, responses = task
        shown = drawn(len(responses), self.recipe.feedback.queue.shown, self.recipe.seed, prompt)
        return prompt, [responses[i] for i in shown]

    def _collect_actively(self, index: int, tasks: Sequence[Task], many: int, asks: Asks) -> None:
        """Stage by stage: the judge of the judgements so far says what to ask next. What is asked is written down
        before anybody is, so that a run that goes on asks the same, however its judge is trained by then."""
        queue, per_prompt = self.recipe.feedback.queue, self.recipe.feedback.judgements_per_prompt
        texts = [[prompt.id, [r.text for r in responses]] for prompt, responses in tasks]
        settings = [queue.model_dump(mode="json"), self.recipe.reward.held_out, per_prompt]
        key = content_hash([self.recipe.seed, texts, many, settings])
        kept = self._asked_file(index)
        whole = {prompt.id: (prompt, {clean_text(r.text): r for r in responses}) for prompt, responses in tasks}
        before, asked = _read_asked(kept, key), list[Shown]()
        said = [one for i in range(index) for one in self._said(i)]
        of_before = len(said)
        while (done := len(asked)) < many:
            upto = min(many, math.ceil(done * (1 + queue.again_after) if done else queue.first / per_prompt))
            if len(before) < upto:
                had = {prompt for prompt, _ in asked}
                left = [task for task in tasks if task[0].id not in had]
                judged = self._usable(set(said))
                before = asked + self._next_questions(left, judged, done, upto, asks)
                write_json(kept, {"key": key, "asked": before})
            now = before[done:upto]
            said += self._have_judged([(whole[p][0], [whole[p][1][text] for text in shown]) for p, shown in now])
            asked += now
        self._keep(index, {"key": key, "asked": asked}, said[of_before:])

    def _next_questions(
        self, left: Sequence[Task], judged: Sequence[Judgement], done: int, upto: int, asks: Asks
    ) -> list[Shown]:
        """Of a stage. What is held out from the judge is asked at random, in its share."""
        shown, share, seed = self.recipe.feedback.queue.shown, self.recipe.reward.held_out, self.recipe.seed
        chosen, reserved = split_by_prompt(left, share, seed, lambda task: task[0])
        at_random = min(len(reserved), round(upto * share) - round(done * share))
        at_random = max(at_random, upto - done - len(chosen))
        count = upto - done - at_random
        questions = asks(chosen, judged, shown=shown, count=count) if judged else by_chance(chosen, shown, seed)
        found = [self._some(task) for task in reserved[:at_random]]
        for one in questions[:count]:
            prompt, responses = chosen[one.place]
            found.append((prompt, [responses[i] for i in one.shown]))
        return [_shown(task) for task in found]

    def judgements(self, index: int, checkpoints: Iterable[str]) -> list[Judgement]:
        """Every ranking up to this round, of responses of these checkpoints; what is not used is counted."""
        if self.by_people:
            # They may be of an earlier checkpoint than the one that was sampled last: labels are dear.
            loaded = read_judgements(self._written(index), format="native")
            standing, unused = list(loaded.items), dict(loaded.left_out)
        else:
            loaded = read_judgements(self.log, format="native")
            known, annotators = set(checkpoints), {one.name for one in self.annotators}
            # Among a round's new answers may be one that PPO gave on its way, which is no checkpoint's.
            standing = [j for j in current_judgements(loaded.items) if any(r.checkpoint in known for r in j.responses)]
            strangers = sum(j.annotator not in annotators for j in standing)
            standing = [j for j in standing if j.annotator in annotators]
            said = {one for i in range(index + 1) for one in self._said(i)}
            due = [j for j in standing if j.id in said]
            standing, others = due, len(standing) - len(due)
            counts = {"not by the recipe's annotators": strangers, "not of the recipe's queue": others}
            unused = dict(loaded.left_out) | {reason: count for reason, count in counts.items() if count}
        sampled = [responses for i in range(index + 1) for _, responses in self.responses(i)]
        if unshown := sum(len(r) - len(distinct_responses(r)) for r in sampled):
            unused["response empty or said twice"] = unshown
        if unused:
            self.material.noted["left_out"]["rankings"] = unused
        return standing

    def ceiling(self, index: int) -> Estimate | None:
        """Of single labels, as the desk had it when a round's collecting ended: of all the work, and so of what an
        adjudicator has decided since, too."""
        figures = self.folder.done(f"round_{index}/judgements") or {}
        return None if figures.get("ceiling") is None else Estimate(**figures["ceiling"])

    def _written(self, index: int) -> Path:
        return self.folder.path / f"round_{index}" / "judgements" / LOG

    def _collect_from_people(self, index: int, asks: Asks) -> None:
        desk, name = self.desk, f"round_{index}/judgements"
        queue_round(desk, self.folder.path, index, self.recipe)

        def do(folder: Path, journal: Journal) -> Result:
            self._wait(index, journal, asks)
            said = desk.judgements(up_to_round=index)
            if not said:
                raise InputError("people have judged nothing that counts: `plaudit feedback report` says why")
            _write(folder / LOG, said)
            # What others have said in this run stays: an endpoint's judgements were paid for.
            logged = read_log(self.log)[0] if self.log.exists() else []
            mine = {one.id for one in said}
            others = [one for one in logged if not one.annotator.startswith(f"{PERSON}-") and one.id not in mine]
            _write(self.log, [*others, *said])
            made = {"judgements": len(said), "annotators": len({one.annotator for one in said})}
            found = figures_to_dict(desk.figures())
            return made | {key: found[key] for key in FIGURES}

        if self.fresh:
            self.folder.put_aside(name)
        sections = ("judgements_per_prompt", "queue", "people")
        feedback = self.recipe.feedback.model_dump(mode="json", include=set(sections))
        inputs: Mapping[str, object] = {
            "feedback": feedback,
            "responses": content_hash(self.folder.path / f"round_{index}" / "responses" / RESPONSES),
            "excluded": sorted(desk.excluded()),
        }
        self.folder.act(name, inputs, do, shared=False)

    def _wait(self, index: int, journal: Journal, asks: Asks) -> None:
        """Until the quota is met, or every task has its judgements. Meanwhile an active order is kept up to date."""
        now = self.desk.progress_all(index)
        if now.tasks == 0:
            raise InputError(f"round {index}: no two different responses to any prompt, so there is nothing to rank")
        if now.finished:
            return
        self.folder.announce(
            f"waiting for people: {_of(now)} judgements of round {index} are there; "
            f"`plaudit label {self.folder.path}` opens their page"
        )
        queue = self.recipe.feedback.queue
        due, stuck = queue.first, False
        with journal.bar("judgements", now.wanted) as advance:
            advance(now.done)
            while not now.finished:
                time.sleep(SECONDS_BETWEEN_LOOKS)
                before, now = now, self.desk.progress_all(index)
                advance(now.done - before.done)
                if now.undecidable and not stuck:
                    self.folder.announce(nobody_may_decide(now.undecidable))
                stuck = now.undecidable > 0
                if now.done >= due and not now.finished and self.desk.settings().order == "active":
                    self._plan(index, asks)
                    due = math.ceil(now.done * (1 + queue.again_after))
        self.folder.say(f"round {index}: {_of(now)} judgements, by people")

    def _plan(self, index: int, asks: Asks) -> None:
        """Have open tasks show what would teach the judge most; people go on working meanwhile."""
        judged = [j for j in self.desk.judgements(up_to_round=index) if why_useless(j) is None]
        share, seed = self.recipe.reward.held_out, self.recipe.seed
        rest, reserved = split_by_prompt(self.desk.open_rankings(index), share, seed, lambda task: task.prompt)
        chosen = [task for task in rest if not task.begun]
        if not chosen:
            return
        # People go on while the judge is trained: twice as many as come before it is asked again.
        count = 2 * math.ceil(len(judged) * self.recipe.feedback.queue.again_after)
        tasks = [(task.prompt, task.responses) for task in chosen]
        shown = {one.place: one.shown for one in asks(tasks, judged, shown=self.desk.settings().shown, count=count)}
        order = [*shown, *(place for place in range(len(chosen)) if place not in shown)]
        plan = [
            Chosen(task=chosen[place].id, score=float(len(order) - rank), shown=shown.get(place), reserved=False)
            for rank, place in enumerate(order)
        ]
        # What one person has judged comes first to the next: without that nobody could say how much people agree.
        first = float(len(order) + 1)
        plan += [Chosen(task=task.id, score=first, shown=None, reserved=False) for task in rest if task.begun]
        plan += [Chosen(task=task.id, score=0.0, shown=None, reserved=True) for task in reserved]
        self.desk.plan(plan)
        self.folder.say(f"after {len(judged)} judgements the judge was asked what to ask next")


def _shown(task: Task) -> Shown:
    prompt, responses = task
    return prompt.id, tuple(clean_text(response.text) for response in responses)


def _read_asked(kept: Path, key: str) -> list[Shown]:
    """What was asked; of a file with another key, or where there is none, nothing."""
    content = _content(kept)
    if content.get("key") != key:
        return []
    return [(prompt, tuple(texts)) for prompt, texts in content["asked"]]


def _content(kept: Path) -> dict[str, Any]:
    return json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}


def _of(progress: ProjectProgress) -> str:
    return f"{progress.done} of {progress.wanted}"


def _write(path: Path, judgements: Sequence[Judgement]) -> None:
    """Whole, or not at all."""
    beside = path.with_name(path.name + ".partial")
    beside.unlink(missing_ok=True)
    append_judgements(beside, judgements)
    beside.replace(path)
