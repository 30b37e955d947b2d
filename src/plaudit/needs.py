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
    "cpu": {"generate": 0.4, "reward": 0.6, "score": 0.6, "train": 0.55, "read": 0.6},
    "cuda": {"generate": 0.08, "reward": 0.25, "score": 0.22, "train": 0.38, "read": 0.22},
}
"""Of the measured matrix-product rate, what each phase reached where it was measured (docs/performance.md)."""
TRUNK, DECODER, CACHE = "trunk, frozen", "decoder (a fused copy of the layers)", "cache of keys and values"
ACTIVATIONS, LOGITS, STATES = "activations of a micro-batch", "logits of a chunk", "boundary states"
AT_THE_LIMIT = ", if every response is as long as it may be"


@dataclass(kw_only=True)
class Needs:
    """What one act needs: bytes that stay, by part; bytes of each phase, of which one is there at a time; and per step
    FLOPs and seconds by phase."""

    name: str
    section: str
    """Of the recipe, that says how the act goes."""
    steps: float
    stays: dict[str, float] = field(default_factory=dict)
    phases: dict[str, dict[str, float]] = field(default_factory=dict)
    flops: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
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
    def largest_part(self) -> tuple[str, float]:
        parts = self.stays | self.phases[self.largest_phase]
        return max(parts.items(), key=lambda part: part[1])

    def lines(self, available: float) -> list[str]:
        """The act as a person reads it."""
        told = [f"{self.name}:"]
        told += [f"{size / 1e9:8.2f} GB  {part}" for part, size in self.stays.items() if size]
        for phase, parts in self.phases.items():
            told += [f"{size / 1e9:8.2f} GB  {part}, {phase}" for part, size in parts.items() if size]
        most = f", {self.largest_phase}" if len(self.phases) > 1 else ""
        told += [f"{self.total / 1e9:8.2f} GB  at the most{most}, of {available / 1e9:.1f} GB that this device has"]
        told += [
            f"{self.seconds[phase]:8.1f} s   {phase}: {flops / 1e12:.2f} TFLOP"
            for phase, flops in self.flops.items()
            if flops
        ]
        step = sum(self.seconds.values())
        steps = f"{self.steps:.0f} step{'s' * (self.steps > 1)}"
        return [*told, f"{step:8.1f} s   a step", f"{step * self.steps / 60:8.1f} min {steps}{self.longest}", ""]


def advice(part: str, section: str) -> str:
    """What makes a part smaller."""
    if part == ACTIVATIONS:
        return f"lower {section}.tokens_per_microbatch, set model.activation_checkpointing, or raise model.split_depth"
    if part == CACHE:
        return f"lower {'sample.batch_size' if section == 'sample' else 'ppo.prompts_per_step'} or max_new_tokens"
    if part in (TRUNK, DECODER):
        return "set model.dtype: bfloat16 or model.quantise: nf4, or choose a smaller model"
    if part == STATES:
        return "lower model.boundary_gigabytes"
    return f"lower {section}.adapter.rank, raise model.split_depth, or choose a smaller model"


@dataclass(frozen=True, kw_only=True)
class Device:
    """What the costs depend on beside the network."""

    kind: str
    rate: float
    packs: bool
    """Frozen weights are packed for the processor, above the split for both ways."""
    fuses: bool
    """Adapters may be trained by the fast layers, whose frozen ones decode too."""

    def seconds(self, flops: dict[str, float]) -> dict[str, float]:
        return {phase: count / (self.rate * REACHED[self.kind][phase]) for phase, count in flops.items()}


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
    needs = Needs(name=name, section=type(act).__name__.lower(), steps=-(-count // act.batch_size) * act.epochs)
    tokens, batch = act.batch_size * lines.mean, min(act.batch_size, count)
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
    needs.seconds = device.seconds(needs.flops)
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
        "program": PROGRAM_BYTES,
        TRUNK: (weights + network.other_weights) * size,
        DECODER: (weights + device.packs * network.head_weights) * size if device.fuses else 0,
    }
    line = max(prompts) + config.max_new_tokens
    needs.phases = {"generate": generation_bytes(network, at_once, line, size, device)}
    tokens = sum(prompts) + said
    needs.flops = {"generate": tokens * network.layers * network.layer_flops + said * network.head_flops}
    needs.seconds = device.seconds(needs.flops)
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
        "judge": 0 if ppo.reward is not None else network.lora(recipe.reward.adapter, depth) * 4,
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
    if depth and kept + model.boundary_disk_gigabytes * 1e9 < tokens * state_bytes(model, network):
        lower = tokens * depth * network.layer_flops
        read = 1 + (ppo.value_adapter is not None) + (recomputed or ppo.value_adapter is None)
        flops["score"] += read * lower
        flops["train"] += ppo.epochs * len(adapters) * lower
        if "reward" in flops:
            flops["reward"] += lower
    needs.flops, needs.seconds = flops, device.seconds(flops)
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
    needs.stays["reward, a classifier"] = sum(weights) * size.itemsize
    rows = ppo.prompts_per_step * ppo.responses_per_prompt
    embedding = cast(Any, model).get_input_embeddings().weight.numel()
    needs.flops["reward"] = 2.0 * (sum(weights) - embedding) * rows * (prompt + ppo.max_new_tokens)
    needs.seconds = device.seconds(needs.flops)
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
    # Each layer for the way there, those above the split for the way back; the head for both.
    packed = (2 * network.layers - depth) * network.linear_weights + 2 * network.head_weights
    return {
        "program": PROGRAM_BYTES,
        TRUNK: (network.layers * network.layer_weights + network.other_weights - rounded) * size
        + rounded * BYTES_PER_WEIGHT,
        "frozen weights, packed": packed * size if device.packs else 0,
        "what is trained, with gradient and Adam": 16 * sum(network.lora(adapter, depth) for adapter in adapters),
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
    activations = micro * kept * size_of(model)
    return {
        ACTIVATIONS: activations,
        "what the allocator holds beside them": activations * HELD_BESIDE[device.kind],
        LOGITS: min(chunk, said) * vocabulary * 4 * LOGITS_COPIES,
    }


def generation_bytes(network: Network, rows: int, line: int, size: int, device: Device) -> dict[str, float]:
    """The past of so many rows, their logits, and the prompts that are read at a time."""
    vocabulary = network.head_weights // network.width
    at_once = min(rows * line, tokens_at_a_time(torch.device(device.kind)))
    return {
        CACHE: rows * line * network.layers * 2 * network.kv_width * size,
        "logits of a token a row": rows * vocabulary * 4 * 2,
        "prompts being read": at_once * (2 * network.width + 3 * network.mlp_width) * size,
    }
