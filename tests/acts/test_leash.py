"""What a nat costs: in deviations of the score, or in the judge's own log-odds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from plaudit.models.checkpoints import load_tensors
from plaudit.rounds import run, run_act
from plaudit.types import InputError


def coefficients(folder: Path, act: str) -> set[float]:
    lines = (folder / "round_0" / act / "metrics.jsonl").read_text().splitlines()
    return {json.loads(line)["kl_coefficient"] for line in lines}


def test_a_judge_that_is_less_sure_is_followed_less_far(tmp_path: Path, tiny_folder: Path) -> None:
    recipe = tiny.recipe(
        tmp_path,
        tiny_folder,
        ppo={"kl": {"coefficient": 0.2, "per": "log_odds"}},
        evaluation={"ceiling": "tiny:count_yes"},
    )
    result = run(recipe, quiet=True)
    folder = tmp_path / "tiny"
    kept = load_tensors(folder / "round_0" / "reward" / "judge.safetensors")
    deviation = float(kept["scale_EO"].mean())
    assert result.summary["rounds"][0]["reward"]["deviation"] == {"overall": pytest.approx(deviation)}
    # A nat costs .2 of log-odds, and a deviation is so many of them.
    (found,) = coefficients(folder, "ppo")
    assert found == pytest.approx(0.2 / deviation)
    assert coefficients(folder, "ceiling") == {found}  # the truth is followed on as long a leash


def test_the_ceiling_follows_another_judge_s_leash(tmp_path: Path, tiny_folder: Path) -> None:
    """Its reward is the same, and its leash is not."""
    found: list[set[float]] = []
    for epochs in (1, 3):
        recipe = tiny.recipe(
            tmp_path, tiny_folder, reward={"epochs": epochs},
            ppo={"kl": {"coefficient": 0.2, "per": "log_odds"}, "steps": 1}, evaluation={"ceiling": "tiny:count_yes"},
        )  # fmt: skip
        run(recipe, quiet=True)
        found.append(coefficients(tmp_path / "tiny", "ppo"))
        assert coefficients(tmp_path / "tiny", "ceiling") == found[-1]
    assert found[0] != found[1]


def test_several_objectives_share_one_leash(tmp_path: Path, tiny_folder: Path) -> None:
    """As they weigh in the score: here .75 of a deviation of 2 and .25 of one of 4."""
    recipe = tiny.recipe(
        tmp_path, tiny_folder,
        ppo={"kl": {"coefficient": 0.3, "per": "log_odds"}, "objective_weights": {"a": 0.75, "b": -0.25}, "steps": 1},
    )  # fmt: skip
    for act in ("sft", "sample", "reward"):
        run_act(recipe, act, quiet=True)
    manifest = tmp_path / "tiny" / "round_0" / "reward" / "manifest.json"
    told: dict[str, Any] = json.loads(manifest.read_text())
    told["result"]["deviation"] = {"a": 2.0, "b": 4.0}
    manifest.write_text(json.dumps(told))
    with pytest.raises(InputError, match="objective"):  # the tiny judge has neither: nothing is trained
        run_act(recipe, "ppo", quiet=True)
    from plaudit.rounds import Job

    config = Job(recipe, quiet=True)._leashed(0)  # pyright: ignore[reportPrivateUsage]
    assert config.kl.coefficient == pytest.approx(0.3 / 2.5)


def test_a_judge_that_does_not_say_is_trained_anew(tmp_path: Path, tiny_folder: Path) -> None:
    recipe = tiny.recipe(tmp_path, tiny_folder, ppo={"kl": {"per": "log_odds"}})
    for act in ("sft", "sample", "reward"):
        run_act(recipe, act, quiet=True)
    manifest = tmp_path / "tiny" / "round_0" / "reward" / "manifest.json"
    told: dict[str, Any] = json.loads(manifest.read_text())
    del told["result"]["deviation"]
    manifest.write_text(json.dumps(told))
    with pytest.raises(InputError, match="train it anew"):
        run_act(recipe, "ppo", quiet=True)


def test_a_ready_reward_has_no_log_odds(tmp_path: Path, tiny_folder: Path) -> None:
    with pytest.raises(ValueError, match="log_odds is the judge's"):
        tiny.recipe(tmp_path, tiny_folder, ppo={"kl": {"per": "log_odds"}, "reward": "tiny:count_yes"})
