"""Runs whose annotators are people: they are waited for, what they said is what is trained on, and nobody else's."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import tiny
from plaudit import labels
from plaudit.feedback.desk import Desk
from plaudit.feedback.lineage import trained_on
from plaudit.feedback.project import open_desk, open_store
from plaudit.feedback.records import Answer
from plaudit.feedback.store import Store
from plaudit.recipe import Recipe
from plaudit.rounds import run, run_act
from plaudit.types import Judgement


class Impatient:
    """In place of `time`: looks often, and gives up where it would wait for ever."""

    def __init__(self) -> None:
        self.last = time.monotonic() + 120

    def sleep(self, seconds: float) -> None:
        assert time.monotonic() < self.last, "waited too long"
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "time", Impatient())


def manifest(folder: Path, act: str) -> dict[str, Any]:
    return json.loads((folder / "round_0" / act / "manifest.json").read_text())


def by_people(out: Path, model: Path, **feedback: Any) -> Recipe:
    return tiny.recipe(out, model, feedback={"annotators": "people", **feedback})


def person(desk: Desk, name: str) -> int:
    return (desk.account_named(name) or desk.add_account(name, "annotator")).id


def rank(desk: Desk, account: int, count: int) -> list[str]:
    """Rankings in stored order, the first the best; the ids of the judgements."""
    ids: list[str] = []
    for _ in range(count):
        hand = desk.next_task(account, ["ranking"])
        if hand is None:
            break
        made = desk.submit(
            account, hand.token, Answer(ranking=tuple((i,) for i in range(len(hand.responses))), seconds=3)
        )
        assert isinstance(made, Judgement)
        ids.append(made.id)
    return ids


def demonstrate(desk: Desk, author: int, reviewer: int, text: str) -> None:
    hand = desk.next_task(author, ["demonstration"])
    assert hand is not None
    desk.submit(author, hand.token, Answer(text=text))
    review = desk.next_task(reviewer, ["review"])
    assert review is not None
    assert review.draft == text
    desk.submit(reviewer, review.token, Answer(verdict="accept"))


def test_a_run_waits_for_people_and_goes_on(
    tmp_path: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = by_people(tmp_path, tiny_folder, queue={"quota": 6})
    folder = tmp_path / "tiny"
    said: list[str] = []

    def people_work() -> None:
        while (
            not (folder / "round_0" / "responses" / "manifest.json").exists() or not (folder / "feedback.db").exists()
        ):
            time.sleep(0.05)
        while manifest(folder, "responses")["status"] != "done":
            time.sleep(0.05)
        time.sleep(0.3)
        desk = open_desk(folder)
        said.extend(rank(desk, person(desk, "Ada"), 4))
        time.sleep(0.1)
        said.extend(rank(desk, person(desk, "Ben"), 4))
        desk.store.close()

    at_work = threading.Thread(target=people_work)
    at_work.start()
    result = run(recipe, quiet=True)
    at_work.join()
    assert len(said) == 6  # the quota ended it
    (only,) = result.summary["rounds"]
    assert {key: only["judgements"][key] for key in ("judgements", "annotators", "agreement")} == {
        "judgements": 6, "annotators": 2, "agreement": None,
    }  # fmt: skip
    assert only["reward"]["judgements_by"] == "people"
    assert manifest(folder, "reward")["labels"] == {"judgements": said}
    err = capsys.readouterr().err.replace("\n", " ")
    assert (
        f"waiting for people: 0 of 6 judgements of round 0 are there; `plaudit label {folder}` opens their page" in err
    )
    lines = [json.loads(line) for line in (folder / "judgements.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == said
    assert "6 judgements by 2 people" in result.report.read_text()
    documented = (
        (Path(__file__).parents[2] / "docs" / "metrics.md").read_text().split("### judgements")[1].split("###")[0]
    )
    assert all(f"`{key}`" in documented for key in only["judgements"])


def test_the_ceiling_of_a_judge_is_of_disputed_work_too(tmp_path: Path, tiny_folder: Path) -> None:
    """An adjudicator's judgement alone is learned from; how far people agree is not known from the rest."""
    recipe = by_people(tmp_path, tiny_folder, judgements_per_prompt=2, people={"adjudicate_below": 0.5})
    run_act(recipe, "sft", quiet=True)
    folder = tmp_path / "tiny"
    desk = open_store(folder, recipe)
    ada, ben, dee = person(desk, "Ada"), person(desk, "Ben"), desk.add_account("Dee", "adjudicator").id
    at_work = threading.Thread(target=lambda: run_act(recipe, "sample", quiet=True))
    at_work.start()
    while at_work.is_alive():
        rank(desk, ada, 100)
        while (hand := desk.next_task(ben, ["ranking"])) is not None:
            order = [(i,) for i in range(len(hand.responses))]
            said = order if hand.task_id % 3 else order[::-1]
            desk.submit(ben, hand.token, Answer(ranking=tuple(said), seconds=3))
        while desk.progress_all().disputed:
            rank(desk, dee, 1)
        time.sleep(0.05)
    at_work.join()
    run_act(recipe, "reward", quiet=True)
    people, judge = (manifest(folder, act)["result"] for act in ("judgements", "reward"))
    assert people["ceiling"]["value"] < 0.95
    assert judge["ceiling"] == people["ceiling"]
    desk.store.close()


