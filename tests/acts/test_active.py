"""An active order: what is shown follows from what was said, the held-out share is asked at random, stops change
nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from plaudit import asking, judges, labels
from plaudit.data.formats import content_hash, read_log
from plaudit.data.responses import by_prompt, distinct_responses
from plaudit.data.split import split_by_prompt
from plaudit.feedback.collect import drawn_annotators
from plaudit.feedback.desk import Desk
from plaudit.feedback.project import open_desk
from plaudit.feedback.records import Answer
from plaudit.material import Material
from plaudit.recipe import Recipe
from plaudit.rounds import run, run_act
from plaudit.run_folder import read_rows
from plaudit.types import Judgement


def active(out: Path, model: Path, **feedback: Any) -> Recipe:
    queue = {"order": "active", "first": 8, "again_after": 0.5, "quota": 20, "shown": 2} | feedback.pop("queue", {})
    sample = {"prompts": 64, "responses_per_prompt": 4, "max_new_tokens": 6, "batch_size": 32}
    reward = tiny.recipe(out, model).reward.model_dump() | {"held_out": 0.25}
    return tiny.recipe(out, model, feedback={"queue": queue, **feedback}, sample=sample, reward=reward)


def said(folder: Path) -> list[Judgement]:
    return read_log(folder / "judgements.jsonl")[0]


@pytest.mark.parametrize(("order", "shown", "sizes"), [("random", None, {3, 4}), ("active", 3, {3})])
def test_simulated_people_are_asked_for_the_best_and_the_worst(
    order: str, shown: int | None, sizes: set[int], tmp_path: Path, tiny_folder: Path
) -> None:
    recipe = active(tmp_path, tiny_folder, queue={"order": order, "ask": "best_and_worst", "shown": shown})
    run(recipe, quiet=True)
    made = [one for one in said(tmp_path / "tiny") if len(one.ranking) > 1 and len(one.responses) > 2]
    assert {len(one.responses) for one in made} == sizes
    assert all([len(group) for group in one.ranking] == [1, len(one.responses) - 2, 1] for one in made)
    assert all(one.unordered == (one.ranking[1] if len(one.responses) == 4 else ()) for one in made)


def test_the_judge_is_asked_as_judgements_come(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = active(tmp_path, tiny_folder)
    lessons: list[tuple[list[Judgement], list[Judgement]]] = []
    taught = asking.taught

    def noted(workshop: Any, objectives: Any, training: Any, held_out: Any, *given: Any, **named: Any) -> Any:
        lessons.append((training, held_out))
        return taught(workshop, objectives, training, held_out, *given, **named)

    monkeypatch.setattr(asking, "taught", noted)
    result = run(recipe, quiet=True)
    folder = tmp_path / "tiny"
    made = said(folder)
    assert len(made) == 20
    assert len({one.prompt.id for one in made}) == 20
    assert all(len(one.responses) == 2 for one in made)
    asks = [json.loads(line) for line in (folder / "round_0" / "asking" / "metrics.jsonl").read_text().splitlines()]
    decided = [len(one.ranking) > 1 for one in made]  # whoever ties everything teaches nothing
    assert [one["step"] for one in asks] == [sum(decided[:stage]) for stage in (8, 12, 18)]
    # A quarter of what was asked is held out from the judge, and was chosen by nobody.
    training, held_out = split_by_prompt(made, 0.25, recipe.seed, lambda one: one.prompt)
    assert len(held_out) == 5
    known, kept_back = ({one.id for one in part} for part in (training, held_out))
    for lesson, measured in lessons:
        assert {one.id for one in lesson} <= known
        assert {one.id for one in measured} <= kept_back
    assert lessons[-1][1]
    # Whatever is done is done: a run that goes on trains no judge to ask it the same again, nor does one whose judge
    # is to be trained otherwise.
    monkeypatch.setattr(asking, "taught", None)
    run_act(recipe, "sample", quiet=True)
    longer = recipe.reward.model_copy(update={"epochs": 5})
    run_act(recipe.model_copy(update={"reward": longer}), "sample", quiet=True)
    assert said(folder) == made
    assert result.summary["rounds"][0]["reward"]["rankings"] == sum(len(one.ranking) > 1 for one in training)


@pytest.mark.parametrize("order", ["random", "active"])
def test_another_queue_in_the_same_folder_leaves_no_more_than_its_quota(
    order: str, tmp_path: Path, tiny_folder: Path
) -> None:
    """What was asked before stays in the log, and goes to the judge where this queue asks it too."""
    first = active(tmp_path, tiny_folder, queue={"order": order})
    other = active(tmp_path, tiny_folder, queue={"order": order, "shown": 3, "quota": 12}, judgements_per_prompt=2)
    folder, people = tmp_path / "tiny", Material(first).annotators()
    logs: list[list[Judgement]] = []
    for recipe, quota in ((first, 20), (other, 12), (first, 20)):
        result = run(recipe, quiet=True)
        logs.append(said(folder))
        asked = json.loads((folder / "round_0" / "asking" / "asked.json").read_text())["asked"]
        assert len(asked) == quota / recipe.feedback.judgements_per_prompt
        questions = {(prompt, tuple(texts)) for prompt, texts in asked}
        made = [one for one in logs[-1] if (one.prompt.id, tuple(r.text for r in one.responses)) in questions]
        if len(made) > quota:  # the other queue has asked two people the same
            made = [one for one in made if one.annotator == drawn_annotators(people, 1, 0, one.prompt)[0].name]
        decided = [one.id for one in made if len(one.ranking) > 1]
        assert len(made) == quota
        learned = json.loads((folder / "round_0" / "reward" / "manifest.json").read_text())["labels"]["judgements"]
        assert sorted(learned) == sorted(decided)
        left_out = result.summary["rounds"][0]["reward"]["left_out"].get("rankings", {})
        others = [one for one in logs[-1] if one not in made and len(one.ranking) > 1]
        assert left_out.get("not of the recipe's queue", 0) == len(others)
    assert logs[1][:20] == logs[0]
    assert len(logs[1]) > 20


def test_what_is_chosen_differs_from_chance_and_what_is_held_out_does_not(tmp_path: Path, tiny_folder: Path) -> None:
    by_chance = active(tmp_path / "chance", tiny_folder, queue={"order": "random"})
    chosen = active(tmp_path / "chosen", tiny_folder)
    for recipe in (by_chance, chosen):
        run_act(recipe, "sft", quiet=True)
        run_act(recipe, "sample", quiet=True)
    pairs = [
        {(one.prompt.id, tuple(r.text for r in one.responses)) for one in said(recipe.out / "tiny")}
        for recipe in (by_chance, chosen)
    ]
    assert len(pairs[0]) == len(pairs[1]) == 20
    assert pairs[0] != pairs[1]
    rows = by_prompt(read_rows(tmp_path / "chosen" / "tiny" / "round_0" / "responses" / "responses.jsonl"))
    of_prompt = {prompt.id: distinct_responses(responses) for prompt, responses in rows}
    asked, held_out = split_by_prompt(said(tmp_path / "chosen" / "tiny"), 0.25, chosen.seed, lambda one: one.prompt)
    for one in held_out:
        drawn = labels.drawn(len(of_prompt[one.prompt.id]), 2, chosen.seed, one.prompt)
        assert [r.text for r in one.responses] == [of_prompt[one.prompt.id][i].text for i in drawn]
    drawn_too = [labels.drawn(len(of_prompt[one.prompt.id]), 2, chosen.seed, one.prompt) for one in asked]
    shown = [[r.text for r in one.responses] for one in asked]
    at_random = [[of_prompt[one.prompt.id][i].text for i in drawn] for one, drawn in zip(asked, drawn_too, strict=True)]
    assert shown != at_random
    # Answers are chosen, prompts are not: they are the first of those that the judge may learn from.
    could = [prompt for prompt, _ in rows if len(of_prompt[prompt.id]) > 1]
    training, _ = split_by_prompt(could, 0.25, chosen.seed, lambda prompt: prompt)
    training.sort(key=lambda prompt: content_hash([chosen.seed, prompt.id]))
    assert {one.prompt.id for one in asked} == {prompt.id for prompt in training[:15]}


def test_stopped_between_stages_the_same_is_asked(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = active(tmp_path / "whole", tiny_folder)
    parts = active(tmp_path / "parts", tiny_folder)
    for recipe in (whole, parts):
        run_act(recipe, "sft", quiet=True)
    run_act(whole, "sample", quiet=True)
    collect, calls = labels.collect_judgements, 0

    def interrupted(*given: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return collect(*given, **named)

    monkeypatch.setattr(labels, "collect_judgements", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_act(parts, "sample", quiet=True)
    assert len(said(tmp_path / "parts" / "tiny")) == 12
    monkeypatch.undo()
    run_act(parts, "sample", quiet=True)
    assert [one.id for one in said(tmp_path / "parts" / "tiny")] == [
        one.id for one in said(tmp_path / "whole" / "tiny")
    ]


class AtWork:
    """In place of `time`: whenever the run waits, a person judges two tasks."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.plans = folder, list[dict[int, tuple[float, bool]]]()
        self.desk: Desk | None = None

    def sleep(self, _: float) -> None:
        if self.desk is None:
            self.desk = open_desk(self.folder)
            self.ada = self.desk.add_account("Ada", "annotator").id
        for turn in range(3):
            hand = self.desk.next_task(self.ada, ["ranking"])
            if hand is not None:
                skipped = Answer(flags=("skip",), seconds=1)
                self.desk.submit(
                    self.ada, hand.token, skipped if turn == 2 else Answer(ranking=((1,), (0,)), seconds=3)
                )


