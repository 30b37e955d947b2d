"""Plaudit's side of the benchmarks of learning: PPO against a scripted reward, and the prompts that all sides share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from meter import medians, serve, synchronise
from ours import Enough, Stamps, TokenChat, asked, ppo_updates, trunk_of
from prepare import load_chat, pad_unlike, random_prompts
from scripted import REWARDS
from transformers import AutoConfig

from plaudit.data.chat import Chat, Encoded
from plaudit.data.formats import read_prompts
from plaudit.recipe import KL, PPO, Optimizer
from plaudit.rl.ppo import ppo
from plaudit.types import Prompt


class SpokenChat(TokenChat):
    """Prompts are token ids in digits, equal for all sides; what the model says is text, which is scored."""

    def decode(self, ids: Iterable[int]) -> str:
        return Chat.decode(self, ids)


class EndlessChat(TokenChat):
    """No token ends an answer, so that each is as long as it may be; a judge reads the padding token at its end."""

    @classmethod
    def of(cls, task: dict[str, Any]) -> TokenChat:
        chat = super().of(task)
        chat.eos_ids = (-1,)
        return chat

    def encode(self, prompt: Prompt, text: str) -> Encoded:
        encoded = super().encode(prompt, text)
        return replace(encoded, tokens=(*encoded.tokens[:-1], self.pad_id))


class Scripted:
    """A scripted reward by its name, as a `RewardFunction`."""

    objectives = ("scripted",)

    def __init__(self, name: str) -> None:
        self.score = REWARDS[name]

    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> torch.Tensor:
        return torch.tensor([[self.score(text)] for text in responses])


def inputs(task: dict[str, Any]) -> dict[str, Any]:
    """Prompts as ids, drawn once for all sides, and the ids that end and pad an answer."""
    chat, longest = load_chat(task["model"]), task["longest"]
    if task["data"]:
        read = read_prompts(Path(task["data"]) / "prompts" / "hh_first_turn.train.jsonl.gz").items
        order = np.random.default_rng(0).permutation(len(read))
        fitting = (ids for i in order if len(ids := chat.prompt_ids(read[i])) <= longest)
        prompts = [ids for ids, _ in zip(fitting, range(task["count"]), strict=False)]
    else:
        prompts = random_prompts(task["count"], longest, AutoConfig.from_pretrained(task["model"]).vocab_size)
    ends = {"eos_id": chat.eos_ids[0], "pad_id": pad_unlike(chat.eos_ids[0], chat)}
    Path(task["inputs_to"]).write_text(json.dumps({"prompts": prompts, **ends}))
    return {"prompts": len(prompts), "mean_tokens": sum(map(len, prompts)) / len(prompts)}


def act_three(task: dict[str, Any]) -> dict[str, Any]:
    """Reward, KL and wall seconds of each update, from the call on; what the first one sets up is counted in."""
    scale, chat, trunk = task["scale"], SpokenChat.of(task), trunk_of(task)
    config = PPO(
        optimizer=Optimizer(learning_rate=task["rate"], schedule="linear"),
        kl=KL(coefficient=task["kl"]),
        steps=scale["updates"],
        prompts_per_step=scale["batch"],
        epochs=scale["epochs"],
        minibatches=1,
        max_new_tokens=scale["response"],
        tokens_per_microbatch=scale["micro_batch"] * (scale["prompt"] + scale["response"]),
        value_start="zero",
        missing_eos_penalty=0.0,
        stop_epochs_at_kl=None,
    )
    folder = Path(task["folder"])
    journal = Stamps(folder, stop_after=scale["updates"])
    prompts = [asked(p) for p in task["prompts"]]
    synchronise()
    began = perf_counter()
    with suppress(Enough):
        ppo(trunk, chat, Scripted(task["reward"]), prompts, config, seed=task["run"], journal=journal, folder=folder)
    steps = journal.steps
    phases = [{k.removeprefix("seconds/"): v for k, v in s.items() if k.startswith("seconds/")} for s in steps]
    return {
        "rewards": [s["score"] for s in steps],
        "kl": [s["kl"] for s in steps],
        "seconds": [b - a for a, b in pairwise([began, *journal.times])],
        "phases": medians(phases),
        "response_length": [s["response_length"] for s in steps],
        "memory_gb": journal.peak,
    }


def endless(task: dict[str, Any]) -> dict[str, Any]:
    """Seconds of PPO updates whose answers all have the length that is asked for."""
    made = ppo_updates(task, EndlessChat.of(task))
    if made["response_length"] != task["scale"]["response"]:
        raise RuntimeError(f"answers had {made['response_length']} tokens, not {task['scale']['response']}")
    return made


if __name__ == "__main__":
    serve({"inputs": inputs, "ppo": act_three, "endless": endless})
