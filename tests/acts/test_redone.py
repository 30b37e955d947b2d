"""What is done is skipped; what hangs on something that has changed is done again, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tiny
from folders import ACTS, equal_weights, manifests, rows
from plaudit.data.responses import by_prompt
from plaudit.recipe import Recipe
from plaudit.rounds import run
from plaudit.types import Prompt


def test_what_is_done_is_skipped_and_a_change_redoes_what_hangs_on_it(tmp_path: Path, tiny_folder: Path) -> None:
    first = run(tiny.recipe(tmp_path, tiny_folder), quiet=True)
    before = manifests(first.folder)
    run(tiny.recipe(tmp_path, tiny_folder), quiet=True)
    assert manifests(first.folder) == before
    policy = (first.folder / "round_0" / "ppo" / "model" / "model.safetensors").read_bytes()

    changed = run(tiny.recipe(tmp_path, tiny_folder, ppo={"lam": 0.5}), quiet=True)
    after = manifests(changed.folder)
    assert {name for name in ACTS if after[name] != before[name]} == {"ppo", "evaluation"}
    # The earlier results are kept.
    aside = sorted(p for p in (changed.folder / "round_0").iterdir() if ".old" in p.name)
    assert [p.name.split(".")[0] for p in aside] == ["evaluation", "ppo"]
    assert (aside[1] / "model" / "model.safetensors").read_bytes() == policy
    assert (changed.folder / "round_0" / "ppo" / "model" / "model.safetensors").read_bytes() != policy
    assert len(rows(changed.folder / "round_0" / "ppo" / "metrics.jsonl")) == 4


def redone(recipe: Recipe) -> set[str]:
    """The acts that a run with this recipe does or does again."""
    before = manifests(recipe.out / recipe.name)
    after = manifests(run(recipe, quiet=True).folder)
    return {name for name in after if ".old" not in name and after[name] != before.get(name)}


def demonstrated(path: Path, prompts: list[Prompt], said: str) -> str:
    return tiny.write_rows(path, [{"prompt": p.messages[-1].content, "completion": said} for p in prompts])


def test_an_act_is_done_again_where_a_file_that_it_reads_was_edited(tmp_path: Path, tiny_folder: Path) -> None:
    """Under the same name; and not where the same file lies elsewhere, or where nothing that it reads has changed."""
    template = tmp_path / "template.jinja"
    template.write_text(tiny.TEMPLATE)
    shown, asked, tested = (tiny.questions(24, seed=seed) for seed in (5, 6, 7))
    data: dict[str, Any] = {
        "demonstrations": demonstrated(tmp_path / "shown.jsonl", shown, "yes"),
        "prompts": tiny.prompt_file(tmp_path / "asked.jsonl", asked),
        "evaluation_prompts": tiny.prompt_file(tmp_path / "tested.jsonl", tested),
    }

    def recipe(more: dict[str, Any] | None = None, **changes: Any) -> Recipe:
        model = {"chat_template": template}
        return tiny.recipe(tmp_path / "runs", tiny_folder, model=model, data=data | (more or {}), **changes)

    assert redone(recipe()) == set(ACTS)
    assert redone(recipe()) == set()
    longer = {"max_new_tokens": 6}
    assert redone(recipe(ppo=longer)) == {"ppo", "evaluation"}  # which leaves room enough for the prompts as well
    tiny.prompt_file(tmp_path / "tested.jsonl", tiny.questions(24, seed=8))
    assert redone(recipe(ppo=longer)) == {"evaluation"}
    data["prompts"] = tiny.prompt_file(tmp_path / "elsewhere.jsonl", asked)
    assert redone(recipe({"max_left_out": 0.4}, ppo=longer)) == set()
    tiny.prompt_file(tmp_path / "elsewhere.jsonl", tiny.questions(24, seed=9))
    assert redone(recipe(ppo=longer)) == {"responses", "reward", "ppo", "evaluation"}
    answered = by_prompt(rows(tmp_path / "runs" / "tiny" / "round_0" / "responses" / "responses.jsonl"))
    assert {prompt.id for prompt, _ in answered} <= {prompt.id for prompt in tiny.questions(24, seed=9)}
    demonstrated(tmp_path / "shown.jsonl", shown, "no")
    assert redone(recipe(ppo=longer)) == set(ACTS)
    shorter = {"max_tokens": 12, "max_prompt_tokens": 7, "max_left_out": 0.9}
    assert redone(recipe(shorter, ppo=longer)) == set(ACTS)
    template.write_text(tiny.TEMPLATE.replace("<user> ", "<user> why "))
    assert redone(recipe(shorter, ppo=longer)) == set(ACTS)


def test_a_judge_is_trained_again_where_rankings_have_changed_under_the_same_ids(
    tmp_path: Path, tiny_folder: Path
) -> None:
    """Turned round, more decided, of another objective. What PPO alone reads leaves it as it is."""
    path = tmp_path / "pairs.jsonl"
    data = {
        "preferences": ({"path": tiny.pair_file(path)},),
        "prompts": tiny.prompt_file(tmp_path / "prompts.jsonl", tiny.questions(30, seed=9)),
    }
    pairs = rows(path)

    def again(steps: int = 4, **change: Any) -> set[str]:
        tiny.write_rows(path, [pair | change for pair in pairs])
        changes: dict[str, Any] = {
            "ppo": {"steps": steps},
            "reward": {"centring_samples": 8},
            "evaluation": {"dpo": True},
        }
        return redone(tiny.recipe(tmp_path / "runs", tiny_folder, world=None, sft=None, data=data, **changes))

    learned = {"reward", "ppo", "dpo", "evaluation"}
    assert again() == learned
    assert again() == set()
    assert again(ranking=[[1], [0]]) == learned
    assert again(ranking=[[1], [0]], strength=5.0) == learned
    assert again(ranking=[[1], [0]], strength=5.0, objective="kind") == learned
    assert again(5, ranking=[[1], [0]], strength=5.0, objective="kind") == {"ppo", "evaluation"}


def test_the_ceiling_and_the_judge_hang_on_what_sets_their_zero(tmp_path: Path, tiny_folder: Path) -> None:
    """The SFT model's answers, those that nobody was asked about among them."""
    changes: dict[str, Any] = {
        "sft": None, "evaluation": {"ceiling": "tiny:count_yes"}, "feedback": {"queue": {"shown": 2}},
    }  # fmt: skip
    assert "ceiling" in redone(tiny.recipe(tmp_path, tiny_folder, **changes))
    sample = {"responses_per_prompt": 4}
    assert {"reward", "ceiling"} <= redone(tiny.recipe(tmp_path, tiny_folder, sample=sample, **changes))
    changes["evaluation"] = {"ceiling": "tiny:count_yes", "resamples": 40}  # the intervals of the judge's figures too
    assert redone(tiny.recipe(tmp_path, tiny_folder, sample=sample, **changes)) == {"reward", "evaluation"}


def test_acts_are_taken_from_the_cache_of_other_runs(tmp_path: Path, tiny_folder: Path) -> None:
    cache = tmp_path / "cache"
    first = run(tiny.recipe(tmp_path / "one", tiny_folder, cache=cache), quiet=True)
    second = run(tiny.recipe(tmp_path / "two", tiny_folder, cache=cache, ppo={"lam": 0.5}), quiet=True)
    shared = {name for name, text in manifests(second.folder).items() if manifests(first.folder)[name] == text}
    assert shared == {"sft", "responses", "reward"}
    assert second.summary["rounds"][0]["reward"] == first.summary["rounds"][0]["reward"]
    assert second.summary["rounds"][0]["ppo"] != first.summary["rounds"][0]["ppo"]
    equal_weights(first.folder / "round_0" / "reward", second.folder / "round_0" / "reward")
