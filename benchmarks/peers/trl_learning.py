"""TRL 1.12.0's PPO against a scripted reward: what it learns, and when; runs in TRL's environment.

Its reward model is a network that reads tokens. Here a stand-in without weights decodes them and scores the text, so
that this costs next to nothing, as on our side. The value head starts at zero, as ours does.
"""

from __future__ import annotations

from typing import Any

import torch
from meter import medians, serve
from scripted import REWARDS
from torch import Tensor, nn
from transformers import AutoTokenizer
from trl.experimental.ppo import PPOTrainer, ppo_trainer

from peers.trl_ppo import Clock, trainer_of, tune, watch


class Scripted(nn.Module):
    """Stands where the trainer wants a reward model."""

    def __init__(self, task: dict[str, Any]) -> None:
        super().__init__()
        self.tokenizer = AutoTokenizer.from_pretrained(task["model"])
        self.score_of, self.pad_id = REWARDS[task["reward"]], task["pad_id"]
        self.questions = dict(zip(map(tuple, task["prompts"]), task["questions"], strict=True))

    def scores(self, queries_BP: Tensor, responses_BT: Tensor) -> Tensor:
        texts = self.tokenizer.batch_decode(responses_BT, skip_special_tokens=True)
        asked = (self.questions[tuple(i for i in ids if i != self.pad_id)] for ids in queries_BP.tolist())
        scores = [self.score_of(question, text) for question, text in zip(asked, texts, strict=True)]
        return torch.tensor(scores, device=responses_BT.device)


def ppo(task: dict[str, Any]) -> dict[str, Any]:
    """Reward, KL and wall seconds of each update, from the start of training on."""
    if task.get("tuned"):
        tune()
    settings = {"learning_rate": task["rate"], "kl_coef": task["kl"], "missing_eos_penalty": None}
    trainer = trainer_of(task | {"settings": settings}, Scripted(task))
    nn.init.zeros_(trainer.value_model.score.weight)
    score_by_text()
    clock = Clock()
    watch(trainer, clock)
    logs = noted(trainer)
    clock.began = clock.now()
    trainer.train()
    return {
        "rewards": [one["objective/scores"] for one in logs],
        "kl": [one["objective/kl"] for one in logs],
        "seconds": [update["value"] for update in clock.updates],
        "phases": medians([{k: v for k, v in update.items() if k != "value"} for update in clock.updates]),
        "response_length": clock.lengths,
        "memory_gb": clock.peak,
    }


def score_by_text() -> None:
    """Only the score at the last token is read of a reward model; a value model goes the way it always went."""
    get_reward = ppo_trainer.get_reward

    def scripted(model: nn.Module, sequences: Tensor, pad_id: int, begin: int) -> tuple[Tensor, Tensor, Tensor]:
        if not isinstance(model, Scripted):
            return get_reward(model, sequences, pad_id, begin)
        scores_B = model.scores(sequences[:, :begin], sequences[:, begin:])
        return scores_B, scores_B, scores_B

    ppo_trainer.get_reward = scripted


def noted(trainer: PPOTrainer) -> list[dict[str, float]]:
    """What the trainer logs from now on, update by update."""
    logs: list[dict[str, float]] = []
    log = trainer.log

    def noting(metrics: dict[str, float], *args: Any, **kwargs: Any) -> None:
        logs.append(dict(metrics))
        log(metrics, *args, **kwargs)

    trainer.log = noting
    return logs


if __name__ == "__main__":
    serve({"ppo": ppo})
