"""`plaudit label`: what it serves, where, to whom; and contests between the checkpoints of a run."""

from __future__ import annotations

import json
import re
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from plaudit.cli import app
from plaudit.data.formats import judgement_to_dict, prompt_of
from plaudit.data.responses import response_row
from plaudit.feedback.contests import queue_contest, scores
from plaudit.feedback.project import open_desk
from plaudit.feedback.records import Answer
from plaudit.feedback.web.serving import Address, secret_of
from plaudit.recipe import Recipe
from plaudit.recipe_file import dump_recipe, load_recipe
from plaudit.speaker import serve
from plaudit.summary import write_report
from plaudit.types import InputError, Judgement, Response, Sampling
from web import project

KEY = b"k" * 32


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose responses are sampled and whose checkpoints are evaluated."""
    folder = tmp_path / "a"
    sampled, evaluated = folder / "round_0" / "responses", folder / "round_0" / "evaluation"
    for one in (sampled, evaluated):
        one.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(dump_recipe(Recipe(name="a", out=tmp_path, world="some.world:load")))
    (sampled / "manifest.json").write_text('{"status": "done"}')
    rows = []
    for prompt, responses in project.questions(3):
        for one in responses:
            rows.append(response_row(prompt, type(one)(text=one.text, checkpoint="sft", sampling=Sampling())))
    (sampled / "responses.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers = [{"prompt": f"q{i}", "sft": "same", "rlhf": "same" if i == 3 else f"better {i}"} for i in range(4)]
    (evaluated / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    return folder


def test_it_serves_a_run_and_loads_no_torch(run: Path) -> None:
    code = (
        "import sys, atexit; from plaudit.cli import main;"
        "atexit.register(lambda: print('torch' in sys.modules or 'transformers' in sys.modules, flush=True)); main()"
    )
    command = [sys.executable, "-c", code, "label", str(run), "--port", "0", "--no-open", "--contest", "sft,rlhf"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "3 prompts on which sft and rlhf differ are there to compare\n"
            (url,) = re.findall(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
            assert 'id="task"' in httpx.get(f"{url}/rank").text
            assert 'id="task"' in httpx.get(f"{url}/compare").text
        finally:
            process.send_signal(signal.SIGINT)
        assert process.stdout.read().strip().endswith("False")


def test_what_is_wrong_is_said_in_one_line(run: Path, tmp_path: Path) -> None:
    def said(*words: str) -> str:
        done = CliRunner().invoke(app, ["label", *words, "--no-open"])
        assert done.exit_code == 2, done.output
        return done.output

    assert "no run here" in said(str(tmp_path))
    assert "two checkpoints" in said(str(run), "--contest", "sft")
    assert "there is no checkpoint 'best'; there are rlhf, sft" in said(str(run), "--contest", "sft,best")
    assert "--url is 'label.example.org'" in said(str(run), "--port", "0", "--url", "label.example.org")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "--port" in said(str(run), "--port", str(taken.getsockname()[1]))


def test_who_signs_in_where() -> None:
    def auth(**address: Any) -> Any:
        return Address(**address).auth(KEY)

    assert auth().open
    assert auth(host="::1").open
    assert "::1" in auth(host="::1").hosts
    for elsewhere in ({"host": "192.0.2.7"}, {"host": "0.0.0.0"}, {"host": "::"}, {"url": "https://label.example.org"}):
        assert not auth(**elsewhere).open, elsewhere
    behind = auth(url="https://label.example.org/")
    assert (behind.secure, behind.url) == (True, "https://label.example.org")
    assert "label.example.org" in behind.hosts
    assert not behind.addresses
    assert auth(host="0.0.0.0").addresses


def test_the_secret_is_made_once_and_is_its_owners(tmp_path: Path) -> None:
    made = secret_of(tmp_path)
    assert len(made) == 32
    assert secret_of(tmp_path) == made
    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_text("00")
    with pytest.raises(InputError, match="cut short"):
        secret_of(tmp_path)


def test_a_contest_is_counted(tmp_path: Path, run: Path) -> None:
    desk = project.desk_of(tmp_path, tasks=0)
    assert queue_contest(desk, run, "sft", "rlhf") == 3
    assert queue_contest(desk, run, "sft", "rlhf") == 3  # nothing is put there twice
    me = desk.local_account().id
    for say in ("better 0", "better 1", ""):
        work = desk.next_task(me, ("contest",))
        assert work is not None
        texts = [r.text for r in work.responses]
        best = next((i for i, text in enumerate(texts) if say and text.startswith("better")), None)
        ranking = ((0, 1),) if best is None else ((best,), (1 - best,))
        desk.submit(me, work.token, Answer(ranking=ranking))
    assert desk.next_task(me, ("contest",)) is None
    (score,) = scores(desk)
    assert (score.first, score.second) == ("rlhf", "sft")
    assert (score.wins, score.ties, score.losses, score.prompts) == (2, 1, 0, 3)
    assert score.share.value == pytest.approx(2.5 / 3)
    assert score.share.low < 0.5 < score.share.high  # three prompts prove nothing
    desk.exclude(desk.local_account().handle, "a test")
    assert scores(desk) == []
    desk.store.close()


def test_a_contest_over_sensitive_prompts_is_covered(tmp_path: Path, run: Path) -> None:
    evaluated = run / "round_0" / "evaluation"
    prompts = [json.loads(line)["prompt"] for line in (evaluated / "samples.jsonl").read_text().splitlines()]
    (evaluated / "tags.json").write_text(json.dumps([["red-team"], *[[] for _ in prompts[1:]]]))
    desk = project.desk_of(tmp_path, tasks=0)
    queue_contest(desk, run, "sft", "rlhf")
    covered = {row.prompt for row in desk.tasks(kind="contest") if row.sensitive}
    assert covered == {prompts[0]}
    desk.store.close()


def test_sensitive_prompts_are_covered_wherever_they_are_shown(tmp_path: Path, run: Path) -> None:
    """In rankings, in what is written and reviewed, and in gold, which would be told by it."""
    made = [(prompt_of(f"question {n}?", tags=["rude"] * n), ["yes", "no"]) for n in range(2)]
    rows = [
        response_row(p, Response(text=text, checkpoint="sft", sampling=Sampling()))
        for p, texts in made
        for text in texts
    ]
    (run / "round_0" / "responses" / "responses.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    known = [
        Judgement(id=p.id, prompt=p, responses=tuple(Response(text=t) for t in texts), ranking=((0,), (1,)))
        for p, texts in made
    ]
    gold = tmp_path / "gold.jsonl"
    gold.write_text("".join(json.dumps(judgement_to_dict(one)) + "\n" for one in known))
    more = ["feedback.people.demonstrations=2", "feedback.people.sensitive=[rude]", f"feedback.people.gold={gold}"]
    (run / "recipe.yaml").write_text(dump_recipe(load_recipe(run / "recipe.yaml", more)))
    desk = open_desk(run)
    found = {(row.kind, row.gold, row.prompt): row.sensitive for row in desk.tasks()}
    for what in (("ranking", False), ("demonstration", False), ("ranking", True)):
        assert (found[*what, "question 0?"], found[*what, "question 1?"]) == (False, True), what
    desk.store.close()
    said = CliRunner().invoke(app, ["feedback", "import", str(run), str(gold), "--tasks"])
    assert "2 tasks to rank" in said.output
    desk = open_desk(run)
    # Their responses are of no checkpoint, so these are tasks of their own.
    assert sorted(row.sensitive for row in desk.tasks(kind="ranking") if not row.gold) == [False, False, True, True]
    desk.store.close()


def test_what_is_asked_is_the_recipe_s(run: Path) -> None:
    (run / "recipe.yaml").write_text(
        dump_recipe(load_recipe(run / "recipe.yaml", ["feedback.queue.ask=best_and_worst"]))
    )
    desk = open_desk(run)
    assert desk.settings().ask == "best_and_worst"
    desk.store.close()


def test_a_contest_goes_into_summary_and_report(run: Path) -> None:
    def written() -> list[Any]:
        return json.loads((run / "summary.json").read_text())["rounds"]

    (run / "summary.json").write_text(json.dumps({"name": "a", "seed": 0, "rounds": [{"ppo": {"kl": 1.5}}]}))
    before = json.loads((run / "summary.json").read_text())["rounds"]
    write_report(run)
    assert written() == before  # there is no desk yet
    assert not (run / "feedback.db").exists()
    desk = open_desk(run)
    queue_contest(desk, run, "sft", "rlhf")
    write_report(run)
    assert written() == before  # nobody has said anything yet
    me, judged = desk.local_account(), []
    for _ in range(2):
        work = desk.next_task(me.id, ("contest",))
        assert work is not None
        judged.append(work.prompt.messages[-1].content)
        best = next(i for i, r in enumerate(work.responses) if r.text.startswith("better"))
        desk.submit(me.id, work.token, Answer(ranking=((best,), (1 - best,))))
    page = write_report(run)
    (contest,) = written()[0].pop("contests")
    assert {key: contest[key] for key in ("first", "second", "wins", "ties", "losses", "judgements", "prompts")} == {
        "first": "rlhf", "second": "sft", "wins": 2, "ties": 0, "losses": 0, "judgements": 2, "prompts": 2,
    }  # fmt: skip
    # Wilson's interval for 2 of 2: from 2 / (2 + z^2) to 1
    assert contest["share"] == pytest.approx({"value": 1.0, "low": 0.342380, "high": 1.0}, abs=1e-6)
    assert "2 wins, 0 ties, 0 losses; 2 judgements of 2 prompts" in page.read_text(encoding="utf-8")
    # The round is evaluated anew, and one prompt is answered as before: the other judgement is of other texts.
    samples = run / "round_0" / "evaluation" / "samples.jsonl"
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    rows = [row | {"rlhf": "another answer"} if row["prompt"] == judged[0] else row for row in rows]
    samples.write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_report(run)
    assert [one["judgements"] for one in written()[0]["contests"]] == [1]
    desk.exclude(me.handle, "a test")
    write_report(run)
    assert written() == before
    desk.store.close()


def test_the_model_behind_the_pipe(tiny_folder: Path, tmp_path: Path) -> None:
    asked = [
        {"messages": [{"role": "user", "content": "what is a cat"}], "count": 3},
        {"messages": [{"role": "user", "content": "what " * 100}], "count": 2},
        {"messages": [], "count": 2},
    ]
    questions, answers = tmp_path / "in", tmp_path / "out"
    questions.write_text("".join(json.dumps(one) + "\n" for one in asked))
    with questions.open() as read, answers.open("w") as write:
        serve(str(tiny_folder), read, write)
    first, second, third = (json.loads(line) for line in answers.read_text().splitlines())
    assert len({one["text"] for one in first["responses"]}) == 3
    assert {one["sampling"]["temperature"] for one in first["responses"]} == {1.0}
    assert "can be read" in second["error"]
    assert third["error"]


def test_a_model_that_is_not_there_is_said(tmp_path: Path) -> None:
    questions, answers = tmp_path / "in", tmp_path / "out"
    questions.write_text('{"messages": "hm", "count": 2}\n')
    with questions.open() as read, answers.open("w") as write:
        serve(str(tmp_path / "nothing"), read, write)
    assert "no such folder" in json.loads(answers.read_text())["error"]