def test_a_run_says_that_it_waits_for_an_adjudicator(
    tmp_path: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = by_people(tmp_path, tiny_folder, judgements_per_prompt=2, people={"adjudicate_below": 0.5})
    run_act(recipe, "sft", quiet=True)
    desk = open_store(tmp_path / "tiny", recipe)
    ada, me = person(desk, "Ada"), desk.local_account().id
    at_work = threading.Thread(target=lambda: run_act(recipe, "sample", quiet=True))
    at_work.start()
    said = ""
    while at_work.is_alive():
        rank(desk, ada, 100)
        while (hand := desk.next_task(me, ["ranking"])) is not None:
            order = [(i,) for i in range(len(hand.responses))]
            desk.submit(me, hand.token, Answer(ranking=tuple(order[::-1]), seconds=3))
        said += capsys.readouterr().err.replace("\n", " ")
        if "nobody may decide" in said and desk.account_named("Dee") is None:
            rank(desk, desk.add_account("Dee", "adjudicator").id, 100)
        time.sleep(0.05)
    at_work.join()
    assert said.count("nobody may decide") == 1
    desk.store.close()


def test_stopped_while_waiting_it_goes_on(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = by_people(tmp_path, tiny_folder, queue={"quota": 3})

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(labels.time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, quiet=True)
    folder = tmp_path / "tiny"
    sampled = (folder / "round_0" / "responses" / "responses.jsonl").read_bytes()
    desk = open_desk(folder)
    said = rank(desk, person(desk, "Ada"), 2)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, quiet=True)
    said += rank(desk, person(desk, "Ada"), 1)
    run(recipe, quiet=True)
    assert manifest(folder, "reward")["labels"] == {"judgements": said}
    assert (folder / "round_0" / "responses" / "responses.jsonl").read_bytes() == sampled
    assert not list(folder.glob("round_0/*.old*"))
    desk.store.close()


def test_people_take_over_from_simulated_ones(tmp_path: Path, tiny_folder: Path) -> None:
    """A finished run is labelled, and trained again on those rankings and demonstrations: nothing is mixed."""
    simulated = tiny.recipe(tmp_path, tiny_folder)
    folder = run(simulated, quiet=True).folder
    by_simulated = manifest(folder, "reward")["labels"]["judgements"]
    golden = (folder / "round_0" / "reward" / "metrics.jsonl").read_text()

    desk = open_desk(folder)
    ada, ben = person(desk, "Ada"), person(desk, "Ben")
    said = rank(desk, ada, 6)
    demonstrate(desk, ada, ben, "yes yes")
    demonstrate(desk, ben, ada, "yes")
    recipe = by_people(tmp_path, tiny_folder, queue={"quota": 6}, use_demonstrations=True)
    (only,) = run(recipe, quiet=True).summary["rounds"]

    assert only["sft"]["examples"] > 0
    assert manifest(folder, "sft")["labels"] == {"demonstrations": [1, 2]}
    assert manifest(folder, "reward")["labels"] == {"judgements": said}
    assert not set(said) & set(by_simulated)
    assert only["reward"]["judgements_by"] == "people"
    assert only["reward"]["judgements"] == 6

    # Back to simulated people: theirs alone count again, in numbers equal to before.
    (back,) = run(simulated, quiet=True).summary["rounds"]
    assert back["reward"]["judgements_by"] == "simulated people of the world"
    assert manifest(folder, "reward")["labels"]["judgements"] == by_simulated
    assert losses((folder / "round_0" / "reward" / "metrics.jsonl").read_text()) == losses(golden)
    desk.store.close()


def losses(lines: str) -> list[float]:
    return [json.loads(line)["loss"] for line in lines.splitlines()]


def test_a_run_keeps_to_what_was_said_until_it_is_asked_anew(tmp_path: Path, tiny_folder: Path) -> None:
    recipe = by_people(tmp_path, tiny_folder, queue={"quota": 4}, use_demonstrations=True)
    run_act(recipe, "sft", quiet=True)
    folder = tmp_path / "tiny"
    desk = open_store(folder, recipe)
    ada, ben = person(desk, "Ada"), person(desk, "Ben")
    at_work = threading.Thread(target=lambda: run_act(recipe, "sample", quiet=True))
    at_work.start()
    said: list[str] = []
    while len(said) < 4:
        said += rank(desk, ada, 4 - len(said))
        time.sleep(0.05)
    at_work.join()
    run(recipe, quiet=True)
    before = {p: p.read_text() for p in folder.glob("round_0/*/manifest.json")}

    desk.change_settings({"quota": None})  # the page goes on
    more = rank(desk, ben, 3)
    demonstrate(desk, ada, ben, "yes")
    run(recipe, quiet=True)
    assert {p: p.read_text() for p in folder.glob("round_0/*/manifest.json")} == before

    desk.change_settings({"quota": 7})
    run_act(recipe, "sample", quiet=True)
    run(recipe, quiet=True)
    assert manifest(folder, "reward")["labels"] == {"judgements": said + more}
    assert manifest(folder, "sft")["labels"] == {"demonstrations": []}
    run_act(recipe, "sft", quiet=True)
    assert manifest(folder, "sft")["labels"] == {"demonstrations": [1]}
    desk.store.close()


def test_lineage_and_exclusion(tmp_path: Path, tiny_folder: Path) -> None:
    recipe = by_people(tmp_path, tiny_folder, queue={"quota": 6})
    run_act(recipe, "sft", quiet=True)
    folder = tmp_path / "tiny"
    desk = open_store(folder, recipe)
    ada, ben = person(desk, "Ada"), person(desk, "Ben")
    at_work = threading.Thread(target=lambda: run(recipe, quiet=True))
    at_work.start()
    his: list[str] = []
    hers: list[str] = []
    while len(his) + len(hers) < 6:
        hers += rank(desk, ada, 1) if len(hers) < 4 else []
        his += rank(desk, ben, 1) if len(his) < 2 else []
        time.sleep(0.05)
    at_work.join()
    found = trained_on(folder, judgements=his)
    assert [(one.act, one.judgements, one.through) for one in found] == [
        ("round_0/reward", 2, ""),
        ("round_0/ppo", 0, "round_0/reward"),
    ]
    assert trained_on(folder, judgements=["unknown"]) == []

    handle = desk.account(ben).handle  # pyright: ignore
    desk.exclude(handle, "was not at home")
    run(recipe, quiet=True)  # what is there but for his is enough: the quota counts what was made
    assert manifest(folder, "reward")["labels"] == {"judgements": hers}
    found = trained_on(folder, judgements=his)
    assert [one.act for one in found] == ["round_0/reward.old1", "round_0/ppo.old1"]
    desk.store.close()


def test_the_words_of_who_is_erased_leave_the_logs(tmp_path: Path, tiny_folder: Path) -> None:
    recipe = by_people(tmp_path, tiny_folder, queue={"quota": 1})
    run_act(recipe, "sft", quiet=True)
    folder = tmp_path / "tiny"
    desk = open_store(folder, recipe)
    ada = person(desk, "Ada")
    at_work = threading.Thread(target=lambda: run_act(recipe, "sample", quiet=True))
    at_work.start()
    while (hand := desk.next_task(ada)) is None:
        time.sleep(0.05)
    order = tuple((i,) for i in range(len(hand.responses)))
    desk.submit(ada, hand.token, Answer(ranking=order, rationale="a secret of mine"))
    at_work.join()
    logs = [folder / "judgements.jsonl", folder / "round_0" / "judgements" / "judgements.jsonl"]
    assert all("a secret of mine" in log.read_text() for log in logs)
    desk.erase_person(ada)
    assert not any("secret" in log.read_text() for log in logs)
    assert all(json.loads(log.read_text())["ranking"] == [list(group) for group in order] for log in logs)
    desk.store.close()


def test_what_others_said_stays_when_people_take_over(tmp_path: Path, tiny_folder: Path) -> None:
    simulated = tiny.recipe(tmp_path, tiny_folder)
    log = run_act(simulated, "sft", quiet=True).parents[1] / "judgements.jsonl"
    run_act(simulated, "sample", quiet=True)
    before = log.read_text().splitlines()
    recipe = by_people(tmp_path, tiny_folder, queue={"quota": 3})
    desk = open_store(log.parent, recipe)
    ada = person(desk, "Ada")
    at_work = threading.Thread(target=lambda: run_act(recipe, "sample", quiet=True))
    at_work.start()
    said: list[str] = []
    while len(said) < 3:
        time.sleep(0.05)
        said += rank(desk, ada, 3 - len(said))
    at_work.join()
    desk.store.close()
    after = log.read_text().splitlines()
    assert after[: len(before)] == before
    assert [json.loads(line)["id"] for line in after[len(before) :]] == said


def test_a_log_is_taken_over_once_and_its_tasks_are_queued_once(tmp_path: Path, tiny_folder: Path) -> None:
    folder = run(tiny.recipe(tmp_path, tiny_folder), quiet=True).folder
    made = len((folder / "judgements.jsonl").read_text().splitlines())
    for _ in range(2):
        desk = open_desk(folder)
        assert desk.figures().judgements == made
        assert len(desk.tasks(kind="ranking")) == made
        assert len(desk.tasks(kind="demonstration")) == 16
        assert desk.judgements() == []
        desk.store.close()
    (folder / "feedback.db").unlink()
    assert Desk(Store.open(folder / "feedback.db")).tasks() == []
