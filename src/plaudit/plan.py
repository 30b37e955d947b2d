"""What a run will need, before it runs: each act's memory by part, arithmetic and time (`plaudit plan`)."""

from __future__ import annotations

from dataclasses import dataclass, field

import psutil
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from plaudit.data.chat import Chat
from plaudit.material import Material
from plaudit.models.costs import matmul_rate, network_of
from plaudit.models.fused_layers import may_be_fused
from plaudit.models.loading import check_model_path, choose_device
from plaudit.models.packed import packing_works
from plaudit.needs import Device, Lines, Needs, act_three, add_ready_reward, advice, mean, sampling, training
from plaudit.recipe import Recipe


@dataclass(kw_only=True)
class Plan:
    acts: list[Needs] = field(default_factory=list)
    available: float
    """Bytes that the device has."""
    rate: float
    """Matrix products on the device, FLOP/s, measured."""
    uncounted: str | None = None
    """A reward whose memory and time are its own affair: a service, or a Python function."""

    @property
    def fits(self) -> bool:
        return all(act.total <= self.available for act in self.acts)

    def lines(self) -> list[str]:
        """The plan as a person reads it."""
        minutes = sum(sum(act.seconds.values()) * act.steps for act in self.acts) / 60
        return [
            *(line for act in self.acts for line in act.lines(self.available)),
            f"{minutes:8.1f} min in all, at {self.rate / 1e9:.0f} GFLOP/s measured now",
            *([] if self.uncounted is None else [f"not counted: what {self.uncounted} takes"]),
        ]

    def complaint(self) -> str:
        """What does not fit, and what to do, in one line; empty where all fits."""
        told: list[str] = []
        for act in self.acts:
            if act.total > self.available:
                part, size = act.largest_part
                told.append(
                    f"{act.name} needs {act.total / 1e9:.1f} GB, of which {size / 1e9:.1f} are {part}: "
                    f"{advice(part, act.section)}"
                )
        return "; ".join(told)


def make_plan(recipe: Recipe) -> Plan:
    """Measure the device, look at the model's configuration and at the recipe's rows, and add up."""
    material = Material(recipe)
    path = material.base_model
    check_model_path(path)
    place, dtype = choose_device(recipe.model.device), getattr(torch, recipe.model.dtype)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(path))
        network = network_of(model)
    device = Device(
        kind=place.type,
        rate=matmul_rate(place, dtype),
        packs=place.type == "cpu" and dtype == torch.float32 and packing_works(),
        fuses=recipe.model.quantise == "none" and may_be_fused(model),
    )
    chat = Chat.load(path, recipe.model.chat_template)
    plan = Plan(available=memory_of(place), rate=device.rate)
    if recipe.sft is not None and (recipe.data.demonstrations is not None or material.world is not None):
        lines = demonstrated(material, chat)
        plan.acts.append(training(recipe.model, recipe.sft, network, lines, device))
    if not recipe.data.preferences:
        prompts = [len(chat.prompt_ids(prompt)) for prompt in material.sample_prompts(chat, 0)]
        plan.acts.append(sampling(recipe, network, prompts, device))
    if recipe.align == "dpo":
        plan.acts.append(training(recipe.model, recipe.dpo, network, ranked(material, chat), device))
        return plan
    if recipe.ppo.reward is None:
        plan.acts.append(training(recipe.model, recipe.reward, network, ranked(material, chat), device))
    prompts = [len(chat.prompt_ids(prompt)) for prompt in material.ppo_prompts(chat, 0)]
    needs = act_three(recipe, network, prompts, device)
    plan.acts.append(needs)
    if recipe.ppo.reward is not None:
        plan.uncounted = add_ready_reward(needs, recipe.ppo, device, prompt=mean(prompts))
    return plan


def demonstrated(material: Material, chat: Chat) -> Lines:
    """What Act I reads; what people write at the desk is not there yet."""
    rows = [chat.encode(one.prompt, one.response) for one in material.demonstrations(chat)]
    lengths = [len(row.tokens) for row in rows]
    said = [len(row.tokens) - row.num_prompt for row in rows]
    return Lines(count=len(rows), mean=mean(lengths), longest=max(lengths), predicted=mean(said))


def ranked(material: Material, chat: Chat) -> Lines:
    """A prompt with all of its responses: those that there are, or those that will be sampled, at their limit."""
    recipe = material.recipe
    if recipe.data.preferences:
        judgements = material.judgements(chat)
        asked = [len(chat.prompt_ids(one.prompt)) for one in judgements]
        said = [
            sum(len(chat.encode(one.prompt, response.text).tokens) - prompt for response in one.responses)
            for one, prompt in zip(judgements, asked, strict=True)
        ]
    else:
        prompts = [len(chat.prompt_ids(prompt)) for prompt in material.sample_prompts(chat, 0)]
        asked = prompts * recipe.feedback.judgements_per_prompt
        said = [recipe.sample.responses_per_prompt * recipe.sample.max_new_tokens] * len(asked)
    lengths = [prompt + own for prompt, own in zip(asked, said, strict=True)]
    return Lines(count=len(lengths), mean=mean(lengths), longest=max(lengths), predicted=mean(said))


def memory_of(device: torch.device) -> float:
    """Bytes; of a GPU those that nobody else holds."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return float(psutil.virtual_memory().total)
