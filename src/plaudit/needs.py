"""What one act needs: bytes by part and by phase, arithmetic and seconds of a step.

Counts follow the code: the frozen trunk once, a fused copy of its layers that decodes, adapters with their optimiser,
and the activations of one micro-batch above the split. They are estimates: allocators round up, libraries take a few
hundred megabytes of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForSequenceClassification

from plaudit.models.costs import Network, passes, tokens_at_a_time
from plaudit.models.loading import may_be_model
from plaudit.models.quantised import BYTES_PER_WEIGHT
from plaudit.recipe import DPO, PPO, SFT, Adapter, Model, Recipe, Reward
from plaudit.rl.costs import ppo_flops
from plaudit.tensors import logits_chunk
from plaudit.types import InputError

LOGITS_COPIES = 4
"""Logits, log-probs, probabilities and the gradient, in float32."""
PROGRAM_BYTES = 0.5e9
"""Python with torch and transformers."""
HELD_BESIDE = {"cpu": 1.2, "cuda": 0.0}
"""Gradients on their way, and pieces of unlike sizes that fit nowhere, as a share of the activations: measured on
SmolLM2. On a GPU this and what rows shorter than the longest leave free weigh each other up."""
REACHED = {
    "cpu": {"read": 0.6, "generate": 0.4, "reward": 0.6, "score": 0.6, "train": 0.55},
    "cuda": {"read": 0.22, "generate": 0.08, "reward": 0.25, "score": 0.22, "train": 0.38},
}
"""Of the measured matrix-product rate, what each phase reached where it was measured (docs/performance.md) ..."""
MEASURED_WIDTH = {"cpu": 576, "cuda": 1536}
"""... on networks of so many units: SmolLM2, and one of Qwen2's shape."""
PROGRAM, TRUNK, PACKED = "program", "trunk, frozen", "frozen weights, packed"
POLICY, DECODER, CACHE = "policy, whole", "decoder (a fused copy of the layers)", "cache of keys and values"
ROW_LOGITS, PROMPTS = "logits of a token a row", "prompts being read"
TRAINED, ACTIVATIONS = "what is trained, with gradient and Adam", "activations of a micro-batch"
BESIDE, LOGITS, STATES = "what the allocator holds beside them", "logits of a chunk", "boundary states"
JUDGE, CLASSIFIER = "judge", "reward, a classifier"
AT_THE_LIMIT = ", if every response is as long as it may be"


@dataclass(kw_only=True)
class Needs:
    """What one act needs: bytes that stay, by part; bytes of each phase, of which one is there at a time; and per step
    FLOPs and seconds by phase."""

    name: str
    section: str
    """Of the recipe, that says how the act goes."""
    steps: float
    times: int = 1
    """Rounds in which it comes."""
    stays: dict[str, float] = field(default_factory=dict)
    phases: dict[str, dict[str, float]] = field(default_factory=dict)
    flops: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    once: float = 0.0
    """FLOPs before the first step ..."""
    seconds_once: float = 0.0
    """... and their seconds."""
    longest: str = ""
    """What the time is told for, where it is not the mean."""

    @property
    def largest_phase(self) -> str:
        return max(self.phases, key=lambda phase: sum(self.phases[phase].values()))

    @property
    def total(self) -> float:
        """Bytes at the act's peak."""
        return sum(self.stays.values()) + sum(self.phases[self.largest_phase].values())

    @property
    def total_seconds(self) -> float:
        return (self.seconds_once + sum(self.seconds.values()) * self.steps) * self.times

    @property
    def largest_part(self) -> tuple[str, float]:
        parts = self.stays | self.phases[self.largest_phase]
        if ACTIVATIONS in parts:  # who has less of them has less of these
            parts[ACTIVATIONS] += parts.pop(BESIDE, 0.0)
        return max(parts.items(), key=lambda part: part[1])

    def lines(self, available: str) -> list[str]:
        """The act as a person reads it."""
        told = [f"{self.name}:"]
        told += [f"{size / 1e9:8.2f} GB  {part}" for part, size in self.stays.items() if size]
        for phase, parts in self.phases.items():
            told += [f"{size / 1e9:8.2f} GB  {part}, {phase}" for part, size in parts.items() if size]
        most = f", {self.largest_phase}" if len(self.phases) > 1 else ""
        told += [f"{self.total / 1e9:8.2f} GB  at the most{most}, of {available}"]
        if self.once:
            told += [f"{self.seconds_once:8.1f} s   before the first step: {self.once / 1e12:.2f} TFLOP"]
        told += [
            f"{self.seconds[phase]:8.1f} s   {phase}: {self.flops[phase] / 1e12:.2f} TFLOP"
            for phase in REACHED["cpu"]
            if self.flops.get(phase)
        ]
        step, all_steps = sum(self.seconds.values()), f"{self.steps:.0f} step{'s' * (self.steps != 1)}"
        rounds = f" in each of {self.times} rounds" * (self.times > 1)
        told += [f"{step:8.1f} s   a step"]
        return [*told, f"{self.total_seconds / 60:8.1f} min {all_steps}{rounds}{self.longest}", ""]


