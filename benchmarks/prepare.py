"""What both sides are given: random models where none is named, and the same tokens for everybody.

Runs in Plaudit's environment. Everything is tokenised here, so that no side reads other tokens than its rival.
"""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from meter import device, serve
from settings import ANSWERS, QUEUED, RANDOM_MODELS
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from plaudit.data.chat import Chat
from plaudit.data.formats import read_demonstrations, read_judgements
from plaudit.models.loading import load_causal_lm

TEMPLATE = Path(__file__).parents[1] / "recipes" / "templates" / "chatml.jinja"
FIRST_WORD, LAST_WORD = 100, 40_000
"""Random prompts keep clear of the special tokens at the beginning of the vocabulary."""


def facts(task: dict[str, Any]) -> dict[str, Any]:
    """The machine and the versions, for the record."""
    cuda = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if cuda else processor(),
        "cuda": cuda,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "plaudit")},
    }


def processor() -> str:
    """The CPU's own name where the system tells it."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.is_file() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def random_model(task: dict[str, Any]) -> dict[str, Any]:
    """A model folder with random weights and a tokenizer whose words mean nothing."""
    shape = dict(RANDOM_MODELS[task["name"]])
    folder = Path(task["model_to"])
    ids = {"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
    config = AutoConfig.for_model(shape.pop("kind"), **shape, **ids)
    with device():
        AutoModelForCausalLM.from_config(config, dtype=getattr(torch, task["dtype"])).save_pretrained(folder)
    words = {"<pad>": 0, "<end>": 1, "<unk>": 2} | {f"w{i}": i for i in range(3, shape["vocab_size"])}
    core = Tokenizer(WordLevel(words, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "eos_token": "<end>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=core, **special).save_pretrained(folder)
    return {}


def inputs(task: dict[str, Any]) -> dict[str, Any]:
    """Prompts, demonstrations, pairs and the ids that end a sample: one file for all sides of a model."""
    model, scale = task["model"], task["scale"]
    vocabulary = AutoConfig.from_pretrained(model).vocab_size
    chat = load_chat(model)
    demonstrations, pairs = read_data(chat, task["data"], scale) if task["data"] else random_data(scale, vocabulary)
    many = scale["batch"] * scale["updates"]
    made = {
        "prompts": random_prompts(many, scale["prompt"], vocabulary),
        "generation_prompts": random_prompts(scale["generation_batch"], scale["prompt"], vocabulary),
        "demonstrations": demonstrations[: scale["examples"]],
        "pairs": pairs[: scale["examples"]],
        "eos_id": chat.eos_ids[0],
        "pad_id": pad_unlike(chat.eos_ids[0], chat),
    }
    made["many_prompts"] = random_prompts(QUEUED * scale["generation_batch"], scale["prompt"], vocabulary)
    few = made["generation_prompts"][: scale["generation_batch"] // ANSWERS]
    made["several_prompts"] = [prompt for prompt in few for _ in range(ANSWERS)]
    if task["limits"]:
        network = load_causal_lm(model, dtype=scale["dtype"], device=device().type)
        asked = made["generation_prompts"]
        made["stops"] = {name: stopping_ids(network, asked, scale[name]) for name in task["limits"]}
    Path(task["inputs_to"]).write_text(json.dumps(made))
    return {"split_depth": default_depth(model), "examples": len(made["demonstrations"]), "pairs": len(made["pairs"])}


def load_chat(model: str) -> Chat:
    """ChatML without a system turn where the tokenizer knows its marks, else what the folder says."""
    chat = Chat.load(model)
    return Chat.load(model, TEMPLATE) if "<|im_start|>" in chat.tokenizer.get_vocab() else chat


def pad_unlike(eos: int, chat: Chat) -> int:
    """An id to pad with that is not the EOS: TRL's PPO takes for padding whatever equals it."""
    others = (chat.tokenizer.get_vocab().get(token) for token in ("<|endoftext|>", "<pad>"))
    return next(i for i in (*others, 0, 1) if i is not None and i != eos)


def default_depth(model: str) -> int:
    """Two thirds of the layers are frozen and shared: 20 of SmolLM2's 30."""
    return round(AutoConfig.from_pretrained(model).num_hidden_layers * 2 / 3)


