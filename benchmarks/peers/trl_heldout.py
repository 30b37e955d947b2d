"""TRL 1.16's SFTTrainer and RewardTrainer with held-out figures on the way; runs in TRL's environment.

The figures are Plaudit's: loss per token of the completions, their EOS among them; loss per pair, and pairs in the
right order, equal scores counting half.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from meter import StoppedClock, peak_gb, serve
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid
from transformers import Trainer, TrainerCallback

from peers.trl_trainers import IGNORED, Row, completions, pairs, reward_trainer, sft_trainer

AT_ONCE = 8


def sft(task: dict[str, Any]) -> dict[str, Any]:
    held = completions(task, "held_demonstrations")
    return checked(task, sft_trainer(with_settings(task), completions(task, "demonstrations")), held, completion_loss)


def reward(task: dict[str, Any]) -> dict[str, Any]:
    trainer = reward_trainer(with_settings(task), pairs(task, "pairs"))
    return checked(task, trainer, pairs(task, "held_pairs"), pair_figures)


def with_settings(task: dict[str, Any]) -> dict[str, Any]:
    batch, micro = task["scale"]["training_batch"], task["scale"]["micro_batch"]
    settings = {
        "learning_rate": task["rate"],
        "lr_scheduler_type": "constant",
        "num_train_epochs": task["scale"]["epochs"],
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": batch // micro,
        "seed": task["run"],
    }
    return task | {"settings": settings}


class Check(TrainerCallback):
    """Lets a stopped clock look at every step."""

    def __init__(self, clock: StoppedClock) -> None:
        self.clock = clock

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.clock.start()
        self.clock.after(0)

    def on_step_end(self, args: Any, state: Any, *rest: Any, **kwargs: Any) -> None:
        self.clock.after(state.global_step)


def checked(task: dict[str, Any], trainer: Trainer, held: list[Row], figures: Any) -> dict[str, Any]:
    batch, epochs = task["scale"]["training_batch"], task["scale"]["epochs"]

    @torch.no_grad()
    def check() -> dict[str, float]:
        trainer.model.eval()
        found = figures(trainer.model, held, task["pad_id"])
        trainer.model.train()
        return found

    clock = StoppedClock(check, every=task["every"], last=-(-len(trainer.train_dataset) // batch) * epochs)
    trainer.add_callback(Check(clock))
    trainer.train()
    return {"rows": clock.rows, "memory_gb": peak_gb()}


def completion_loss(model: torch.nn.Module, rows: list[Row], pad_id: int) -> dict[str, float]:
    loss, count = 0.0, 0
    for some in groups(rows, "input_ids"):
        ids, mask = padded([row["input_ids"] for row in some], pad_id)
        labels, _ = padded([row["labels"] for row in some], IGNORED)
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
        loss += cross_entropy(logits.flatten(0, 1).float(), labels[:, 1:].flatten(), reduction="sum").item()
        count += int((labels[:, 1:] != IGNORED).sum())
    return {"loss": loss / count}


def pair_figures(model: torch.nn.Module, rows: list[Row], pad_id: int) -> dict[str, float]:
    loss = right = 0.0
    for some in groups(rows, "chosen_ids"):
        ids, mask = padded([row[name] for name in ("chosen_ids", "rejected_ids") for row in some], pad_id)
        better, worse = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, 0].float().chunk(2)
        loss -= logsigmoid(better - worse).sum().item()
        right += ((better - worse).sign() + 1).sum().item() / 2
    return {"loss": loss / len(rows), "accuracy": right / len(rows)}


def groups(rows: list[Row], name: str) -> list[list[Row]]:
    """A few rows at a time, like lengths together."""
    ordered = sorted(rows, key=lambda row: len(row[name]))
    return [ordered[i : i + AT_ONCE] for i in range(0, len(ordered), AT_ONCE)]


def padded(sequences: Sequence[Sequence[int]], filler: int) -> tuple[Tensor, Tensor]:
    """On the right: (values [B, S], 1 where they are real)."""
    longest = max(map(len, sequences))
    values = [[*s, *[filler] * (longest - len(s))] for s in sequences]
    mask = [[1] * len(s) + [0] * (longest - len(s)) for s in sequences]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.tensor(values, device=device), torch.tensor(mask, device=device)


if __name__ == "__main__":
    serve({"sft": sft, "reward": reward})
