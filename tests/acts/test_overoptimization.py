"""The verb `plaudit evaluate overoptimization`, on a run that kept its policies."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tiny
from plaudit.cli import app
from plaudit.rounds import run, run_act
from plaudit.types import InputError


def command(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["evaluate", "overoptimization", *arguments])
    return done.exit_code, done.stdout, done.stderr


def test_best_of_n_and_the_policies_on_the_way(tmp_path: Path, tiny_folder: Path) -> None:
    recipe = tiny.recipe(
        tmp_path,
        tiny_folder,
        sample={"prompts": 24},
        ppo={"steps": 4, "keep_policy_every": 2},
    )
    folder = run(recipe, quiet=True).folder
    code, said, _ = command(str(folder), "--samples", "4", "--json")
    assert code == 0
    found = json.loads(said)
    assert found == json.loads((folder / "round_0" / "evaluation" / "overoptimization.json").read_text())
    assert found["measured_by"] == "the world's truth"
    best, ppo = found["ways"]["best_of_n"]["points"], found["ways"]["rl"]["points"]
    assert [point["n"] for point in best] == [2, 4]
    assert [point["kl"] for point in best] == pytest.approx([math.log(2) - 1 / 2, math.log(4) - 3 / 4])
    # Of more the judge likes the best one better, whatever that is worth.
    assert 0 <= best[0]["judge"]["value"] <= best[1]["judge"]["value"]
    assert [point["step"] for point in ppo] == [2, 4]
    assert code == command(str(folder), "--samples", "2")[0]


def test_what_cannot_be_measured_is_said(tmp_path: Path, tiny_folder: Path) -> None:
    code, _, said = command(str(tmp_path))
    assert code == InputError.exit_code
    assert "no run here" in said
    folder = run_act(tiny.recipe(tmp_path, tiny_folder), "sft", quiet=True).parents[1]
    code, _, said = command(str(folder))
    assert code == InputError.exit_code
    assert "no policy was trained by PPO yet" in said