def advice(part: str, section: str) -> str:
    """What makes a part smaller."""
    rows = "sample.batch_size" if section == "sample" else "ppo.prompts_per_step"
    smaller = "set model.dtype: bfloat16 or model.quantise: nf4, or choose a smaller model"
    told = {
        PROGRAM: "use a machine with more memory",
        TRUNK: smaller,
        DECODER: smaller,
        POLICY: "set model.dtype: bfloat16, or choose a smaller model",
        PACKED: "set model.dtype: bfloat16, or choose a smaller model",
        STATES: "lower model.boundary_gigabytes",
        TRAINED: f"lower {section}.adapter.rank, raise model.split_depth, or choose a smaller model",
        JUDGE: "lower reward.adapter.rank, or raise model.split_depth",
        CLASSIFIER: "choose a smaller ppo.reward, or let a service score",
        ACTIVATIONS: f"lower {section}.tokens_per_microbatch, set model.activation_checkpointing, or raise "
        "model.split_depth",
        LOGITS: f"lower {section}.tokens_per_microbatch",
        CACHE: f"lower {rows} or {section}.max_new_tokens",
        ROW_LOGITS: f"lower {rows}",
        PROMPTS: "lower data.max_prompt_tokens",
    }
    return told[part]


@dataclass(frozen=True, kw_only=True)
class Device:
    """What the costs depend on beside the network."""

    kind: str
    rate: float
    packs: bool
    """Frozen weights are packed for the processor, above the split for both ways."""
    fuses: bool
    """Adapters may be trained by the fast layers, whose frozen ones decode too."""

    def seconds(self, flops: dict[str, float], *, width: int) -> dict[str, float]:
        return {phase: count / (self.rate * reached(self.kind, phase, width)) for phase, count in flops.items()}

    @property
    def program(self) -> float:
        """Bytes of the program, where they are this device's."""
        return PROGRAM_BYTES if self.kind == "cpu" else 0.0


def reached(kind: str, phase: str, width: int) -> float:
    """Of the measured rate, by a network of this width. Beside the products a token has work that grows with the width
    and not with its square: by as much as a network is narrower, that is more of the whole."""
    share, narrower = REACHED[kind][phase], max(MEASURED_WIDTH[kind] / width, 1.0)
    return 1 / (1 + (1 / share - 1) * narrower)


@dataclass(frozen=True, kw_only=True)
class Lines:
    """What an act reads, in tokens of a line: a prompt with what stands behind it."""

    count: int
    mean: float
    longest: int
    predicted: float
    """Mean number of tokens with logits."""


def mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)


# -- the acts ---------------------------------------------------------------------------------------------------------