def random_prompts(count: int, longest: int, vocabulary: int, *, seed: int = 1) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(longest // 2, longest + 1, (count,), generator=generator).tolist()
    last = min(LAST_WORD, vocabulary)
    return [torch.randint(FIRST_WORD, last, (n,), generator=generator).tolist() for n in lengths]


def random_data(scale: dict[str, Any], vocabulary: int) -> tuple[list[list[list[int]]], list[list[list[int]]]]:
    """Random tokens in place of demonstrations [prompt, completion] and pairs [prompt, chosen, rejected]."""
    half = scale["max_tokens"] // 2 - 1
    parts = [random_prompts(scale["examples"], half, vocabulary, seed=seed) for seed in (2, 3, 4)]
    return [[p, c] for p, c, _ in zip(*parts, strict=True)], [[p, c, r] for p, c, r in zip(*parts, strict=True)]


def read_data(chat: Chat, folder: str, scale: dict[str, Any]) -> tuple[list[list[list[int]]], list[list[list[int]]]]:
    """The first demonstrations of Alpaca and pairs of HH that are short enough, as ids; no EOS at their ends."""
    longest = scale["max_tokens"]
    shown = [
        split_ids(chat, d.prompt, d.response)
        for d in read_demonstrations(Path(folder) / "sft" / "alpaca5k.train.jsonl.gz").items
    ]
    pairs: list[list[list[int]]] = []
    for path in sorted((Path(folder) / "hh").glob("*.train.jsonl.gz")):
        found = (
            [split_ids(chat, j.prompt, j.responses[i].text) for g in j.ranking for i in g]
            for j in read_judgements(path).items
        )
        short = [[a[0], a[1], b[1]] for a, b in found if max(len(a[0]) + len(x[1]) for x in (a, b)) < longest]
        # As many of each file, so that no subset stands alone.
        pairs += short[: scale["examples"] // 2]
    return [d for d in shown if sum(map(len, d)) < 2 * longest], pairs


def split_ids(chat: Chat, prompt: Any, text: str) -> list[list[int]]:
    encoded = chat.encode(prompt, text)
    return [list(encoded.tokens[: encoded.num_prompt]), list(encoded.tokens[encoded.num_prompt : -1])]


@torch.no_grad()
def stopping_ids(model: PreTrainedModel, prompts: list[list[int]], limit: int) -> list[int]:
    """Token ids that together are drawn often enough for samples of half the limit on average.

    Both sides sample at temperature 1 and end at any of them: lengths are ragged without touching either program.
    """
    share = hazard_for(limit)
    likely_V = mean_distribution(model, prompts, limit)
    order = torch.randperm(len(likely_V), generator=torch.Generator().manual_seed(2))
    # No id alone may decide: a frequent one would end all samples of some contexts and none of others.
    order = order[likely_V[order] < share / 20]
    count = int((likely_V[order].cumsum(0) < share).sum()) + 1
    return sorted(order[:count].tolist())


def hazard_for(limit: int) -> float:
    """The chance per token to end at which the mean length, cut at the limit, is half of it (by bisection)."""
    low, high = 1e-6, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        mean = (1 - (1 - middle) ** limit) / middle
        low, high = (middle, high) if mean > limit / 2 else (low, middle)
    return low


def mean_distribution(model: PreTrainedModel, prompts: list[list[int]], limit: int) -> torch.Tensor:
    """What the model draws next [V], averaged over samples of its own, each row up to the limit."""
    total_V = torch.zeros(model.config.vocab_size, dtype=torch.float64)
    shortest = min(map(len, prompts))
    rows = torch.tensor([p[-shortest:] for p in prompts], device=model.device)
    settings: dict[str, Any] = {"do_sample": True, "top_k": 0, "top_p": 1.0, "temperature": 1.0, "pad_token_id": 0}
    seen: torch.Tensor = model.generate(  # pyright: ignore[reportCallIssue]
        rows, attention_mask=torch.ones_like(rows), max_new_tokens=limit, eos_token_id=None, **settings
    )
    for row in seen:
        logits = model(row.unsqueeze(0), use_cache=False).logits[0, shortest - 1 :]
        total_V += logits.float().softmax(-1).double().mean(0).cpu()
    return total_V / len(seen)


if __name__ == "__main__":
    serve({"facts": facts, "random_model": random_model, "inputs": inputs})
