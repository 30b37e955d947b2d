"""TRL 1.16's SFTTrainer and RewardTrainer, with LoRA of our rank on all layers; runs in TRL's environment."""

from __future__ import annotations

import time
from typing import Any

import torch
from datasets import Dataset
from meter import lora_targets, peak_gb, serve, synchronise
from peft import LoraConfig
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
)
from trl import RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

IGNORED = -100


Row = dict[str, list[int]]


def sft(task: dict[str, Any]) -> dict[str, Any]:
    rows = completions(task, "demonstrations")
    return timed(sft_trainer(task, rows), sum(len(row["input_ids"]) for row in rows))


def reward(task: dict[str, Any]) -> dict[str, Any]:
    rows = pairs(task, "pairs")
    return timed(reward_trainer(task, rows), sum(len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in rows))


def completions(task: dict[str, Any], name: str) -> list[Row]:
    """Demonstrations as the trainer takes them; the loss is on the completion and its EOS alone."""
    return [
        {"input_ids": [*p, *c, task["eos_id"]], "labels": [IGNORED] * len(p) + [*c, task["eos_id"]]}
        for p, c in task[name]
    ]


def pairs(task: dict[str, Any], name: str) -> list[Row]:
    return [
        {"chosen_ids": [*p, *a, task["eos_id"]], "rejected_ids": [*p, *b, task["eos_id"]]} for p, a, b in task[name]
    ]


def sft_trainer(task: dict[str, Any], rows: list[Row]) -> SFTTrainer:
    model = AutoModelForCausalLM.from_pretrained(task["model"], **loading(task))
    return SFTTrainer(
        model=model,
        args=SFTConfig(**common(task), max_length=None),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer_of(task),
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules=lora_targets(model), task_type="CAUSAL_LM"),
    )


def reward_trainer(task: dict[str, Any], rows: list[Row]) -> RewardTrainer:
    model = AutoModelForSequenceClassification.from_pretrained(task["model"], num_labels=1, **loading(task))
    return RewardTrainer(
        model=model,
        args=RewardConfig(**common(task), max_length=None),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer_of(task),
        peft_config=LoraConfig(
            r=16,
            lora_alpha=32,
            target_modules=lora_targets(model),
            modules_to_save=["score"],
            task_type="SEQ_CLS",
        ),
    )


def loading(task: dict[str, Any]) -> dict[str, Any]:
    return {"dtype": getattr(torch, task["scale"]["dtype"]), "attn_implementation": "sdpa"}


def tokenizer_of(task: dict[str, Any]) -> PreTrainedTokenizerBase:
    tokenizer = AutoTokenizer.from_pretrained(task["model"])
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(task["pad_id"])
    return tokenizer


def common(task: dict[str, Any]) -> dict[str, Any]:
    return {
        "output_dir": task["folder"],
        "per_device_train_batch_size": task["scale"]["training_batch"],
        "num_train_epochs": 1,
        "learning_rate": 1e-4,
        # Its default trades time for memory; ours has none here.
        "gradient_checkpointing": False,
        "bf16": False,
        "use_cpu": not torch.cuda.is_available(),
        "logging_steps": 1,
        "disable_tqdm": True,
        "save_strategy": "no",
        "report_to": "none",
    } | task.get("settings", {})


class Stopwatch(TrainerCallback):
    """Seconds of the latest training, without what the trainer sets up before and clears away behind it."""

    def __init__(self) -> None:
        self.began = self.seconds = 0.0

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        synchronise()
        self.began = time.perf_counter()

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        synchronise()
        self.seconds = time.perf_counter() - self.began


def timed(trainer: Trainer, num_tokens: int) -> dict[str, Any]:
    """Tokens (no padding) per second of one epoch, behind one step that warms up."""
    stopwatch = Stopwatch()
    trainer.add_callback(stopwatch)
    trainer.args.max_steps = 1
    trainer.train()
    trainer.args.max_steps = -1
    trainer.train()
    seconds = stopwatch.seconds
    return {"value": num_tokens / seconds, "seconds": seconds, "tokens": num_tokens, "memory_gb": peak_gb()}


if __name__ == "__main__":
    serve({"sft": sft, "reward": reward})
