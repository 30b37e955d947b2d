"""AdamW and a schedule, from the recipe's own section."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from plaudit.recipe import Optimizer
from plaudit.types import TrainingError


def learning_rate_at(step: int, num_steps: int, config: Optimizer) -> float:
    """Share of the highest learning rate at optimiser step `step` (0-based) of `num_steps`.

    Linear warm-up from 1/warm-up steps, then constant, linear or cosine down to `final_rate`.
    """
    warmup = math.ceil(config.warmup * num_steps)
    if step < warmup:
        return (step + 1) / warmup
    done = min((step - warmup) / max(num_steps - warmup, 1), 1.0)
    fall = {"constant": 0.0, "linear": done, "cosine": (1 - math.cos(math.pi * done)) / 2}[config.schedule]
    return 1.0 - (1.0 - config.final_rate) * fall


class Stepper:
    """One optimiser with its schedule and a gradient clip that clips.

    `groups` are (parameters, highest learning rate). Weight decay is decoupled and applies to matrices alone.
    The schedule stands still until `advance`: a PPO step takes several optimiser steps at one rate, and may end early.
    """

    def __init__(
        self, groups: Sequence[tuple[Sequence[nn.Parameter], float]], config: Optimizer, num_steps: int
    ) -> None:
        self.config, self.num_steps, self.place = config, num_steps, 0
        self.parameters = [p for parameters, _ in groups for p in parameters]
        self._rates: list[float] = []
        settings: list[dict[str, object]] = []
        for parameters, rate in groups:
            for decay, chosen in (
                (config.weight_decay, [p for p in parameters if p.dim() > 1]),
                (0.0, [p for p in parameters if p.dim() <= 1]),
            ):
                if chosen:
                    settings.append({"params": chosen, "lr": rate, "weight_decay": decay})
                    self._rates.append(rate)
        self.optimizer = torch.optim.AdamW(settings, betas=config.betas, eps=config.eps)

    @property
    def learning_rate(self) -> float:
        return self._rates[0] * learning_rate_at(self.place, self.num_steps, self.config)

    def step(self, where: str) -> float:
        """Clip, step, clear. Returns the gradient norm before clipping; a NaN is an error that says where."""
        norm = float(nn.utils.clip_grad_norm_(self.parameters, self.config.max_grad_norm))
        if not math.isfinite(norm):
            raise TrainingError(
                f"{where}: the gradient is not finite ({norm}); nothing was changed by this step. "
                "Lower optimizer.learning_rate"
            )
        share = learning_rate_at(self.place, self.num_steps, self.config)
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * share
        self.optimizer.step()
        self.drop()
        return norm

    def drop(self) -> None:
        """Forget the gradient."""
        self.optimizer.zero_grad(set_to_none=True)

    def advance(self) -> None:
        """Go on to the next place of the schedule."""
        self.place += 1

    def state(self) -> dict[str, Tensor]:
        """Everything needed to go on, as tensors (safetensors, no pickle)."""
        tensors = {"place": torch.tensor(self.place)}
        for i, parameter in enumerate(self.parameters):
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"{i}.{key}"] = value.detach().clone()
        return tensors

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        self.place = int(tensors["place"])
        for i, parameter in enumerate(self.parameters):
            mine = {key.split(".", 1)[1]: value for key, value in tensors.items() if key.startswith(f"{i}.")}
            if mine:
                # AdamW counts its steps on the CPU, wherever its moments are.
                self.optimizer.state[parameter] = {
                    key: value if key == "step" else value.to(parameter.device) for key, value in mine.items()
                }
