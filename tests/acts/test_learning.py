"""Each act does what it is for: the judge tells good from bad, PPO raises its reward, SFT learns its answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny
from plaudit.progress import Journal
from plaudit.recipe import KL, PPO, SFT, Adapter, Optimizer, Reward
from plaudit.reward.model import RewardModel
from plaudit.reward.train import train_judge
from plaudit.rl.ppo import ppo
from plaudit.sft.train import train_sft
from plaudit.types import Demonstration

LORA = Adapter(rank=8, alpha=16.0)


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_sft_learns_what_it_is_shown(tmp_path: Path) -> None:
    shown = [Demonstration(prompt=p, response="yes the cat") for p in tiny.questions(40)]
    rate = Optimizer(learning_rate=1e-2)
    config = SFT(adapter=Adapter(kind="full"), optimizer=rate, batch_size=8, epochs=6, held_out=0.2)
    with Journal(tmp_path, quiet=True) as journal:
        result = train_sft(tiny.trunk(), tiny.chat(), shown, config, seed=0, journal=journal, folder=tmp_path)
    before = metrics(tmp_path)[0]["held_out_loss"]
    assert before > 3.0
    assert result["held_out_loss"] < 0.1  # on prompts it was not shown


@pytest.mark.parametrize(
    ("objective", "head_start", "epochs", "bar"),
    [("yes", "random", 4, 0.9), ("brief", "random", 4, 0.9), ("yes", "probe", 0, 0.8), ("yes", "probe", 4, 0.9)],
)
def test_the_judge_separates_what_can_be_separated(
    objective: str, head_start: str, epochs: int, bar: float, tmp_path: Path
) -> None:
    """Rankings of four, by the number of yeses or by brevity, on prompts and answers it was not trained on."""
    rng = np.random.default_rng(1)

    def ranked(count: int, seed: int) -> list[tiny.Judgement]:
        judgements: list[tiny.Judgement] = []
        for prompt in tiny.questions(count, seed=seed):
            texts = []
            for k in rng.permutation(4):
                if objective == "yes":
                    words = ["yes"] * k + rng.choice(tiny.WORDS[1:], size=4 - k).tolist()
                else:
                    words = rng.choice(tiny.WORDS, size=1 + 2 * k).tolist()
                texts.append(" ".join(rng.permutation(words)))
            key = [-t.split().count("yes") if objective == "yes" else len(t.split()) for t in texts]
            order = sorted(range(4), key=lambda i: key[i])
            judgements.append(tiny.judgement(prompt, texts, [[i] for i in order]))
        return judgements

    rate = Optimizer(learning_rate=1e-2)
    config = Reward(adapter=LORA, optimizer=rate, batch_size=8, epochs=epochs, head_start=head_start)  # pyright: ignore
    judge = RewardModel(tiny.trunk(), tiny.chat(), ["overall"], part="reward", adapter=LORA, seed=0)
    with Journal(tmp_path, quiet=True) as journal:
        result = train_judge(judge, ranked(80, 1), ranked(30, 2), config, seed=0, journal=journal)
    assert result["held_out_accuracy"] > bar
    assert result["held_out_loss"] < (0.4 if epochs else 0.6)
    untouched = all(bool((update.B == 0).all()) for update in judge.trunk.part("reward").updates)  # pyright: ignore
    assert untouched == (epochs == 0)
    good, bad = ("yes yes", "no red") if objective == "yes" else ("cat", "cat dog what is the a one two")
    scores = judge([tiny.asked("what is one")] * 2, [good, bad])[:, 0]
    assert scores[0] > scores[1]


@pytest.mark.parametrize(("split_depth", "kind"), [(0, "full"), (1, "lora")])
def test_ppo_raises_a_scripted_reward(split_depth: int, kind: str, tmp_path: Path) -> None:
    adapter = Adapter(kind=kind, rank=8, alpha=16.0)  # pyright: ignore[reportArgumentType]
    config = PPO(
        adapter=adapter,
        value_adapter=adapter,
        optimizer=Optimizer(learning_rate=1e-2 if kind == "lora" else 2e-3, schedule="constant"),
        kl=KL(coefficient=0.02),
        steps=30,
        prompts_per_step=32,
        minibatches=2,
        max_new_tokens=6,
        missing_eos_penalty=0.0,
    )
    with Journal(tmp_path, quiet=True) as journal:
        ppo(
            tiny.trunk(split_depth=split_depth),
            tiny.chat(),
            tiny.CountWord(),
            tiny.questions(32),
            config,
            seed=0,
            journal=journal,
            folder=tmp_path,
        )
    rows = metrics(tmp_path)
    before, after = (np.mean([row["score"] for row in part]) for part in (rows[:3], rows[-3:]))
    assert before < 1.0
    assert after > 2.0 * before + 1.0
    assert rows[0]["kl"] == pytest.approx(0.0, abs=1e-4)
    assert rows[-1]["kl"] > 1.0
    assert rows[-1]["entropy"] < rows[0]["entropy"]


def test_the_leash_holds(tmp_path: Path) -> None:
    """The same run with a hundredfold coefficient stays near where it began."""
    ends: list[dict[str, float]] = []
    for coefficient in (0.02, 2.0):
        config = PPO(
            adapter=LORA,
            value_adapter=LORA,
            optimizer=Optimizer(learning_rate=1e-2, schedule="constant"),
            kl=KL(coefficient=coefficient),
            steps=12,
            prompts_per_step=24,
            max_new_tokens=6,
            missing_eos_penalty=0.0,
        )
        folder = tmp_path / str(coefficient)
        folder.mkdir()
        with Journal(folder, quiet=True) as journal:
            ppo(
                tiny.trunk(),
                tiny.chat(),
                tiny.CountWord(),
                tiny.questions(24),
                config,
                seed=0,
                journal=journal,
                folder=folder,
            )
        ends.append(metrics(folder)[-1])
    loose, tight = ends
    assert loose["kl"] > 4 * tight["kl"]
    assert loose["score"] > tight["score"]


def test_the_exported_policy_is_the_policy(tmp_path: Path) -> None:
    """The merged folder speaks as the last step's policy would, with transformers alone."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    made = tiny.trunk()
    config = PPO(adapter=LORA, value_adapter=LORA, steps=2, prompts_per_step=4, max_new_tokens=4)
    with Journal(tmp_path, quiet=True) as journal:
        ppo(
            made,
            tiny.chat(),
            tiny.CountWord(),
            tiny.questions(4),
            config,
            seed=0,
            journal=journal,
            folder=tmp_path,
        )
    opened = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    tokens = tiny.sequences([9])[0][None]
    real = torch.ones_like(tokens, dtype=torch.bool)
    with torch.no_grad():
        ours = made.logits(made(tokens, real, part="policy"), part="policy")
        torch.testing.assert_close(opened(input_ids=tokens).logits, ours, atol=1e-5, rtol=1e-5)
    assert opened.generation_config.eos_token_id == [tiny.END, tiny.STOP]
    assert AutoTokenizer.from_pretrained(tmp_path / "model").chat_template == tiny.TEMPLATE
    samples = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert [s["step"] for s in samples] == [0, 0, 0, 1, 1, 1]
    assert set(samples[0]) == {"step", "prompt", "response", "score", "kl"}
