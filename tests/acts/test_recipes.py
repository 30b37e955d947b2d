"""Every shipped recipe runs two steps of each act: its own settings, on a handful of rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from plaudit.recipe import Recipe
from plaudit.recipe_file import load_recipe
from plaudit.rounds import run

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
BASE_MODEL = ROOT / "src" / "plaudit" / "worlds" / "base_model"


def pairs(path: Path, seed: int) -> str:
    """Transcripts as in HH, on prompts of their own."""
    rows: list[dict[str, str]] = []
    for prompt, text in zip(tiny.questions(16, seed=seed), tiny.answers(16, seed=seed), strict=True):
        before = f"\n\nHuman: {prompt.messages[-1].content}\n\nAssistant:"
        rows.append({"chosen": f"{before} yes {text}", "rejected": f"{before} no {text}"})
    return tiny.write_rows(path, rows)


def demonstrations(path: Path) -> str:
    rows = zip(tiny.questions(12, seed=7), tiny.answers(12, seed=7), strict=True)
    return tiny.write_rows(path, [{"prompt": prompt.messages[-1].content, "completion": text} for prompt, text in rows])


def shrunk(recipe: Recipe, folder: Path) -> Recipe:
    """Fewer of everything that is counted; every other setting stays as it is shipped."""
    values: dict[str, Any] = recipe.model_dump()
    values |= {"out": folder / "runs", "cache": None}
    fewer: dict[str, dict[str, Any]] = {
        "sft": {"examples": 12, "epochs": 1, "batch_size": 6},
        "sample": {"prompts": 10, "max_new_tokens": 6},
        "reward": {"epochs": 1, "batch_size": 5, "held_out": 0.3, "centring_samples": 4},
        "ppo": {"steps": 2, "prompts_per_step": 3, "max_new_tokens": 6},
        "evaluation": {"prompts": 4, "resamples": 20},
    }
    for section, change in fewer.items():
        if values[section] is not None:
            values[section] |= change
    if recipe.world is None:
        values["model"]["path"] = str(folder / "model")
        tiny.model(layers=recipe.model.split_depth + 2).save_pretrained(folder / "model")
        tiny.tokenizer().save_pretrained(folder / "model")
        data = values["data"]
        for number, file in enumerate(data["preferences"]):
            file |= {"path": pairs(folder / f"pairs_{number}.jsonl", seed=20 + number)}
        data["prompts"] = tiny.prompt_file(folder / "prompts.jsonl", tiny.questions(24, seed=30))
        if data["evaluation_prompts"] is not None:
            data["evaluation_prompts"] = tiny.prompt_file(folder / "asked.jsonl", tiny.questions(8, seed=31))
        if data["demonstrations"] is not None:
            data["demonstrations"] = demonstrations(folder / "demonstrations.jsonl")
    return Recipe(**values)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_two_steps_of_each_act(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # where a recipe names files of its own, they count from here
    recipe = load_recipe(path)
    if recipe.world is not None and not (BASE_MODEL / "model.safetensors").is_file():
        pytest.skip("the world's base model has not been built")
    result = run(shrunk(recipe, tmp_path), quiet=True)
    only = result.summary["rounds"][0]
    assert {"reward", "ppo", "evaluation"} <= set(only)
    assert ("sft" in only) == (recipe.sft is not None)
    for act in ("reward", "ppo"):
        lines = (result.folder / "round_0" / act / "metrics.jsonl").read_text().splitlines()
        assert json.loads(lines[-1])["step"] >= 2, act
    assert only["evaluation"]["win_rate"]
    judge = only["evaluation"]["judge"]
    assert ("objectives" in judge) == (len({file.objective for file in recipe.data.preferences}) > 1)
    if "objectives" in judge:  # a score is its objectives, as PPO weighs them
        weights = recipe.ppo.objective_weights
        parts = {name: weights.get(name, 1.0) * row["gain"]["value"] for name, row in judge["objectives"].items()}
        assert sum(parts.values()) == pytest.approx(judge["gain"]["value"], abs=1e-6)
    assert result.report.is_file()
