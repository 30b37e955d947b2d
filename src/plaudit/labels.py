"""Where a run's rankings and demonstrations come from: files, simulated annotators, or people at the desk.

People go on working while a run trains. So what they have said when a round's collecting ends is written down once,
and the run keeps to it, whatever they add; the verbs of single acts (`plaudit sample`, `plaudit sft`) take it up anew.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from plaudit.data.formats import append_judgements, content_hash, current_judgements, read_judgements
from plaudit.data.responses import by_prompt, distinct_responses
from plaudit.feedback.collect import collect_judgements
from plaudit.feedback.desk import Desk
from plaudit.feedback.project import LOG, RESPONSES, open_store, queue_round
from plaudit.feedback.records import ProjectProgress
from plaudit.feedback.words import figures_to_dict
from plaudit.material import Material
from plaudit.progress import Journal
from plaudit.recipe import Recipe
from plaudit.run_folder import Result, RunFolder, read_manifest, read_rows
from plaudit.types import Demonstration, InputError, Judgement, Prompt, Response

FIGURES = (
    "tie_share", "agreement", "decided_agreement", "alpha", "kendall_tau", "ceiling", "first_preferred",
    "longer_preferred",
)  # fmt: skip
"""Of the labels as a whole, that go into the summary and the report."""
SECONDS_BETWEEN_LOOKS = 1.0
"""At the store, while people work."""


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

    def collect(self, index: int) -> None:
        """A round's rankings, written down when this returns."""
        if self.by_people:
            self._collect_from_people(index)
            return
        collect_judgements(
            [(p, distinct) for p, r in self.responses(index) if len(distinct := distinct_responses(r)) > 1],
            self.material.annotators(),
            per_prompt=self.recipe.feedback.judgements_per_prompt,
            seed=self.recipe.seed,
            path=self.log,
            costly=self.recipe.feedback.annotators == "endpoint",
        )

    def judgements(self, index: int, checkpoints: Iterable[str]) -> list[Judgement]:
        """Every ranking up to this round, of responses of these checkpoints; what is not used is counted."""
        if self.by_people:
            # They may be of an earlier checkpoint than the one that was sampled last: labels are dear.
            loaded = read_judgements(self._written(index), format="native")
            standing, unused = list(loaded.items), dict(loaded.left_out)
        else:
            loaded = read_judgements(self.log, format="native")
            known, annotators = set(checkpoints), {one.name for one in self.material.annotators()}
            standing = [j for j in current_judgements(loaded.items) if j.responses[0].checkpoint in known]
            strangers = sum(j.annotator not in annotators for j in standing)
            standing = [j for j in standing if j.annotator in annotators]
            unused = dict(loaded.left_out) | ({"not by the recipe's annotators": strangers} if strangers else {})
        sampled = [responses for i in range(index + 1) for _, responses in self.responses(i)]
        if unshown := sum(len(r) - len(distinct_responses(r)) for r in sampled):
            unused["response empty or said twice"] = unshown
        if unused:
            self.material.noted["left_out"]["rankings"] = unused
        return standing

    def _written(self, index: int) -> Path:
        return self.folder.path / f"round_{index}" / "judgements" / LOG

    def _collect_from_people(self, index: int) -> None:
        desk, name = self.desk, f"round_{index}/judgements"
        queue_round(desk, self.folder.path, index, self.recipe)

        def do(folder: Path, journal: Journal) -> Result:
            self._wait(index, journal)
            said = desk.judgements(up_to_round=index)
            if not said:
                raise InputError("people have judged nothing that counts: `plaudit feedback report` says why")
            for path in (folder / LOG, self.log):
                _write(path, said)
            made = {"judgements": len(said), "annotators": len({one.annotator for one in said})}
            found = figures_to_dict(desk.figures())
            return made | {key: found[key] for key in FIGURES}

        if self.fresh:
            self.folder.put_aside(name)
        sections = ("judgements_per_prompt", "people")
        feedback = self.recipe.feedback.model_dump(mode="json", include=set(sections))
        inputs: Mapping[str, object] = {
            "feedback": feedback,
            "responses": content_hash(self.folder.path / f"round_{index}" / "responses" / RESPONSES),
            "excluded": sorted(desk.excluded()),
        }
        self.folder.act(name, inputs, do, shared=False)

    def _wait(self, index: int, journal: Journal) -> None:
        """Until the quota is met, or every task has its judgements."""
        now = self.desk.progress_all(index)
        if now.tasks == 0:
            raise InputError(f"round {index}: no two different responses to any prompt, so there is nothing to rank")
        if now.finished:
            return
        self.folder.announce(
            f"waiting for people: {_of(now)} judgements of round {index} are there; "
            f"`plaudit label {self.folder.path}` opens their page"
        )
        with journal.bar("judgements", now.wanted) as advance:
            advance(now.done)
            while not now.finished:
                time.sleep(SECONDS_BETWEEN_LOOKS)
                before, now = now, self.desk.progress_all(index)
                advance(now.done - before.done)
        self.folder.say(f"round {index}: {_of(now)} judgements, by people")


def _of(progress: ProjectProgress) -> str:
    return f"{progress.done} of {progress.wanted}"


def _write(path: Path, judgements: Sequence[Judgement]) -> None:
    """Whole, or not at all."""
    beside = path.with_name(path.name + ".partial")
    beside.unlink(missing_ok=True)
    append_judgements(beside, judgements)
    beside.replace(path)
