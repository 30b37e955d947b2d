"""A recipe's plan: which acts it has, and what it says of those that do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoModelForSequenceClassification
from typer.testing import CliRunner

import tiny
from plaudit.cli import app
from plaudit.cli.shell import DOES_NOT_FIT
from plaudit.data.chat import Chat
from plaudit.material import Material
from plaudit.models.costs import network_of
from plaudit.needs import Lines, Needs
from plaudit.plan import Plan, make_plan, of_the_judge, ranked
from plaudit.recipe_file import dump_recipe, load_recipe, shipped_recipe


def test_the_plan_of_a_recipe(tmp_path: Path) -> None:
    plan = make_plan(tiny.recipe(tmp_path, tiny.model_folder(tmp_path / "model")))
    assert plan.fits
    assert plan.rate > 1e8
    told = "\n".join(plan.lines())
    assert "trunk, frozen" in told
    assert "train:" in told
    assert [act.name for act in plan.acts] == [
        "Act I, fine-tuning",
        "Act II, responses",
        "Act II, the judge",
        "Act III, PPO",
    ]
    assert plan.complaint() == ""
    assert [act.times for act in plan.acts] == [1, 1, 1, 1]
    assert plan.lines()[-1] == "not counted: the evaluation"
    plan.available = 1.0
    assert not plan.fits
    assert all(act.name in plan.complaint() for act in plan.acts)


def test_what_does_not_fit_is_said_with_a_code_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plaudit.plan.memory_of", lambda device: 1e6)
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(load_recipe(shipped_recipe("demo"))), encoding="utf-8")
    done = CliRunner().invoke(app, ["plan", str(path)])
    assert done.exit_code == DOES_NOT_FIT
    assert done.stderr.startswith("error: this does not fit: Act I, fine-tuning needs ")
    assert "0.5 are program" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_classifier_that_pays_is_counted(tmp_path: Path) -> None:
    folder = tiny.model_folder(tmp_path / "model")
    own = make_plan(tiny.recipe(tmp_path, folder))
    ready = make_plan(tiny.recipe(tmp_path, folder, ppo={"reward": str(folder)}))
    made = AutoModelForSequenceClassification.from_pretrained(folder)
    weights = sum(p.numel() for p in made.parameters())
    ready, own = ready.acts[-1], own.acts[-1]
    assert ready.stays["reward, a classifier"] == weights * 4
    assert "reward, a classifier" not in own.stays
    recipe = tiny.recipe(tmp_path, folder)
    chat = Chat.load(str(folder))
    lengths = [len(chat.prompt_ids(prompt)) for prompt in Material(recipe).ppo_prompts(chat, 0)]
    # Each response behind its prompt, two operations for each weight that multiplies (an embedding is looked up).
    tokens = recipe.ppo.prompts_per_step * recipe.ppo.responses_per_prompt
    tokens *= sum(lengths) / len(lengths) + recipe.ppo.max_new_tokens
    multiplied = sum(p.numel() for name, p in made.named_parameters() if "embed_tokens" not in name)
    assert ready.flops["reward"] == pytest.approx(2 * multiplied * tokens)
    assert ready.seconds["reward"] > 0


def test_what_is_not_counted_is_said(tmp_path: Path) -> None:
    folder = tiny.model_folder(tmp_path / "model")
    plan = make_plan(tiny.recipe(tmp_path, folder, ppo={"reward": "tiny:count_yes"}))
    assert plan.lines()[-1] == "not counted: what tiny:count_yes takes, the evaluation"
    assert [act.name for act in plan.acts] == ["Act I, fine-tuning", "Act III, PPO"]  # nobody ranks anything


def test_a_plan_without_ppo(tmp_path: Path) -> None:
    folder = tiny.model_folder(tmp_path / "model")
    plan = make_plan(tiny.recipe(tmp_path, folder, align="dpo"))
    acts = ["Act I, fine-tuning", "Act II, responses", "Act II, the judge", "Act III, DPO"]
    assert [act.name for act in plan.acts] == acts


def test_acts_that_come_in_every_round_are_counted_as_often(tmp_path: Path) -> None:
    """From the second round on a policy speaks that stands beside the trunk."""
    folder = tiny.model_folder(tmp_path / "model")
    network = network_of(tiny.model(layers=2))
    plans = [make_plan(tiny.recipe(tmp_path, folder, rounds=rounds)) for rounds in (1, 3)]
    assert [act.times for act in plans[1].acts] == [1, 3, 3, 3]
    weights = network.layers * network.layer_weights + network.other_weights
    assert [plan.acts[1].stays["policy, whole"] for plan in plans] == [0, weights * 4]
    ppo = plans[1].acts[-1]
    assert ppo.total_seconds == pytest.approx(3 * ppo.steps * sum(ppo.seconds.values()))
    assert any(line.endswith(" in each of 3 rounds, if every response is as long as it may be")
               for line in plans[1].lines())  # fmt: skip


def test_dpo_learns_from_the_judges_half(tmp_path: Path) -> None:
    lines = Lines(count=200, mean=10.0, longest=16, predicted=4.0)
    for second, count in ((False, 160), (True, 80)):
        recipe = tiny.recipe(tmp_path, tmp_path, reward={"held_out": 0.2, "second_judge": second})
        assert of_the_judge(lines, recipe).count == count


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("activations of a micro-batch", "lower ppo.tokens_per_microbatch, set model.activation_checkpointing"),
        ("cache of keys and values", "lower ppo.prompts_per_step or ppo.max_new_tokens"),
        ("trunk, frozen", "model.quantise: nf4"),
        ("boundary states", "lower model.boundary_gigabytes"),
        ("what is trained, with gradient and Adam", "lower ppo.adapter.rank"),
    ],
)
def test_what_does_not_fit_is_named_with_what_helps(part: str, said: str) -> None:
    needs = Needs(name="Act III, PPO", section="ppo", steps=1, stays={"program": 1e9}, phases={"train": {part: 90e9}})
    plan = Plan(acts=[needs], available=80e9, rate=1e9)
    assert plan.complaint().startswith(f"Act III, PPO needs 91.0 GB, of which 90.0 are {part}: ")
    assert said in plan.complaint()


@pytest.mark.parametrize(("shown", "count"), [(None, 4), (2, 2), (9, 4)])
def test_people_rank_what_they_are_shown(tmp_path: Path, shown: int | None, count: int) -> None:
    """Of four answers of 5 tokens each."""
    folder = tiny.model_folder(tmp_path / "model")
    sample = {"responses_per_prompt": 4, "max_new_tokens": 5}
    recipe = tiny.recipe(tmp_path, folder, sample=sample, feedback={"queue": {"shown": shown}})
    assert ranked(Material(recipe), Chat.load(str(folder))).predicted == 5 * count
