"""What acts say of their speed: each figure by hand from what was read, and the keys that every act logs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from plaudit.models import costs
from plaudit.models.costs import Network
from plaudit.models.pace import Pace
from plaudit.models.trunk import Trunk
from plaudit.progress import Journal
from plaudit.recipe import DPO, PPO, SFT, Adapter, Optimizer, Reward
from plaudit.reward.model import RewardModel
from plaudit.reward.train import train_judge
from plaudit.rl.dpo import dpo
from plaudit.rl.ppo import ppo
from plaudit.sft.train import train_sft
from plaudit.types import Demonstration, RewardFunction
from steps import LORA, config

NETWORK = Network(
    layers=5,
    layer_weights=10,
    linear_weights=8,
    other_weights=0,
    head_weights=30,
    width=1,
    attention_width=1,
    kv_width=1,
    mlp_width=1,
    lora_widths=1,
)
OF_TRAINING = {"seconds", "tokens_per_second", "utilisation", "padding"}


def test_the_figures_of_a_step_by_hand() -> None:
    """Two micro-batches, of lines of 4, 3 and of 2 tokens; 5 of the 9 predict; 6 were read below the split now. Above
    it are 4 layers of 20 operations a token, below it is one, and logits cost 60."""
    pace = Pace(tiny.trunk("llama", 1))
    pace.network, pace.rate = NETWORK, 1000.0
    pace.seconds["train"], pace.read["train"] = 2.0, (6, 9)
    groups = [[4, 3], [2]]
    figures = pace.of_training("train", LORA, groups, predicted=5)
    flops = 2 * 9 * 4 * 20 + 2 * 5 * 60 + 6 * 1 * 20
    assert figures == pytest.approx(
        {"seconds": 2.0, "tokens_per_second": 4.5, "utilisation": flops / 2.0 / 1000.0, "padding": 1 / 10}
    )
    assert pace.forward_flops("train") == 6 * 20 + 9 * 4 * 20
    pace.trunk.activation_checkpointing = True
    again = pace.of_training("train", LORA, groups, predicted=5)["utilisation"] * 2000.0
    assert again == pytest.approx(flops + 9 * 4 * 20)
    full = pace.of_training("train", Adapter(kind="full"), groups)["utilisation"] * 2000.0
    assert full == pytest.approx((3 + 1) * 9 * 4 * 20 + 6 * 20)


def test_measuring_the_rate_draws_nothing() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    assert costs.matmul_rate(torch.device("cpu"), torch.float32, seconds=0.0) >= 0
    assert torch.equal(torch.rand(4), expected)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def test_every_training_act_says_how_fast_it_was(tmp_path: Path) -> None:
    optimizer = Optimizer(learning_rate=1e-3)
    ranked = [tiny.judgement(p, ["yes yes", "no", "cat red"], [[0], [1], [2]]) for p in tiny.questions(6)]
    demonstrations = [Demonstration(prompt=p, response="yes yes no") for p in tiny.questions(6)]
    sizes: dict[str, Any] = {"batch_size": 3, "epochs": 2, "adapter": LORA, "optimizer": optimizer}
    made = tiny.trunk("llama", 1)
    judge = RewardModel(made, tiny.chat(), ["overall"], part="reward", adapter=LORA, seed=0)
    for act in ("sft", "reward", "dpo"):
        with Journal(tmp_path / act, quiet=True) as journal, made.memory.kept():
            given: dict[str, Any] = {"seed": 0, "journal": journal}
            if act == "sft":
                config = SFT(**sizes, held_out=0.0)
                train_sft(made, tiny.chat(), demonstrations, config, folder=tmp_path / act, **given)
            elif act == "reward":
                train_judge(judge, ranked, [], Reward(**sizes, head_start="random"), **given)
            else:
                folder = tmp_path / act
                dpo(made, tiny.chat(), ranked, [], DPO(**sizes), objective_weights={}, folder=folder, **given)
        steps = [one for one in lines(tmp_path / act) if one["step"] > 0]
        assert len(steps) == 4
        for one in steps:
            assert one.keys() >= OF_TRAINING
            assert 0 <= one["padding"] < 1
            assert one["utilisation"] > 0


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize(("gigabytes", "on_disk"), [(1.0, 0.0), (0.0, 1.0), (0.0, 0.0)])
def test_phases_of_a_step_of_ppo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool, gigabytes: float, on_disk: float
) -> None:
    """A judge on the trunk is seen by what the trunk reads for it. What has no room in memory is read by whoever comes
    first, the judge or the reference; where the disk has none either it is read anew by each, by the policy and by the
    value in every epoch."""
    made = Trunk(tiny.model(), 1, boundary_gigabytes=gigabytes, boundary_disk_gigabytes=on_disk)
    judge = RewardModel(made, tiny.chat(), ["overall"], part="reward", adapter=LORA, seed=0)
    reward: RewardFunction = judge if own else tiny.CountWord()
    settings: PPO = config(epochs=2, minibatches=1)
    paces: list[Pace] = []

    def noted(trunk: Trunk) -> Pace:
        paces.append(Pace(trunk))
        return paces[-1]

    monkeypatch.setattr("plaudit.rl.ppo.Pace", noted)
    with Journal(tmp_path, quiet=True) as journal:
        ppo(made, tiny.chat(), reward, tiny.questions(9), settings, seed=0, journal=journal, folder=tmp_path)
    (step,), (pace,) = lines(tmp_path), paces
    phases = ("generate", "reward", "score", "train")
    said = step["tokens_per_second"] * step["seconds"]
    for phase in phases:
        assert step[f"tokens_per_second/{phase}"] * step[f"seconds/{phase}"] == pytest.approx(said)
    assert {phase for phase in phases if f"utilisation/{phase}" in step} == set(phases) - (set() if own else {"reward"})
    lower, top = pace.read["train"]
    assert top > 0
    assert top % (2 * 2) == 0  # policy and value, two epochs
    assert lower == (0 if gigabytes or on_disk else top)
    assert (pace.read["reward"][1] > 0) == own
    assert pace.read["generate"] == (0, 0)
    lower, both = pace.read["score"]
    assert both == top / 2  # reference and value
    if own and on_disk:  # texts that do not give the ids that were drawn are read once more
        assert 0 < lower < top / 4
    else:
        assert lower == (0 if gigabytes else top / 4 if on_disk else top / 2)
    assert 0 <= step["padding"] < 1