def training(model: Model, act: SFT | Reward | DPO, network: Network, lines: Lines, device: Device) -> Needs:
    """Demonstrations, or rankings with one prompt for all of their responses."""
    name = {"SFT": "Act I, fine-tuning", "Reward": "Act II, the judge", "DPO": "Act III, DPO"}[type(act).__name__]
    depth = 0 if act.adapter.kind == "full" else model.split_depth
    held_out = 0.0 if isinstance(act, DPO) else act.held_out
    count = max(round(lines.count * (1 - held_out)), 1)
    per_epoch = -(-count // act.batch_size)
    needs = Needs(name=name, section=type(act).__name__.lower(), steps=per_epoch * act.epochs)
    batch = count / per_epoch  # on average
    tokens = batch * lines.mean
    kept = kept_states(model, network, tokens=lines.count * lines.mean, depth=depth)
    needs.stays = trunk_bytes(model, network, depth, device, [act.adapter]) | {STATES: kept}
    micro = max(min(act.tokens_per_microbatch, batch * lines.longest), lines.longest)
    predicted = 0.0 if isinstance(act, Reward) else lines.predicted * min(batch, micro / lines.mean)
    needs.phases = {"train": training_bytes(model, network, [act.adapter], depth, device, micro=micro, said=predicted)}
    ways = passes(act.adapter)
    top = (network.layers - depth) * network.layer_flops
    flops = (ways + model.activation_checkpointing) * tokens * top
    if not isinstance(act, Reward):
        flops += ways * batch * lines.predicted * network.head_flops
    # The layers below the split run once where what leaves them is kept, else in every epoch.
    lower = tokens * depth * network.layer_flops
    room = kept + model.boundary_disk_gigabytes * 1e9
    read = lower / max(act.epochs, 1) if room >= lines.count * lines.mean * state_bytes(model, network) else lower
    needs.flops = {"read": read, "train": flops}
    needs.seconds = device.seconds(needs.flops, width=network.width)
    if isinstance(act, DPO):  # the reference reads all rows once
        needs.once = count * (lines.mean * top + lines.predicted * network.head_flops)
    elif isinstance(act, Reward) and act.head_start == "probe":
        needs.once = count * lines.mean * top
        if not act.epochs:
            needs.once += count * lines.mean * depth * network.layer_flops
    needs.seconds_once = device.seconds({"score": needs.once}, width=network.width)["score"]
    if isinstance(act, Reward) and act.likelihood.annotators == "reliability":
        needs.steps += per_epoch  # in which it is found who errs
    return needs


def sampling(recipe: Recipe, network: Network, prompts: Sequence[int], device: Device) -> Needs:
    """The responses that people rank. The model is whole, and of its own."""
    config, size = recipe.sample, size_of(recipe.model)
    rows = len(prompts) * config.responses_per_prompt
    at_once = min(config.batch_size, rows)
    said = rows * config.max_new_tokens
    weights = network.layers * network.layer_weights
    needs = Needs(name="Act II, responses", section="sample", steps=1, longest=AT_THE_LIMIT)
    needs.stays = {
        PROGRAM: device.program,
        TRUNK: (weights + network.other_weights) * size,
        # From the second round on it is the last one's policy that speaks, a model of its own beside the trunk.
        POLICY: (weights + network.other_weights) * size if recipe.rounds > 1 else 0,
        DECODER: (weights + device.packs * network.head_weights) * size if device.fuses else 0,
    }
    line = max(prompts) + config.max_new_tokens
    needs.phases = {"generate": generation_bytes(network, at_once, line, size, device)}
    tokens = sum(prompts) + said
    needs.flops = {"generate": tokens * network.layers * network.layer_flops + said * network.head_flops}
    needs.seconds = device.seconds(needs.flops, width=network.width)
    return needs


def act_three(recipe: Recipe, network: Network, prompts: Sequence[int], device: Device) -> Needs:
    """PPO; responses are taken at their limit."""
    ppo, model, size = recipe.ppo, recipe.model, size_of(recipe.model)
    depth = model.split_depth
    rows = ppo.prompts_per_step * ppo.responses_per_prompt
    line = max(prompts) + ppo.max_new_tokens
    said = rows * ppo.max_new_tokens
    tokens = ppo.prompts_per_step * mean(prompts) + said  # a prompt stands once before all of its responses
    adapters = [adapter for adapter in (ppo.adapter, ppo.value_adapter) if adapter is not None]
    needs = Needs(name="Act III, PPO", section="ppo", steps=ppo.steps, longest=AT_THE_LIMIT)
    lora_alone = device.fuses and all(adapter.kind == "lora" for adapter in adapters)
    merged = network.layers - depth if lora_alone else network.layers  # the frozen ones decode as they are
    kept = kept_states(model, network, tokens=tokens, depth=depth)
    needs.stays = trunk_bytes(model, network, depth, device, adapters) | {
        DECODER: merged * network.layer_weights * size,
        JUDGE: 0 if ppo.reward is not None else network.lora(recipe.reward.adapter, depth) * 4,
        STATES: kept,
    }
    micro = max(min(ppo.tokens_per_microbatch, rows * line), line)
    needs.phases = {
        "generate": generation_bytes(network, rows, line, size, device),
        "train": training_bytes(model, network, adapters, depth, device, micro=micro, said=said),
    }
    recomputed = ppo.old_logprobs == "recomputed" or (
        ppo.old_logprobs == "auto" and (model.dtype != "float32" or model.decoding_dtype not in (None, "float32"))
    )
    flops = ppo_flops(
        network, ppo, depth, tokens=tokens, said=said, recomputed=recomputed,
        checkpointing=model.activation_checkpointing,
    )  # fmt: skip
    if ppo.reward is None:
        flops["reward"] = tokens * (network.layers - depth) * network.layer_flops
    whole, lower = tokens * state_bytes(model, network), tokens * depth * network.layer_flops
    if kept + model.boundary_disk_gigabytes * 1e9 >= whole:
        # Generation leaves them in memory, where its layers are the trunk's; else who reads first computes them.
        if kept < whole or not device.fuses or model.decoding_dtype not in (None, model.dtype):
            flops["reward" if "reward" in flops else "score"] += lower
    else:
        read = 1 + (ppo.value_adapter is not None) + (recomputed or ppo.value_adapter is None)
        flops["score"] += read * lower
        flops["train"] += ppo.epochs * len(adapters) * lower
        if "reward" in flops:
            flops["reward"] += lower
    needs.flops, needs.seconds = flops, device.seconds(flops, width=network.width)
    return needs


def add_ready_reward(needs: Needs, ppo: PPO, device: Device, *, prompt: float) -> str | None:
    """A classifier stands on the same device, with weights of its own; it reads each prompt with each response.
    Returns the name of a reward that cannot be counted."""
    name = ppo.reward or ""
    if not may_be_model(name):
        return name
    try:
        config = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise InputError(f"ppo.reward: {name!r} has no configuration that could be read ({error})") from error
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
    weights = [parameter.numel() for parameter in model.parameters()]
    size = getattr(torch, str(getattr(config, "dtype", None) or "float32").removeprefix("torch."))
    needs.stays[CLASSIFIER] = sum(weights) * size.itemsize
    rows = ppo.prompts_per_step * ppo.responses_per_prompt
    embedding: Tensor = cast(Any, model).get_input_embeddings().weight
    read = {"reward": 2.0 * (sum(weights) - embedding.numel()) * rows * (prompt + ppo.max_new_tokens)}
    needs.flops |= read
    needs.seconds |= device.seconds(read, width=embedding.shape[1])
    return None


# -- their parts ------------------------------------------------------------------------------------------------------


def size_of(model: Model) -> int:
    """Bytes of a weight."""
    return cast(int, getattr(torch, model.dtype).itemsize)


def state_bytes(model: Model, network: Network) -> float:
    """Of one token at the split."""
    return network.width * size_of(model)


def kept_states(model: Model, network: Network, *, tokens: float, depth: int) -> float:
    """Bytes of boundary states of so many tokens that an act keeps in memory."""
    return min(tokens * state_bytes(model, network), model.boundary_gigabytes * 1e9) if depth else 0.0


def trunk_bytes(
    model: Model, network: Network, depth: int, device: Device, adapters: Sequence[Adapter]
) -> dict[str, float]:
    """What stays where something is trained on a trunk: frozen weights, and what is trained with its gradient and
    Adam's moments in float32."""
    size = size_of(model)
    rounded = network.layers * network.linear_weights if model.quantise == "nf4" else 0
    # Each layer for the way there; where adapters stand on them, those above the split and the head for the way back.
    ways = 2 if any(adapter.kind == "lora" for adapter in adapters) else 1
    packed = (ways * network.layers - (ways - 1) * depth) * network.linear_weights + ways * network.head_weights
    return {
        PROGRAM: device.program,
        TRUNK: (network.layers * network.layer_weights + network.other_weights - rounded) * size
        + rounded * BYTES_PER_WEIGHT,
        PACKED: packed * size if device.packs else 0,
        TRAINED: 16 * sum(network.lora(adapter, depth) for adapter in adapters),
    }


def training_bytes(
    model: Model,
    network: Network,
    adapters: Sequence[Adapter],
    depth: int,
    device: Device,
    *,
    micro: float,
    said: float,
) -> dict[str, float]:
    """What a micro-batch of so many tokens keeps for its way back, `said` of which have logits."""
    vocabulary = network.head_weights // network.width
    frozen = all(adapter.kind == "lora" for adapter in adapters)
    chunk = logits_chunk(vocabulary, frozen=frozen, cpu=device.kind == "cpu")
    checkpointing = model.activation_checkpointing
    kept = network.activations_per_token(
        network.layers - depth, checkpointing=checkpointing, fused=device.fuses and frozen
    )
    activations = micro * kept * (size_of(model) if frozen else 4)  # a full copy is trained in float32
    return {
        ACTIVATIONS: activations,
        BESIDE: activations * HELD_BESIDE[device.kind],
        LOGITS: min(chunk, said) * vocabulary * 4 * LOGITS_COPIES,
    }


def generation_bytes(network: Network, rows: int, line: int, size: int, device: Device) -> dict[str, float]:
    """The past of so many rows, their logits, and the prompts that are read at a time."""
    vocabulary = network.head_weights // network.width
    at_once = min(rows * line, tokens_at_a_time(torch.device(device.kind)))
    return {
        CACHE: rows * line * network.layers * 2 * network.kv_width * size,
        ROW_LOGITS: rows * vocabulary * 4 * 2,
        PROMPTS: at_once * (2 * network.width + 3 * network.mlp_width) * size,
    }
