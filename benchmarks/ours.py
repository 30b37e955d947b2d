"""Plaudit's side of each benchmark, through the functions that the acts themselves call."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from meter import device, limit_of, medians, peak_gb, prompts_of, rate, serve, synchronise

from plaudit.data.chat import Chat, Encoded
from plaudit.data.formats import prompt_of
from plaudit.models.fused import decoder_of
from plaudit.models.generate import generate, sample_key
from plaudit.models.loading import load_causal_lm
from plaudit.models.trunk import Trunk
from plaudit.progress import Journal
from plaudit.recipe import PPO, SFT, Adapter, Reward
from plaudit.reward.model import RewardModel
from plaudit.reward.train import train_judge
from plaudit.rl.ppo import ppo
from plaudit.sft.train import train_sft
from plaudit.types import Demonstration, Judgement, Message, Prompt, Response, Sampling


class TokenChat(Chat):
    """A chat whose texts are token ids in digits, so that both sides of a benchmark read the same tokens."""

    @classmethod
    def of(cls, task: dict[str, Any]) -> TokenChat:
        chat = cls(Chat.load(task["model"]).tokenizer)
        chat.eos_ids, chat.pad_id = (task["eos_id"],), task["pad_id"]
        return chat

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        return ids_of(prompt.messages[-1].content)

    def encode(self, prompt: Prompt, text: str) -> Encoded:
        before = self.prompt_ids(prompt)
        return Encoded(tokens=(*before, *ids_of(text), self.eos_ids[0]), num_prompt=len(before))

    def decode(self, ids: Iterable[int]) -> str:
        return text_of(i for i in ids if i not in self.eos_ids)


class Enough(Exception):
    """The steps to be measured are done; what an act writes to disk at its end is no part of them."""


class Stamps(Journal):
    """A quiet journal that notes the time and the memory of each step, and ends the act after some of them."""

    def __init__(self, folder: Path, *, stop_after: int) -> None:
        super().__init__(folder, quiet=True)
        self.stop_after = stop_after
        self.steps: list[dict[str, float]] = []
        self.times: list[float] = []
        self.peak = 0.0

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        synchronise()
        self.times.append(time.perf_counter())
        self.peak = peak_gb()
        super().log(step, metrics)
        if step > 0:
            self.steps.append(dict(metrics))
        if step >= self.stop_after:
            raise Enough


def ids_of(text: str) -> list[int]:
    return [int(word) for word in text.split()]


def text_of(ids: Iterable[int]) -> str:
    return " ".join(str(int(i)) for i in ids)


def asked(ids: Sequence[int]) -> Prompt:
    return prompt_of([Message(role="user", content=text_of(ids))])


def trunk_of(task: dict[str, Any]) -> Trunk:
    model = load_causal_lm(task["model"], dtype=task["scale"]["dtype"], device=device().type)
    return Trunk(model, task["split_depth"] if task["depth"] == "default" else 0)


def act_three(task: dict[str, Any]) -> dict[str, Any]:
    return ppo_updates(task, TokenChat.of(task))


def ppo_updates(task: dict[str, Any], chat: TokenChat) -> dict[str, Any]:
    """PPO as a user runs it, the judge among the parts of the trunk; early stopping is off, as the peer has none."""
    scale, trunk = task["scale"], trunk_of(task)
    settings = {
        "steps": scale["updates"],
        "prompts_per_step": scale["batch"],
        "epochs": scale["epochs"],
        "minibatches": 1,
        "max_new_tokens": scale["response"],
        "tokens_per_microbatch": tokens_at_a_time(scale),
        "stop_epochs_at_kl": None,
    }
    config = PPO(**settings | task.get("ppo", {}))
    judge = RewardModel(trunk, chat, ["score"], part="reward", adapter=Adapter(), seed=0)
    folder = Path(task["folder"])
    journal = Stamps(folder, stop_after=scale["updates"])
    prompts = [asked(p) for p in task["prompts"]]
    with suppress(Enough):
        ppo(trunk, chat, judge, prompts, config, seed=task["run"], journal=journal, folder=folder)
    if any(step["minibatches_done"] != scale["epochs"] for step in journal.steps):
        raise RuntimeError("an update did not run all of its epochs")

    def by_phase(what: str) -> dict[str, float]:
        behind_the_first = journal.steps[1:]
        return medians(
            [{k.removeprefix(what): v for k, v in s.items() if k.startswith(what)} for s in behind_the_first]
        )

    return {
        "value": medians([{"seconds": s["seconds"]} for s in journal.steps[1:]])["seconds"],
        "updates": [s["seconds"] for s in journal.steps],
        "phases": by_phase("seconds/"),
        "utilisation": by_phase("utilisation/"),
        "response_length": medians(journal.steps[1:])["response_length"],
        "split_depth": trunk.split_depth,
        "memory_gb": journal.peak,
    }


def generation(task: dict[str, Any]) -> dict[str, Any]:
    scale = task["scale"]
    model = load_causal_lm(task["model"], dtype=scale["dtype"], device=device().type)
    dtype = getattr(torch, task.get("decoding_dtype", scale["dtype"]))
    decoder = decoder_of(model, None if dtype == model.dtype else dtype)  # made once, as in PPO
    calls: list[dict[str, float]] = []
    prompts, (limit, stops) = prompts_of(task), limit_of(task)
    for call in range(scale["generation_calls"] + 1):
        seed = 1000 * task["run"] + call
        keys = [sample_key(seed, 0, str(row), 0) for row in range(len(prompts))]
        sampling = Sampling(max_new_tokens=limit, seed=seed)
        synchronise()
        began = time.perf_counter()
        out = generate(decoder, prompts, keys, sampling, eos_ids=stops, batch_size=scale["generation_batch"])
        synchronise()
        seconds = time.perf_counter() - began
        calls.append({"tokens": sum(len(one.tokens) for one in out), "rows": len(out), "seconds": seconds})
    return rate(calls[1:])


def ppo_memory(task: dict[str, Any]) -> dict[str, Any]:
    made = act_three(task)
    return made | {"value": made["memory_gb"]}


def sft_memory(task: dict[str, Any]) -> dict[str, Any]:
    """SFT that has as many tokens at a time in training as PPO has."""
    made = act_one(task, tokens_per_microbatch=tokens_at_a_time(task["scale"]))
    return made | {"value": made["memory_gb"]}


def tokens_at_a_time(scale: dict[str, Any]) -> int:
    return scale["micro_batch"] * (scale["prompt"] + scale["response"])


def act_one(task: dict[str, Any], **more: Any) -> dict[str, Any]:
    scale, chat, trunk = task["scale"], TokenChat.of(task), trunk_of(task)
    config = SFT(batch_size=scale["training_batch"], epochs=1, held_out=0.0, **more)
    rows = [Demonstration(prompt=asked(p), response=text_of(c)) for p, c in task["demonstrations"]]

    def train(rows: list[Demonstration], journal: Stamps) -> None:
        train_sft(trunk, chat, rows, config, seed=0, journal=journal, folder=journal.folder)

    num_tokens = sum(len(p) + len(c) + 1 for p, c in task["demonstrations"])
    return timed(task, train, rows, num_tokens) | {"split_depth": trunk.split_depth}


def act_two(task: dict[str, Any]) -> dict[str, Any]:
    """Tokens are counted as the peer reads them, the prompt once for each response."""
    scale, chat, trunk = task["scale"], TokenChat.of(task), trunk_of(task)
    config = Reward(batch_size=scale["training_batch"], epochs=1, held_out=0.0)
    judge = RewardModel(trunk, chat, ["overall"], part="reward", adapter=config.adapter, seed=0)
    rows = [pair_of(number, *ids) for number, ids in enumerate(task["pairs"])]

    def train(rows: list[Judgement], journal: Stamps) -> None:
        train_judge(judge, rows, [], config, seed=0, journal=journal)

    num_tokens = sum(2 * len(p) + len(a) + len(b) + 2 for p, a, b in task["pairs"])
    return timed(task, train, rows, num_tokens) | {"split_depth": trunk.split_depth}


def pair_of(number: int, prompt: Sequence[int], chosen: Sequence[int], rejected: Sequence[int]) -> Judgement:
    return Judgement(
        id=str(number),
        prompt=asked(prompt),
        responses=tuple(Response(text=text_of(ids)) for ids in (chosen, rejected)),
        ranking=((0,), (1,)),
    )


def timed(task: dict[str, Any], train: Any, rows: list[Any], num_tokens: int) -> dict[str, Any]:
    """Tokens (no padding) per second from the call to the end of the last step, behind one step that warms up."""
    batch, folder = task["scale"]["training_batch"], Path(task["folder"])
    run(train, rows[:batch], Stamps(folder / "warm", stop_after=1))
    journal = Stamps(folder / "measured", stop_after=-(-len(rows) // batch))
    synchronise()
    began = time.perf_counter()
    run(train, rows, journal)
    seconds = journal.times[-1] - began
    return {"value": num_tokens / seconds, "seconds": seconds, "tokens": num_tokens, "memory_gb": journal.peak}


def run(train: Any, rows: list[Any], journal: Stamps) -> None:
    try:
        train(rows, journal)
    except Enough:
        return
    raise RuntimeError(f"the act ended before {journal.stop_after} steps were logged")


if __name__ == "__main__":
    serve(
        {
            "ppo": act_three,
            "generation": generation,
            "sft": act_one,
            "reward": act_two,
            "ppo_memory": ppo_memory,
            "sft_memory": sft_memory,
        }
    )
