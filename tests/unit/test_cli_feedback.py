"""`plaudit feedback`, as it is typed."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import desks
from plaudit.cli import app
from plaudit.data.formats import judgement_to_dict, read_demonstrations, read_judgements
from plaudit.feedback.desk import Desk
from plaudit.feedback.project import open_store
from plaudit.feedback.records import Answer
from plaudit.recipe import Recipe
from plaudit.recipe_file import dump_recipe
from plaudit.types import Judgement


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A run folder in which Ada and Ben have judged three tasks, and Ada has written an answer that Ben accepted."""
    values = {"annotators": "people", "judgements_per_prompt": 2}
    recipe = Recipe.model_validate({"name": "run", "out": tmp_path, "world": "tiny:world", "feedback": values})
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text(dump_recipe(recipe))
    desk = open_store(run, recipe)
    desk.add_tasks("ranking", desks.tasks(3))
    desk.add_demonstration_tasks([(desks.task(9)[0], "")])
    ada, ben = (desk.add_account(name, "annotator").id for name in ("Ada", "Ben"))
    for person, said in ((ada, desks.answer(0, 1, 2)), (ben, desks.answer(0, 2, 1))):
        for _ in range(3):
            desk.submit(person, desks.take(desk, person).token, replace(said, rationale=f"words of {person}"))
    desk.submit(ada, desks.take(desk, ada).token, Answer(text="An answer."))
    desk.submit(ben, desks.take(desk, ben).token, Answer(verdict="accept"))
    desk.store.close()
    return run


def ask(*words: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["feedback", *map(str, words)])
    assert done.exit_code == code, done.output
    return done.output


def at(run: Path) -> Desk:
    from plaudit.recipe_file import load_recipe

    return open_store(run, load_recipe(run / "recipe.yaml"))


def handle(run: Path, name: str) -> str:
    desk = at(run)
    account = desk.account_named(name)
    desk.store.close()
    assert account is not None
    return account.handle


def test_report(project: Path) -> None:
    said = ask("report", project)
    assert "6, of 3 prompts, by 2 annotators" in said
    assert "agreement of two        66.7%" in said  # two of three pairs on every prompt
    assert "6 of 6 judgements, done" in said
    assert "Ada" in said
    figures = json.loads(ask("report", project, "--json"))
    assert figures["agreement"]["value"] == pytest.approx(2 / 3)
    assert figures["kendall_tau"]["value"] == pytest.approx(1 / 3)
    assert [one["judgements"] for one in figures["people"]] == [3, 3]


