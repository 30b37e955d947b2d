"""Plaudit's side of the benchmarks of learning: PPO against a scripted reward, SFT and reward training with held-out
figures on the way; and the data that all sides share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from meter import StoppedClock, medians, serve, synchronise
from ours import Enough, Stamps, TokenChat, asked, pair_of, ppo_updates, text_of, trunk_of
from prepare import load_chat, pad_unlike, random_data, random_prompts, read_data
from scripted import REWARDS
from transformers import AutoConfig

from plaudit.data.chat import Chat, Encoded
from plaudit.data.formats import read_prompts
from plaudit.recipe import KL, PPO, SFT, Optimizer, Reward
from plaudit.reward import train as reward
from plaudit.reward.likelihood import JudgementModel
from plaudit.reward.model import RewardModel
from plaudit.rl.ppo import ppo
from plaudit.sft import train as sft
from plaudit.types import Demonstration, Prompt

NO_TOKEN = 2**31 - 1
"""Beyond every vocabulary."""


class SpokenChat(TokenChat):
    """Prompts are token ids in digits, equal for all sides; what the model says is text, which is scored."""

    def decode(self, ids: Iterable[int]) -> str:
        return Chat.decode(self, ids)


class Unsaid(tuple[int, ...]):
    """An id that no token has; where a judge reads an answer, it is closed with `closing` instead."""

    closing: int

    def __new__(cls, closing: int) -> Unsaid:
        made = super().__new__(cls, (NO_TOKEN,))
        made.closing = closing
        return made

    def __getitem__(self, _: object) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.closing


class EndlessChat(TokenChat):
    """No token ends an answer, so that each is as long as it may be; a judge reads the padding token at its end."""

    @classmethod
    def of(cls, task: dict[str, Any]) -> TokenChat:
        chat = super().of(task)
        chat.eos_ids = Unsaid(chat.pad_id)
        return chat

    def encode(self, prompt: Prompt, text: str) -> Encoded:
        encoded = super().encode(prompt, text)
        return replace(encoded, tokens=(*encoded.tokens[:-1], self.pad_id))


class Scripted:
    """A scripted reward by its name, as a `RewardFunction` of prompts that are ids in digits."""

    objectives = ("scripted",)

    def __init__(self, task: dict[str, Any]) -> None:
        self.score = REWARDS[task["reward"]]
        self.questions = dict(zip(map(text_of, task["prompts"]), task["questions"], strict=True))

    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> torch.Tensor:
        asked = (self.questions[prompt.messages[-1].content] for prompt in prompts)
        return torch.tensor([[self.score(question, text)] for question, text in zip(asked, responses, strict=True)])


def inputs(task: dict[str, Any]) -> dict[str, Any]:
    """Prompts as ids and as what they ask, drawn once for all sides, and the ids that end and pad an answer."""
    chat, longest = load_chat(task["model"]), task["longest"]
    if task["data"]:
        read = read_prompts(Path(task["data"]) / "prompts" / "hh_first_turn.train.jsonl.gz").items
        order = np.random.default_rng(0).permutation(len(read))
        fitting = ((ids, read[i]) for i in order if len(ids := chat.prompt_ids(read[i])) <= longest)
        drawn = [both for both, _ in zip(fitting, range(task["count"]), strict=False)]
        prompts, questions = [ids for ids, _ in drawn], [prompt.messages[-1].content for _, prompt in drawn]
    else:
        prompts = random_prompts(task["count"], longest, AutoConfig.from_pretrained(task["model"]).vocab_size)
        questions = [""] * len(prompts)
    ends = {"eos_id": chat.eos_ids[0], "pad_id": pad_unlike(chat.eos_ids[0], chat)}
    Path(task["inputs_to"]).write_text(json.dumps({"prompts": prompts, "questions": questions, **ends}))
    return {"prompts": len(prompts), "mean_tokens": sum(map(len, prompts)) / len(prompts)}


def act_three(task: dict[str, Any]) -> dict[str, Any]:
    """Reward, KL and wall seconds of each update, from the call on; what the first one sets up is counted in."""
    scale, chat, trunk = task["scale"], SpokenChat.of(task), trunk_of(task)
    settings: dict[str, Any] = {
        "optimizer": Optimizer(learning_rate=task["rate"], schedule="linear"),
        "kl": KL(coefficient=task["kl"]),
        "steps": scale["updates"],
        "prompts_per_step": scale["batch"],
        "epochs": scale["epochs"],
        "minibatches": 1,
        "max_new_tokens": scale["response"],
        "tokens_per_microbatch": scale["micro_batch"] * (scale["prompt"] + scale["response"]),
        "value_start": "zero",
        "missing_eos_penalty": 0.0,
        "stop_epochs_at_kl": None,
    }
    config = PPO(**settings | task.get("ppo", {}))
    folder = Path(task["folder"])
    journal = Stamps(folder, stop_after=scale["updates"])
    prompts = [asked(p) for p in task["prompts"]]
    synchronise()
    began = perf_counter()
    with suppress(Enough):
        ppo(trunk, chat, Scripted(task), prompts, config, seed=task["run"], journal=journal, folder=folder)
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


# -- held-out figures on the way ------------------------------------------------------------------------------------


class Checked(Stamps):
    """Lets a stopped clock look at every step."""

    def __init__(self, folder: Path, clock: StoppedClock) -> None:
        super().__init__(folder, stop_after=clock.last)
        self.clock = clock

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.clock.after(step)
        super().log(step, metrics)


def examples(task: dict[str, Any]) -> dict[str, Any]:
    """Demonstrations and pairs as ids, to train on and to hold out; no prompt is in both parts."""
    wanted, held = task["examples"], task["held"]
    scale = {"examples": 4 * (wanted + held), "max_tokens": task["longest"]}
    chat, model = load_chat(task["model"]), task["model"]
    random = partial(random_data, scale, AutoConfig.from_pretrained(model).vocab_size)
    shown, pairs = read_data(chat, task["data"], scale) if task["data"] else random()
    made: dict[str, Any] = {"eos_id": chat.eos_ids[0], "pad_id": pad_unlike(chat.eos_ids[0], chat)}
    for name, rows in (("demonstrations", shown), ("pairs", pairs)):
        mixed = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
        made[f"held_{name}"] = mixed[:held]
        seen = {tuple(row[0]) for row in mixed[:held]}
        made[name] = [row for row in mixed[held:] if tuple(row[0]) not in seen][:wanted]
    Path(task["inputs_to"]).write_text(json.dumps(made))
    return {name: len(made[name]) for name in ("demonstrations", "pairs")}


def settings_of(task: dict[str, Any]) -> dict[str, Any]:
    scale = task["scale"]
    optimizer = Optimizer(learning_rate=task["rate"], schedule="constant", warmup=0.0)
    sizes = {"batch_size": scale["training_batch"], "tokens_per_microbatch": 1024, "held_out": 0.0}
    return {"optimizer": optimizer, "epochs": scale["epochs"], **sizes}


def checked_sft(task: dict[str, Any]) -> dict[str, Any]:
    chat, trunk, config = TokenChat.of(task), trunk_of(task), SFT(**settings_of(task))
    rows, held = (
        [Demonstration(prompt=asked(p), response=text_of(c)) for p, c in task[name]]
        for name in ("demonstrations", "held_demonstrations")
    )
    testing = sft.prepare(trunk, [chat.encode(d.prompt, d.response) for d in held])
    clock = StoppedClock(
        lambda: {"loss": sft.evaluate(trunk, testing, config.tokens_per_microbatch)},
        every=task["every"],
        last=steps_of(task, rows),
    )
    journal = Checked(Path(task["folder"]), clock)
    clock.start()
    with trunk.memory.kept(), suppress(Enough):
        sft.train_sft(trunk, chat, rows, config, seed=task["run"], journal=journal, folder=journal.folder)
    return {"rows": clock.rows, "memory_gb": journal.peak}


def checked_reward(task: dict[str, Any]) -> dict[str, Any]:
    chat, trunk = TokenChat.of(task), trunk_of(task)
    config = Reward(**settings_of(task), head_start=task.get("head_start", "random"))
    judge = RewardModel(trunk, chat, ["overall"], part="reward", adapter=config.adapter, seed=task["run"])
    rows, held = ([pair_of(i, *ids) for i, ids in enumerate(task[name])] for name in ("pairs", "held_pairs"))
    plain = JudgementModel(config.likelihood, objectives=1, annotators=sorted({j.annotator for j in held}))
    testing = reward.prepare(judge, plain, held)

    def check() -> dict[str, float]:
        return {
            k.removeprefix("held_out_"): v
            for k, v in reward.evaluate(judge, plain, testing, config.tokens_per_microbatch).items()
        }

    clock = StoppedClock(check, every=task["every"], last=steps_of(task, rows))
    journal = Checked(Path(task["folder"]), clock)
    clock.start()
    with trunk.memory.kept(), suppress(Enough):
        if config.head_start == "random":
            clock.after(0)
        reward.train_judge(judge, rows, [], config, seed=task["run"], journal=journal)
    return {"rows": clock.rows, "memory_gb": journal.peak}


def steps_of(task: dict[str, Any], rows: Sequence[object]) -> int:
    return -(-len(rows) // task["scale"]["training_batch"]) * task["scale"]["epochs"]


if __name__ == "__main__":
    sides = {"ppo": act_three, "endless": endless, "sft": checked_sft, "reward": checked_reward}
    serve({"inputs": inputs, "examples": examples, **sides})
