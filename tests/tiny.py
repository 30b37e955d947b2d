"""A world small enough to compute by: two-layer random models, a tokenizer of whole words, people who like one word."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from plaudit.data.chat import Chat
from plaudit.data.formats import judgement_to_dict, prompt_of
from plaudit.data.judgements import judgement_id
from plaudit.models.sequences import bundle
from plaudit.models.trunk import Trunk
from plaudit.recipe import Recipe
from plaudit.types import (
    OVERALL,
    Annotator,
    Bundle,
    Demonstration,
    Judgement,
    Message,
    Prompt,
    Response,
    SkillItem,
    Split,
    Truth,
)

SPECIAL = ("<unk>", "<pad>", "<end>", "<stop>", "<user>", "<bot>")
UNK, PAD, END, STOP, USER, BOT = range(6)
WORDS = (
    "yes",
    "no",
    "one",
    "two",
    "three",
    "four",
    "red",
    "blue",
    "cat",
    "dog",
    "what",
    "is",
    "the",
    "a",
    "why",
    "who",
)
VOCABULARY = SPECIAL + WORDS
ID = {word: i for i, word in enumerate(VOCABULARY)}
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}<bot> {{ m['content'] }} <end> "
    "{% else %}<user> {{ m['content'] }} {% endif %}{% endfor %}{% if add_generation_prompt %}<bot> {% endif %}"
)
COMMON = {"num_attention_heads": 4, "hidden_size": 32, "intermediate_size": 48, "max_position_embeddings": 64}
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {**COMMON, "num_key_value_heads": 2},
    "qwen2": {**COMMON, "num_key_value_heads": 2, "tie_word_embeddings": True},
    # Norms of queries and keys.
    "qwen3": {**COMMON, "num_key_value_heads": 2, "head_dim": 8},
    # Scaled embeddings, four norms a layer, windows in every other layer.
    "gemma3_text": {
        **COMMON,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "query_pre_attn_scalar": 8,
        "sliding_window": 16,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "gpt_neox": {**COMMON, "hidden_dropout": 0.5, "attention_dropout": 0.5},
    # Absolute positions, transposed linear layers, tied embeddings, and dropout that must never act.
    "gpt2": {"n_embd": 32, "n_head": 4, "n_positions": 64, "resid_pdrop": 0.5, "embd_pdrop": 0.5, "attn_pdrop": 0.5},
}


def tokenizer() -> PreTrainedTokenizerFast:
    core = Tokenizer(WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    made = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", pad_token="<pad>", eos_token="<end>")
    made.chat_template = TEMPLATE
    return made


def chat() -> Chat:
    return Chat(tokenizer(), extra_eos=[STOP])


def model(kind: str = "llama", *, layers: int = 2, seed: int = 0, spread: float = 0.15) -> PreTrainedModel:
    """A random network; its weights come from numpy, so that they are the same with every version of torch."""
    depth = {"n_layer": layers} if kind == "gpt2" else {"num_hidden_layers": layers}
    ids = {"bos_token_id": None, "eos_token_id": END, "pad_token_id": PAD}
    config = AutoConfig.for_model(kind, vocab_size=len(VOCABULARY), **SHAPES[kind], **depth, **ids)
    made = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            noise = torch.from_numpy(rng.standard_normal(tuple(weight.shape))).float()
            middle = 1.0 if weight.dim() == 1 and name.endswith("weight") else 0.0
            weight.copy_(middle + spread * noise)
    made.generation_config = GenerationConfig(eos_token_id=[END, STOP], pad_token_id=PAD)
    return made.eval().requires_grad_(False)


def model_folder(folder: Path, kind: str = "llama", *, seed: int = 0) -> Path:
    model(kind, seed=seed).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def trunk(kind: str = "llama", split_depth: int = 0, *, layers: int = 2, seed: int = 0) -> Trunk:
    return Trunk(model(kind, layers=layers, seed=seed), split_depth)


def move(made: Trunk, part: str, *, seed: int = 1, by: float = 0.1) -> None:
    """Train without training: shift every weight of a part, so that it differs from the trunk."""
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for weight in made.part(part).parameters():
            weight.add_(by * torch.from_numpy(rng.standard_normal(tuple(weight.shape))).float().to(weight.device))


def sequences(lengths: Sequence[int], *, seed: int = 0) -> list[Tensor]:
    """Random words, no special tokens."""
    rng = np.random.default_rng(seed)
    return [torch.from_numpy(rng.integers(len(SPECIAL), len(VOCABULARY), size=n)) for n in lengths]


def bundles(tokens: Sequence[Tensor], num_prompts: Sequence[int] | None = None, *, last: bool = True) -> list[Bundle]:
    """Each sequence by itself: a prompt (of one token, unless told) and one response, its last token with it or not."""
    counts = [1] * len(tokens) if num_prompts is None else num_prompts
    return [bundle(t[:n], [t[n : None if last else -1]]) for t, n in zip(tokens, counts, strict=True)]


def lines() -> list[Bundle]:
    """Unlike lengths; one prompt with three responses behind it, which do not see each other."""
    tokens = sequences([9, 4, 7, 3, 5, 2])
    return [*bundles(tokens[:2], [4, 1]), bundle(tokens[2], tokens[3:])]


def asked(text: str) -> Prompt:
    return prompt_of([Message(role="user", content=text)])


def questions(count: int, *, seed: int = 0) -> list[Prompt]:
    """Different questions of two to six words."""
    rng = np.random.default_rng(seed)
    texts: dict[str, None] = {}
    while len(texts) < count:
        texts[" ".join(rng.choice(WORDS[2:], size=int(rng.integers(2, 7))))] = None
    return [asked(text) for text in texts]


def answers(count: int, *, seed: int = 0, longest: int = 5) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, size=int(rng.integers(1, longest + 1)))) for _ in range(count)]


def judgement(prompt: Prompt, texts: Sequence[str], ranking: Sequence[Sequence[int]], **more: Any) -> Judgement:
    return Judgement(
        id=f"{prompt.id}-{'-'.join(texts)}",
        prompt=prompt,
        responses=tuple(Response(text=text) for text in texts),
        ranking=tuple(tuple(group) for group in ranking),
        **more,
    )


# -- a reward, people and a world -----------------------------------------------------------------------------------


class CountWord:
    """A reward that counts one word."""

    objectives = ("yes",)

    def __init__(self, word: str = "yes") -> None:
        self.word = word

    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        return torch.tensor([[float(text.split().count(self.word))] for text in responses])


def count_yes() -> CountWord:
    return CountWord()


class NotANumber(CountWord):
    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        return torch.full((len(responses), 1), float("nan"))


def not_a_number() -> NotANumber:
    return NotANumber()


@dataclass(frozen=True)
class Person:
    """Ranks by the number of yeses, and by how few words beyond; what is equal in both is a tie."""

    name: str

    def judge(self, prompt: Prompt, responses: Sequence[Response], *, seed: int) -> Judgement:
        keys = [(-r.text.split().count("yes"), len(r.text.split())) for r in responses]
        ranking = tuple(tuple(i for i, k in enumerate(keys) if k == key) for key in sorted(set(keys)))
        return Judgement(
            id=judgement_id(prompt, responses, ranking, OVERALL, self.name),
            prompt=prompt,
            responses=tuple(responses),
            ranking=ranking,
            annotator=self.name,
            display_order=tuple(range(len(responses))),
        )


class World:
    """`plaudit.types.World`: the more yeses, the truer."""

    @property
    def base_model(self) -> Path:
        raise AssertionError("the recipes of the tests name a model")

    def prompts(self, split: Split, count: int, *, seed: int) -> list[Prompt]:
        place = ("sft", "preference", "ppo", "evaluation", "tuning").index(split)
        return questions(count, seed=1000 * seed + place)

    def demonstrations(self, count: int, *, seed: int) -> list[Demonstration]:
        pairs = zip(self.prompts("sft", count, seed=seed), answers(count, seed=seed), strict=True)
        return [Demonstration(prompt=prompt, response=text) for prompt, text in pairs]

    def annotators(self, *, seed: int) -> list[Annotator]:
        return [Person("ann"), Person("ben")]

    def truth(self) -> Truth:
        def true(prompt: Prompt, response: str) -> Mapping[str, float]:
            return {"total": min(response.split().count("yes"), 4) / 4}

        return true

    def skills(self) -> list[SkillItem]:
        return [SkillItem(text="one two", answer=" three")]


def world() -> World:
    return World()


# -- files and recipes ----------------------------------------------------------------------------------------------


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def prompt_file(path: Path, prompts: Sequence[Prompt]) -> str:
    return write_rows(path, [{"prompt": [{"role": m.role, "content": m.content} for m in p.messages]} for p in prompts])


def pair_file(path: Path, count: int = 24, *, seed: int = 3) -> str:
    """Native judgements: the answer with the yes wins."""
    texts = answers(count, seed=seed)
    pairs = [
        judgement(prompt, [f"yes {text}", f"no {text}"], [[0], [1]])
        for prompt, text in zip(questions(count, seed=seed), texts, strict=True)
    ]
    return write_rows(path, [judgement_to_dict(pair) for pair in pairs])


OPTIMIZER = {"learning_rate": 3e-3, "warmup": 0.0}
LORA = {"rank": 4, "alpha": 8.0}


def recipe(out: Path, model_path: Path | str, **changes: Any) -> Recipe:
    """All acts in the tiny world, a few steps each; `changes` replace fields of sections (`ppo={"steps": 3}`)."""
    values: dict[str, Any] = {
        "name": "tiny",
        "out": out,
        "world": "tiny:world",
        "model": {"path": str(model_path), "device": "cpu"},
        "data": {"max_prompt_tokens": 32, "max_tokens": 48},
        "sft": {"optimizer": OPTIMIZER, "adapter": LORA, "examples": 12, "batch_size": 6, "held_out": 0.2},
        "sample": {"prompts": 16, "responses_per_prompt": 3, "max_new_tokens": 5},
        "reward": {"optimizer": OPTIMIZER, "adapter": LORA, "batch_size": 4, "held_out": 0.4},
        "ppo": {
            "optimizer": OPTIMIZER,
            "adapter": LORA,
            "value_adapter": LORA,
            "steps": 4,
            "prompts_per_step": 4,
            "max_new_tokens": 5,
            "checkpoint_every": 2,
            "samples_every": 2,
        },
        "evaluation": {"prompts": 6, "resamples": 50},
    }
    for section, change in changes.items():
        old = values.get(section)
        values[section] = {**old, **change} if isinstance(old, dict) and isinstance(change, dict) else change
    return Recipe(**values)