def test_people_are_shown_what_a_judge_chose(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = active(tmp_path, tiny_folder, annotators="people")
    folder = tmp_path / "tiny"
    plans: list[Any] = []
    plan = Desk.plan

    def noted(desk: Desk, chosen: Any) -> None:
        plans.append(chosen)
        plan(desk, chosen)

    monkeypatch.setattr(Desk, "plan", noted)
    monkeypatch.setattr(labels, "time", AtWork(folder))
    run(recipe, quiet=True)
    assert len(said(folder)) == 20
    assert len(plans) == 2  # after 9 and 15
    for chosen, chosen_for in zip(plans, (6, 10), strict=True):
        scores = [one.score for one in chosen if not one.reserved]
        assert scores == sorted(scores, reverse=True)
        assert len(set(scores)) == len(scores)
        # For twice as many as come before it is asked again; the rest shows what it showed.
        shown = [one.shown for one in chosen if not one.reserved]
        assert [len(some or ()) for some in shown] == [2] * chosen_for + [0] * (len(shown) - chosen_for)
        assert len(shown) > chosen_for
        assert any(one.reserved for one in chosen)
    asked = (folder / "round_0" / "asking" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in asked] == [6, 10]  # every third was skipped, and teaches nothing


def test_what_one_person_has_judged_comes_first_to_the_next(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two are to judge each prompt, and Ada has judged alone when the judge is first asked."""
    recipe = active(tmp_path, tiny_folder, annotators="people", judgements_per_prompt=2)
    plan = Desk.plan

    def once(desk: Desk, chosen: Any) -> None:
        plan(desk, chosen)
        raise KeyboardInterrupt

    monkeypatch.setattr(Desk, "plan", once)
    monkeypatch.setattr(labels, "time", AtWork(tmp_path / "tiny"))
    with pytest.raises(KeyboardInterrupt):
        run(recipe, quiet=True)
    desk = open_desk(tmp_path / "tiny")
    desk.change_settings({"random_share": 0.0})
    rest, reserved = split_by_prompt(desk.judgements(), 0.25, recipe.seed, lambda one: one.prompt)
    assert len(rest) > 3
    assert reserved
    hers = {one.prompt.id for one in rest}
    ben = desk.add_account("Ben", "annotator").id
    for _ in hers:
        hand = desk.next_task(ben, ["ranking"])
        assert hand is not None
        assert hand.prompt.id in hers
        desk.submit(ben, hand.token, Answer(ranking=((0,), (1,)), seconds=3))
    hand = desk.next_task(ben, ["ranking"])
    assert hand is not None
    assert hand.prompt.id not in hers


def test_a_later_round_begins_with_what_earlier_ones_taught(tmp_path: Path, tiny_folder: Path) -> None:
    recipe = active(tmp_path, tiny_folder).model_copy(update={"rounds": 2})
    run(recipe, quiet=True)
    asks = (tmp_path / "tiny" / "round_1" / "asking" / "metrics.jsonl").read_text().splitlines()
    decided = [len(one.ranking) > 1 for one in said(tmp_path / "tiny")]
    assert len(decided) == 40
    # It is asked before the first ranking of the round, too.
    assert [json.loads(line)["step"] for line in asks] == [sum(decided[:n]) for n in (20, 28, 32, 38)]


def test_several_judge_each_prompt(tmp_path: Path, tiny_folder: Path) -> None:
    """Twenty judgements by two are ten prompts, and the first eight are four."""
    recipe = active(tmp_path, tiny_folder, judgements_per_prompt=2)
    run_act(recipe, "sft", quiet=True)
    run_act(recipe, "sample", quiet=True)
    made = said(tmp_path / "tiny")
    assert len(made) == 20
    assert len({one.prompt.id for one in made}) == 10
    asks = (tmp_path / "tiny" / "round_0" / "asking" / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in asks]
    assert steps[0] <= 8 < steps[1]


def test_the_learning_curve_of_a_run(tmp_path: Path, tiny_folder: Path) -> None:
    """Nested parts, all measured on the same pairs; and the judge that is saved is the one without a curve, to the
    bit."""
    summaries: list[dict[str, Any]] = []
    judges: list[bytes] = []
    for name, curve in (("with", True), ("without", False)):
        reward = {"held_out": 0.4, "learning_curve": curve, "epochs": 2}
        recipe = tiny.recipe(tmp_path / name, tiny_folder, reward=reward, sample={"prompts": 64, "batch_size": 32})
        summaries.append(run(recipe, quiet=True).summary["rounds"][0])
        judges.append((tmp_path / name / "tiny" / "round_0" / "reward" / "judge.safetensors").read_bytes())
    assert judges[0] == judges[1]
    curve = summaries[0]["reward"].pop("learning_curve")
    assert "learning_curve" not in summaries[1]["reward"]
    assert summaries[0]["reward"] == summaries[1]["reward"]
    numbers = [one["rankings"] for one in curve["points"]]
    assert numbers == sorted(numbers)
    assert numbers[-1] == summaries[0]["reward"]["rankings"]
    assert curve["points"][-1]["accuracy"]["value"] == summaries[0]["reward"]["accuracy"]["value"]
    assert [one["rankings"] for one in curve["to_come"]] == [numbers[-1], 2 * numbers[-1], 4 * numbers[-1]]
    own = (tmp_path / "with" / "tiny" / "round_0" / "evaluation" / "samples.jsonl").read_bytes()
    assert own == (tmp_path / "without" / "tiny" / "round_0" / "evaluation" / "samples.jsonl").read_bytes()


def test_people_make_more_than_a_judge_learns_from(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their work is told for all of it: what is held out, and what a second judge learns."""
    told: list[tuple[int, float]] = []

    def noted(tried: Any, *, judgements_per_ranking: float, **named: Any) -> dict[str, Any]:
        told.append((tried[-1].rankings, judgements_per_ranking))
        return {}

    monkeypatch.setattr(judges, "learning_curve", noted)
    reward = {"held_out": 0.25, "second_judge": True, "learning_curve": True}
    recipe = tiny.recipe(tmp_path, tiny_folder, reward=reward, sample={"prompts": 64, "batch_size": 32})
    for act in ("sft", "sample"):
        run_act(recipe, act, quiet=True)
    made = json.loads((run_act(recipe, "reward", quiet=True) / "manifest.json").read_text())["result"]
    learned = [made["rankings"], made["second"]["rankings"]]
    assert told == [(count, made["judgements"] / count) for count in learned]
    assert sum(learned) < made["judgements"]
