"""PPO on a tiny trunk, ready for a step, and a rollout of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import tiny
from plaudit.models.trunk import Trunk
from plaudit.progress import Phases
from plaudit.recipe import PPO, Adapter, Optimizer
from plaudit.rl.ppo import Learner
from plaudit.rl.rollout import POLICY, collect
from plaudit.types import Prompt, RewardFunction, Rollout

GRIDS = ("logprobs_BT", "sampler_logprobs_BT", "ref_logprobs_BT", "values_BT")
LORA = Adapter(rank=4, alpha=8.0)
FULL = Adapter(kind="full")


def config(**changes: Any) -> PPO:
    values: dict[str, Any] = {
        "adapter": LORA,
        "value_adapter": LORA,
        "optimizer": Optimizer(learning_rate=3e-3, warmup=0.0, schedule="constant"),
        "steps": 1,
        "prompts_per_step": 6,
        "responses_per_prompt": 2,
        "max_new_tokens": 8,
        "temperature": 0.7,
        "stop_epochs_at_kl": None,
    }
    return PPO(**{**values, **changes})


def ready(settings: PPO, kind: str = "llama", *, moved: bool = True, split_depth: int = 0) -> tuple[Learner, Trunk]:
    made = tiny.trunk(kind, split_depth)
    learner = Learner(made, settings, seed=0, value_start=None)
    if moved:
        for part in learner.parts:
            tiny.move(made, part, by=0.05)
        with torch.no_grad():
            learner.value_head.weight.copy_(torch.linspace(-0.3, 0.3, made.width))
    return learner, made


def rolled_out(
    learner: Learner,
    made: Trunk,
    settings: PPO,
    *,
    step: int = 0,
    reward: RewardFunction | None = None,
    prompts: Sequence[Prompt] = (),
) -> Rollout:
    made.memory.renew()
    return collect(
        made,
        learner.value_head,
        made.decoder(POLICY),
        tiny.chat(),
        reward or tiny.CountWord(),
        prompts or tiny.questions(settings.prompts_per_step),
        settings,
        seed=0,
        step=step,
        phases=Phases(),
        limits=learner.limits,
    )


def advantages_like(rollout: Rollout, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = rollout.response_mask_BT.shape
    return tuple(torch.randn(shape, generator=generator) * rollout.response_mask_BT for _ in range(2))  # pyright: ignore


def sequences_of(rollout: Rollout) -> list[tuple[Tensor, Tensor, Tensor]]:
    prompts = [torch.tensor(tiny.chat().prompt_ids(p)) for p in rollout.prompts]
    return list(zip(prompts, rollout.response_tokens_BT, rollout.response_mask_BT, strict=True))


def littered(rollout: Rollout) -> Rollout:
    """The same rollout with other things outside its mask: sentinels, NaN, and real-looking tokens."""
    outside = ~rollout.response_mask_BT
    junk = {"logprobs_BT": 1.0, "sampler_logprobs_BT": -40.0, "ref_logprobs_BT": -7.0, "values_BT": float("nan")}
    changed = {name: getattr(rollout, name).masked_fill(outside, value) for name, value in junk.items()}
    changed["response_tokens_BT"] = rollout.response_tokens_BT.masked_fill(outside, tiny.ID["yes"])
    return dataclasses.replace(rollout, **changed)


def gradients_of(learner: Learner) -> list[Tensor]:
    found = [
        p.grad.clone()
        for s in (learner.policy_stepper, learner.value_stepper)
        for p in s.parameters
        if p.grad is not None
    ]
    learner.policy_stepper.drop()
    learner.value_stepper.drop()
    return found
