"""`plaudit reward evaluate`: any judge on any file, in words and as JSON; and the act beside it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import tiny
from plaudit import run_act
from plaudit.cli import app


def call(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def rankings(tmp_path: Path) -> Path:
    rows = [
        {"prompt": "why", "responses": ["yes yes yes", "no"], "ranking": [[0], [1]]},
        {"prompt": "who", "responses": ["yes", "no no yes yes", "no"], "ranking": [[0], [1], [2]]},
        {"prompt": "what", "responses": ["yes", "no"], "ranking": [[0, 1]]},
        {"prompt": "is", "responses": ["yes no", "no no"], "ranking": [[0], [1]]},
    ]
    path = tmp_path / "rankings.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_function_is_judged(rankings: Path) -> None:
    """Counts "yes": of five decided pairs one is wrong, where one yes stands against two."""
    done = call("reward", "evaluate", "tiny:count_yes", f"{rankings}=yes")
    assert done.exit_code == 0, done.output
    assert "accuracy            0.800 (" in done.stdout
    assert "on 5 pairs" in done.stdout
    assert "score and length    correlate" in done.stdout
    assert "changes that add nothing move yes by" in done.stdout


def test_as_json(rankings: Path) -> None:
    found = json.loads(call("reward", "evaluate", "tiny:count_yes", f"{rankings}=yes", "--json").stdout)
    assert {"accuracy", "length_baseline", "ece", "nll", "brier", "slices"} <= found.keys()
    assert found["accuracy"].keys() == {"value", "low", "high"}
    assert found["accuracy"]["value"] == pytest.approx(0.8)


def test_the_ceiling_of_such_labels(tmp_path: Path) -> None:
    """Two annotators agree on three of four pairs, p = .75: the best judge gets (1 + sqrt(1/2)) / 2."""
    row = {"prompt": "why", "responses": ["yes yes", "no"], "ranking": [[0], [1]], "annotator": "ann"}
    rows = [row | {"prompt": prompt} for prompt in ("why", "who", "what", "is")]
    rows += [one | {"annotator": "ben"} for one in rows[:3]]
    rows.append(row | {"prompt": "is", "annotator": "ben", "ranking": [[1], [0]]})
    path = tmp_path / "rankings.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    found = json.loads(call("reward", "evaluate", "tiny:count_yes", f"{path}=yes", "--json").stdout)
    assert found["ceiling"]["value"] == pytest.approx((1 + 0.5**0.5) / 2)
    assert "the best judge      0.854 (" in call("reward", "evaluate", "tiny:count_yes", f"{path}=yes").stdout


def test_benchmarks_are_scored_by_their_own_rules(tmp_path: Path) -> None:
    first = [
        {"prompt": "why", "chosen": "yes", "rejected": "no", "chosen_model": "a", "rejected_model": "b", "subset": s}
        for s in ("alpacaeval-easy", "math-prm")
    ]
    first.append(first[0] | {"prompt": "who", "chosen": "no", "rejected": "yes"})
    second = [
        {
            "id": "1",
            "prompt": "why",
            "chosen": ["yes yes"],
            "rejected": ["no", "yes", "yes"],
            "num_correct": 1,
            "subset": "Math",
        },
        {
            "id": "2",
            "prompt": "who",
            "chosen": ["yes"],
            "rejected": ["yes", "no", "no one"],
            "num_correct": 1,
            "subset": "Math",
        },
    ]
    for name, rows in (("v1.jsonl", first), ("v2.jsonl", second)):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = [f"{tmp_path / name}=yes" for name in ("v1.jsonl", "v2.jsonl")]
    found = json.loads(call("reward", "evaluate", "tiny:count_yes", *files, "--json").stdout)["benchmarks"]
    assert found["v1.jsonl"]["sections"] == {"Chat": 0.5, "Reasoning": 1.0}
    assert found["v1.jsonl"]["score"] == 0.75
    assert found["v2.jsonl"] == {"subsets": {"Math": 0.75}, "score": 0.75}
    said = call("reward", "evaluate", "tiny:count_yes", *files).stdout
    assert "v1.jsonl: 0.750 by the benchmark's own rules" in said


def test_pairs_with_names_of_models_are_no_benchmark(tmp_path: Path) -> None:
    """They look like RewardBench, and speak of none of its subsets: there is no score by its rules."""
    row = {"chosen": "yes", "rejected": "no", "chosen_model": "a", "rejected_model": "b"}
    for name, more in (("plain.jsonl", {}), ("own.jsonl", {"subset": "ours"})):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row | more | {"prompt": prompt}) + "\n" for prompt in ("why", "who")))
        done = call("reward", "evaluate", "tiny:count_yes", f"{path}=yes")
        assert done.exit_code == 0, done.output
        assert "benchmark" not in done.stdout
        assert "benchmarks" not in json.loads(
            call("reward", "evaluate", "tiny:count_yes", f"{path}=yes", "--json").stdout
        )


def test_rows_of_no_use_are_left_out_of_a_benchmark(tmp_path: Path) -> None:
    row = {"prompt": "why", "chosen": "yes", "rejected": "no", "chosen_model": "a", "rejected_model": "b"}
    tool = [{"role": "user", "content": "why"}, {"role": "tool", "content": "4"}]
    rows = [row, row | {"prompt": tool}, row | {"prompt": "who", "rejected": "yes yes"}]
    path = tmp_path / "v1.jsonl"
    path.write_text("".join(json.dumps(one | {"subset": "math-prm"}) + "\n" for one in rows))
    done = call("reward", "evaluate", "tiny:count_yes", f"{path}=yes", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["benchmarks"]["v1.jsonl"]["subsets"] == {"math-prm": 0.5}


def test_what_is_wrong_is_said(rankings: Path, tmp_path: Path) -> None:
    def said(*words: object) -> str:
        done = call("reward", "evaluate", *words)
        assert done.exit_code == 2, done.output
        return done.output

    assert "the rankings speak of 'overall', the judge of yes" in said("tiny:count_yes", rankings)
    assert "no reward: expected" in said("./nowhere", rankings)
    (tmp_path / "recipe.yaml").write_text("name: a\n")
    assert "has no judge yet" in said(tmp_path, rankings)
    assert "nowhere.jsonl" in said("tiny:count_yes", tmp_path / "nowhere.jsonl")


def test_the_act_needs_no_word_of_its_own() -> None:
    for words in (("reward", "nowhere.yaml"), ("reward", "train", "nowhere.yaml"), ("reward", "-q", "nowhere.yaml")):
        done = call(*words)
        assert done.exit_code == 2
        assert "nowhere.yaml: no such recipe file" in done.output


def test_files_of_one_name_are_told_apart(rankings: Path, tmp_path: Path) -> None:
    files: list[str] = []
    for folder in ("helpful-base", "harmless-base"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "test.jsonl").write_text(rankings.read_text())
        files.append(f"{tmp_path / folder / 'test.jsonl'}=yes")
    found = json.loads(call("reward", "evaluate", "tiny:count_yes", *files, "--json").stdout)
    assert found["slices"]["source"].keys() == {"helpful-base/test.jsonl", "harmless-base/test.jsonl"}


def test_a_judge_that_was_not_exported_is_opened_on_its_trunk(tmp_path: Path, tiny_folder: Path) -> None:
    recipe = tiny.recipe(tmp_path / "runs", tiny_folder)
    for act in ("sft", "sample", "reward"):
        run_act(recipe, act, quiet=True)
    folder = recipe.out / recipe.name
    row = {"prompt": "why", "responses": ["yes yes yes", "no"], "ranking": [[0], [1]]}
    file = tmp_path / "rankings.jsonl"
    file.write_text(json.dumps(row) + "\n" + json.dumps(row | {"prompt": "who"}) + "\n")
    asked = f"{file}={folder_objective(folder)}"
    exported = json.loads(call("reward", "evaluate", folder, asked, "--json").stdout)
    shutil.rmtree(folder / "round_0" / "reward" / "model")
    alone = json.loads(call("reward", "evaluate", folder, asked, "--json").stdout)
    assert alone["nll"]["value"] == pytest.approx(exported["nll"]["value"], abs=1e-4)
    assert alone["accuracy"] == exported["accuracy"]


def folder_objective(run: Path) -> str:
    return json.loads((run / "round_0" / "reward" / "judge.json").read_text())["objectives"][0]
