"""What Act III will need, before it runs: memory by part, arithmetic and time by phase.

Counts follow the code: the frozen trunk once, a fused copy of its layers that decodes, adapters with their optimiser,
and the activations of one micro-batch above the split. They are estimates: allocators round up, libraries take a few
hundred megabytes of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import psutil
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from plaudit.data.chat import Chat
from plaudit.material import Material
from plaudit.models.costs import Network, matmul_rate, network_of
from plaudit.models.fused_layers import may_be_fused
from plaudit.models.loading import check_model_path, choose_device, may_be_model
from plaudit.models.packed import packing_works
from plaudit.models.quantised import BYTES_PER_WEIGHT
from plaudit.recipe import PPO, Recipe
from plaudit.rl.costs import ppo_flops
from plaudit.tensors import logits_chunk
from plaudit.types import InputError

LOGITS_COPIES = 4
"""Logits, log-probs, probabilities and the gradient, in float32."""
PROGRAM_BYTES = 0.5e9
"""Python with torch and transformers."""
DECODING_SHARE, TRAINING_SHARE = 0.4, 0.55
"""Of the measured matrix-product rate, what decoding and training reach (docs/performance.md)."""


@dataclass(kw_only=True)
class Plan:
    """Bytes by part, and per step: FLOPs and seconds by phase."""

    memory: dict[str, float] = field(default_factory=dict)
    flops: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    available: float
    """Bytes that the device has."""
    rate: float
    """Matrix products on the device, FLOP/s, measured."""
    steps: int
    uncounted: str | None = None
    """A reward whose memory and time are its own affair: a service, or a Python function."""

    @property
    def total(self) -> float:
        return sum(self.memory.values())

    @property
    def fits(self) -> bool:
        return self.total <= self.available

    def lines(self) -> list[str]:
        """The plan as a person reads it."""
        told = [f"{size / 1e9:8.2f} GB  {part}" for part, size in self.memory.items() if size]
        told += [f"{self.total / 1e9:8.2f} GB  in all, of {self.available / 1e9:.1f} GB that this device has", ""]
        told += [
            f"{self.seconds[phase]:8.1f} s   {phase}: {flops / 1e12:.2f} TFLOP"
            for phase, flops in self.flops.items()
            if flops
        ]
        step = sum(self.seconds.values())
        return [
            *told,
            f"{step:8.1f} s   a step, at {self.rate / 1e9:.0f} GFLOP/s measured now",
            f"{step * self.steps / 60:8.1f} min {self.steps} steps, if every response is as long as it may be",
            *([] if self.uncounted is None else [f"not counted: what {self.uncounted} takes"]),
        ]


def make_plan(recipe: Recipe) -> Plan:
    """Measure the device, look at the model's configuration and at the prompts, and add up."""
    if recipe.align != "ppo":
        raise InputError(
            "a plan is PPO's; with `align: dpo` nothing is sampled, and Act III needs about what Act I does"
        )
    material = Material(recipe)
    path = material.base_model
    check_model_path(path)
    device = choose_device(recipe.model.device)
    dtype = getattr(torch, recipe.model.dtype)
    config = AutoConfig.from_pretrained(path)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
        network = network_of(model)
    chat = Chat.load(path, recipe.model.chat_template)
    lengths = [len(chat.prompt_ids(p)) for p in material.ppo_prompts(chat, 0)]
    plan = Plan(available=memory_of(device), rate=matmul_rate(device, dtype), steps=recipe.ppo.steps)
    packs = device.type == "cpu" and dtype == torch.float32 and packing_works()
    add_memory(
        plan,
        recipe,
        network,
        longest=max(lengths),
        size=dtype.itemsize,
        on_cpu=device.type == "cpu",
        packs=packs,
        fused=recipe.model.quantise == "none" and may_be_fused(model),
    )
    add_time(plan, recipe, network, prompt=sum(lengths) / len(lengths))
    if recipe.ppo.reward is not None:
        add_ready_reward(plan, recipe.ppo, prompt=sum(lengths) / len(lengths))
    return plan