def test_export_and_import(project: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert f"6 judgements in {out}" in ask("export", project, out)
    assert len(read_judgements(out, format="native").items) == 6
    assert "1 demonstrations" in ask("export", project, out, "--what", "demonstrations")
    assert [one.response for one in read_demonstrations(out).items] == ["An answer."]

    pairs = tmp_path / "pairs.jsonl"
    made = [
        Judgement(id=f"j{n}", prompt=p, responses=tuple(r), ranking=((1,), (0,)), annotator="elsewhere")
        for n, (p, r) in ((n, desks.task(50 + n, 2)) for n in range(2))
    ]
    pairs.write_text("".join(json.dumps(judgement_to_dict(one)) + "\n" for one in made))
    assert "2 judgements taken over" in ask("import", project, pairs)
    assert "0 judgements taken over" in ask("import", project, pairs)
    assert "8 judgements" in ask("export", project, out)
    assert json.loads(ask("report", project, "--json"))["judgements"] == 8
    ask("exclude", project, "elsewhere", "--why", "not of this guideline")
    assert "6 judgements" in ask("export", project, out)
    ask("include", project, "elsewhere")
    assert "2 gold tasks" in ask("import", project, pairs, "--gold")
    assert "2 tasks to rank" in ask("import", project, pairs, "--tasks")
    assert "one of them" in ask("import", project, pairs, "--tasks", "--gold", code=2)
    many = Judgement(
        id="many", prompt=desks.task(60)[0], responses=tuple(desks.task(60, 11)[1]), annotator="elsewhere",
        ranking=tuple((i,) for i in range(11)),
    )  # fmt: skip
    pairs.write_text(json.dumps(judgement_to_dict(many)) + "\n")
    assert "1 tasks to rank; of a prompt's responses at most 9 are shown, drawn at random" in ask(
        "import", project, pairs, "--tasks"
    )
    desk = at(project)
    assert len(desk.judgements()) == 8
    assert sum(row.gold for row in desk.tasks()) == 2
    desk.store.close()


def test_simulated_people_are_not_imported_as_people(project: Path, tmp_path: Path) -> None:
    """Their rankings count in no run of people, and would be taken in for nothing."""
    prompt, responses = desks.task(50)
    made = Judgement(id="j", prompt=prompt, responses=tuple(responses), ranking=((1,), (0, 2)), annotator="Elif")
    desk = at(project)
    desk.take_over([made], kind="simulated")
    desk.store.close()
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(json.dumps(judgement_to_dict(replace(made, id="k"))) + "\n")
    assert "Elif is simulated in this run" in " ".join(ask("import", project, pairs, code=2).split())
    assert "6 judgements" in ask("export", project, tmp_path / "out.jsonl")


def test_backup_and_restore(project: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    ask("backup", project, copy)
    assert not copy.with_name("copy.db-wal").exists()
    assert "exists already" in ask("backup", project, copy, code=2)
    desk = at(project)
    ada = desk.account_named("Ada")
    assert ada is not None
    desk.erase_person(ada.id)
    desk.store.close()
    said = ask("restore", project, copy)
    assert "feedback.db.old1" in said
    assert "Ada" in ask("people", project)
    assert (project / "feedback.db.old1").is_file()
    assert "no such file" in ask("restore", project, tmp_path / "nothing", code=2)


def test_exclude_and_include(project: Path) -> None:
    ada = handle(project, "Ada")
    assert "--annotator" in ask("exclude", project, ada, "--why", "in a hurry")
    assert "excluded: in a hurry" in ask("people", project)
    assert json.loads(ask("report", project, "--json"))["judgements"] == 3
    ask("include", project, ada)
    assert json.loads(ask("report", project, "--json"))["judgements"] == 6
    assert "no annotator" in ask("exclude", project, "person-x", "--why", "?", code=2)


def test_erase(project: Path) -> None:
    ada = handle(project, "Ada")
    assert "nothing was erased" in ask("erase", project, ada, code=1)
    ask("erase", project, ada, "--yes")
    assert "Ada" not in ask("people", project)
    assert "nobody with an account" in ask("erase", project, "Ada", "--yes", code=2)
    assert json.loads(ask("report", project, "--json"))["judgements"] == 6


def test_lineage(project: Path) -> None:
    desk = at(project)
    ids = [one.id for one in desk.judgements()]
    ada = handle(project, "Ada")
    desk.store.close()
    reward = project / "round_0" / "reward"
    reward.mkdir(parents=True)
    (reward / "judge.safetensors").write_bytes(b"weights")
    (reward / "manifest.json").write_text(json.dumps({"labels": {"judgements": ids}}))
    sft = project / "round_0" / "sft"
    (sft / "model").mkdir(parents=True)
    (sft / "manifest.json").write_text(json.dumps({"labels": {"demonstrations": [1]}}))
    said = ask("lineage", project, "--annotator", ada)
    assert f"{reward}: 3 judgements" in said
    assert f"{sft}: 1 demonstrations" in said
    found = json.loads(ask("lineage", project, "--judgement", ids[-1], "--json"))
    assert found == [{"act": "round_0/reward", "judgements": 1, "demonstrations": 0, "through": ""}]
    assert "no checkpoint" in ask("lineage", project, "--judgement", "x")
    assert "whose?" in ask("lineage", project, code=2)


@pytest.mark.parametrize("verb", ["report", "people", "lineage", "export x", "backup x", "restore x"])
def test_where_there_is_no_run(tmp_path: Path, verb: str) -> None:
    name, *rest = verb.split()
    file = tmp_path / "x"
    if name == "restore":
        file.write_text("")
    said = ask(name, tmp_path, *([file] if rest else []), code=2)
    assert "no run here" in said


def test_help_loads_no_torch() -> None:
    code = (
        "import sys\nfrom plaudit.cli import app\n"
        "app(['feedback', '--help'], standalone_mode=False)\n"
        "assert not {'torch', 'transformers', 'scipy', 'sqlalchemy', 'alembic'} & set(sys.modules), sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_figures_of_a_project_load_no_torch(project: Path) -> None:
    code = (
        "import sys\nfrom plaudit.cli import app\n"
        f"app(['feedback', 'report', {str(project)!r}], standalone_mode=False)\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
