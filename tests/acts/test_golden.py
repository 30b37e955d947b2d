"""Golden losses: ten steps of each act on a random two-layer model. A change of any number here changes training.

After a change that is meant to (see CONTRIBUTING.md): `python -m pytest tests/acts/test_golden.py --regenerate`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny
from plaudit.progress import Journal
from plaudit.recipe import KL, PPO, SFT, Adapter, Optimizer, Reward
from plaudit.reward.model import RewardModel
from plaudit.reward.train import train_judge
from plaudit.rl.ppo import ppo
from plaudit.sft.train import train_sft
from plaudit.types import Demonstration

GOLDEN = Path(__file__).parent / "golden.json"
STEPS = 10
OPTIMIZER = Optimizer(learning_rate=3e-3, warmup=0.2)
LORA = Adapter(rank=4, alpha=8.0)


def judge_on_pairs(folder: Path) -> RewardModel:
    """Ten steps on rankings of two and three, one of them with a tie."""
    texts = tiny.answers(120, seed=2)
    judgements = [
        tiny.judgement(prompt, [f"yes {texts[3 * i]}", texts[3 * i + 1], texts[3 * i + 2]][: 2 + i % 2], ranking)
        for i, prompt in enumerate(tiny.questions(40, seed=5))
        for ranking in [[[0], [1]] if i % 2 == 0 else [[0], [1, 2]] if i % 3 == 0 else [[0], [1], [2]]]
    ]
    config = Reward(adapter=LORA, optimizer=OPTIMIZER, batch_size=4, tokens_per_microbatch=60)
    judge = RewardModel(tiny.trunk("gpt_neox", 1), tiny.chat(), ["overall"], part="reward", adapter=LORA, seed=0)
    with Journal(folder, quiet=True) as journal:
        train_judge(judge, judgements, [], config, seed=0, journal=journal)
    return judge


def sft(folder: Path) -> None:
    config = SFT(adapter=LORA, optimizer=OPTIMIZER, batch_size=4, tokens_per_microbatch=40, held_out=0.0)
    pairs = zip(tiny.questions(40, seed=1), tiny.answers(40, seed=1), strict=True)
    demonstrations = [Demonstration(prompt=prompt, response=text) for prompt, text in pairs]
    with Journal(folder, quiet=True) as journal:
        train_sft(tiny.trunk("gpt2"), tiny.chat(), demonstrations, config, seed=0, journal=journal, folder=folder)


def reward(folder: Path) -> None:
    judge_on_pairs(folder)


def rl(folder: Path) -> None:
    config = PPO(
        adapter=LORA,
        value_adapter=LORA,
        optimizer=OPTIMIZER,
        kl=KL(controller="adaptive", coefficient=0.2, target=1.0, horizon=100),
        steps=STEPS,
        prompts_per_step=6,
        responses_per_prompt=2,
        minibatches=2,
        max_new_tokens=6,
        temperature=0.8,
        gamma=0.99,
        tokens_per_microbatch=60,
    )
    with Journal(folder, quiet=True) as journal:
        ppo(
            tiny.trunk("llama", 1),
            tiny.chat(),
            tiny.CountWord(),
            tiny.questions(9),
            config,
            seed=0,
            journal=journal,
            folder=folder,
        )


ACTS: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "sft": (sft, ("loss", "grad_norm", "learning_rate")),
    "reward": (reward, ("loss", "accuracy", "grad_norm")),
    "ppo": (rl, ("policy_loss", "value_loss", "score", "kl", "entropy", "approx_kl", "grad_norm", "kl_coefficient")),
}


@pytest.mark.parametrize("act", ACTS)
def test_ten_steps(act: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    run, names = ACTS[act]
    run(tmp_path)
    rows: list[dict[str, Any]] = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["step"] > 0]
    assert len(rows) == STEPS
    found = {name: [row[name] for row in rows] for name in names}
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.is_file() else {}
    if request.config.getoption("--regenerate"):
        golden[act] = {name: [float(f"{value:.8g}") for value in values] for name, values in found.items()}
        GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")
    for name, values in found.items():
        assert values == pytest.approx(golden[act][name], rel=1e-4, abs=1e-6), name