def add_ready_reward(plan: Plan, ppo: PPO, *, prompt: float) -> None:
    """A classifier stands on the same device, with weights of its own; it reads each prompt with each response."""
    name = ppo.reward or ""
    if not may_be_model(name):
        plan.uncounted = name
        return
    try:
        config = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise InputError(f"ppo.reward: {name!r} has no configuration that could be read ({error})") from error
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
    weights = [parameter.numel() for parameter in model.parameters()]
    size = getattr(torch, str(getattr(config, "dtype", None) or "float32").removeprefix("torch."))
    plan.memory["reward, a classifier"] = sum(weights) * size.itemsize
    rows = ppo.prompts_per_step * ppo.responses_per_prompt
    embedding = cast(Any, model).get_input_embeddings().weight.numel()
    plan.flops["reward"] = 2.0 * (sum(weights) - embedding) * rows * (prompt + ppo.max_new_tokens)
    plan.seconds["reward"] = plan.flops["reward"] / (plan.rate * TRAINING_SHARE)


def add_memory(
    plan: Plan,
    recipe: Recipe,
    network: Network,
    *,
    longest: int,
    size: int,
    on_cpu: bool = False,
    packs: bool = False,
    fused: bool = False,
) -> None:
    """Fill in `plan.memory`, in bytes; `size` is that of a weight, `longest` the longest prompt in tokens. `packs`:
    frozen weights are packed for the processor, above the split for both ways. `fused`: adapters may be trained by the
    fast layers, whose frozen ones decode too."""
    ppo, depth, checkpointing = recipe.ppo, recipe.model.split_depth, recipe.model.activation_checkpointing
    rows = ppo.prompts_per_step * ppo.responses_per_prompt
    line = longest + ppo.max_new_tokens
    top = network.layers - depth
    weights = network.layers * network.layer_weights
    trained = sum(network.lora(adapter, depth) for adapter in (ppo.adapter, ppo.value_adapter) if adapter is not None)
    packed = network.layers * network.linear_weights if recipe.model.quantise == "nf4" else 0
    micro = min(ppo.tokens_per_microbatch, rows * line)
    vocabulary = network.head_weights // network.width
    chunk = logits_chunk(vocabulary, frozen=ppo.adapter.kind == "lora", cpu=on_cpu)
    fused &= all(adapter is None or adapter.kind == "lora" for adapter in (ppo.adapter, ppo.value_adapter))
    kept = network.activations_per_token(top, checkpointing=checkpointing, fused=fused)
    predicted = min(chunk, rows * ppo.max_new_tokens)
    judge = 0 if ppo.reward is not None else network.lora(recipe.reward.adapter, depth)
    plan.memory = {
        "program": PROGRAM_BYTES,
        "trunk, frozen": (weights + network.other_weights - packed) * size + packed * BYTES_PER_WEIGHT,
        "decoder (a fused copy of the layers)": (weights if packs or not fused else top * network.layer_weights) * size,
        "frozen weights, packed": packs * 2 * (top * network.linear_weights + network.head_weights) * size,
        "policy and value, with gradient and Adam": trained * 16,
        "judge": judge * 4,
        "cache of keys and values": rows * line * network.layers * 2 * network.kv_width * size,
        "boundary states": rows * line * network.width * size if depth else 0,
        "activations of a micro-batch": micro * kept * size,
        "logits of a chunk": predicted * vocabulary * 4 * LOGITS_COPIES,
    }


def add_time(plan: Plan, recipe: Recipe, network: Network, *, prompt: float) -> None:
    """Fill in the FLOPs and seconds of one step; `prompt` is the mean length, responses are taken at their limit."""
    ppo = recipe.ppo
    said = ppo.prompts_per_step * ppo.responses_per_prompt * ppo.max_new_tokens
    # A prompt stands once before all of its responses.
    tokens = ppo.prompts_per_step * prompt + said
    model = recipe.model
    plan.flops = ppo_flops(
        network, ppo, model.split_depth, tokens=tokens, said=said, checkpointing=model.activation_checkpointing
    )
    if ppo.reward is None:
        plan.flops["reward"] = tokens * network.layers * network.layer_flops
    shares: Mapping[str, float] = {"generate": DECODING_SHARE}
    plan.seconds = {
        phase: flops / (plan.rate * shares.get(phase, TRAINING_SHARE)) for phase, flops in plan.flops.items()
    }


def memory_of(device: torch.device) -> float:
    if device.type == "cuda":
        return float(cast(Any, torch.cuda.get_device_properties(device)).total_memory)
    return float(psutil.virtual_memory().total)
