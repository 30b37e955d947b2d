"""What a run will need, before it runs: each act's memory by part, arithmetic and time (`plaudit plan`)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import psutil
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from plaudit.data.chat import Chat
from plaudit.evaluation.run_files import acts_of
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
    """Bytes that the device has; of a GPU those that nobody else holds."""
    kind: str = "cpu"
    rate: float
    """Matrix products on the device, FLOP/s, measured."""
    uncounted: list[str] = field(default_factory=list)
    """What takes time or memory that is not foreseen here, as a person reads it."""

    @property
    def fits(self) -> bool:
        return all(act.total <= self.available for act in self.acts)

    def lines(self) -> list[str]:
        """The plan as a person reads it."""
        minutes = sum(act.total_seconds for act in self.acts) / 60
        there = "are free on this GPU" if self.kind == "cuda" else "this machine has"
        available = f"{self.available / 1e9:.1f} GB that {there}"
        return [
            *(line for act in self.acts for line in act.lines(available)),
            f"{minutes:8.1f} min in all, at {self.rate / 1e9:.0f} GFLOP/s measured now",
            f"not counted: {', '.join(self.uncounted)}",
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
    available = memory_of(place)  # before the rate is measured: on a GPU that holds some
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
    plan = Plan(available=available, kind=place.type, rate=device.rate)
    names = acts_of(recipe)
    if recipe.sft is not None and (recipe.data.demonstrations is not None or material.world is not None):
        lines = demonstrated(material, chat)
        plan.acts.append(training(recipe.model, recipe.sft, network, lines, device))
    first = len(plan.acts)
    if "responses" in names:
        prompts = [len(chat.prompt_ids(prompt)) for prompt in material.sample_prompts(chat, 0)]
        plan.acts.append(sampling(recipe, network, prompts, device))
    if "reward" in names:
        plan.acts.append(training(recipe.model, recipe.reward, network, ranked(material, chat), device))
    if "ppo" in names:
        prompts = [len(chat.prompt_ids(prompt)) for prompt in material.ppo_prompts(chat, 0)]
        needs = act_three(recipe, network, prompts, device)
        plan.acts.append(needs)
        if recipe.ppo.reward is not None:
            name = add_ready_reward(needs, recipe.ppo, device, prompt=mean(prompts))
            plan.uncounted += [] if name is None else [f"what {name} takes"]
    if "dpo" in names:
        lines = of_the_judge(ranked(material, chat), recipe)
        plan.acts.append(training(recipe.model, recipe.dpo, network, lines, device))
    for act in plan.acts[first:]:
        act.times = recipe.rounds
    plan.uncounted += ["judges of fewer labels"] * ("reward" in names and recipe.reward.learning_curve)
    plan.uncounted += ["the ceiling's PPO"] * ("ceiling" in names) + ["the evaluation"]
    return plan


def of_the_judge(lines: Lines, recipe: Recipe) -> Lines:
    """What DPO learns from: the rankings that the judge which it is compared with learns from."""
    share = (1 - recipe.reward.held_out) / (1 + recipe.reward.second_judge)
    return replace(lines, count=max(round(lines.count * share), 1))


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
        shown = recipe.feedback.queue.shown or recipe.sample.responses_per_prompt
        said = [min(shown, recipe.sample.responses_per_prompt) * recipe.sample.max_new_tokens] * len(asked)
    lengths = [prompt + own for prompt, own in zip(asked, said, strict=True)]
    return Lines(count=len(lengths), mean=mean(lengths), longest=max(lengths), predicted=mean(said))


def memory_of(device: torch.device) -> float:
    """Bytes; of a GPU those that nobody else holds."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return float(psutil.virtual_memory().total)
