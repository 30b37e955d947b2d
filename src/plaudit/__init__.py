"""Plaudit: reinforcement learning from human feedback, from demonstrations and rankings to a model that people prefer.

    from plaudit import load_recipe, run
    result = run(load_recipe("recipe.yaml"))

The parts of the loop are here too: `train_sft`, `train_judge`, `ppo`, with `Trunk`, `Chat` and `RewardModel`.
Names are loaded when they are first used: `import plaudit` itself loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plaudit.data.chat import Chat
    from plaudit.models.generate import generate
    from plaudit.models.trunk import Trunk
    from plaudit.recipe import Recipe
    from plaudit.recipe_file import load_recipe
    from plaudit.reward.model import RewardModel
    from plaudit.reward.train import train_judge
    from plaudit.rl.ppo import ppo
    from plaudit.rounds import run, run_act
    from plaudit.sft.train import train_sft
    from plaudit.summary import write_report

_HOME = {
    "Chat": "plaudit.data.chat",
    "Recipe": "plaudit.recipe",
    "RewardModel": "plaudit.reward.model",
    "Trunk": "plaudit.models.trunk",
    "generate": "plaudit.models.generate",
    "load_recipe": "plaudit.recipe_file",
    "ppo": "plaudit.rl.ppo",
    "run": "plaudit.rounds",
    "run_act": "plaudit.rounds",
    "train_judge": "plaudit.reward.train",
    "train_sft": "plaudit.sft.train",
    "write_report": "plaudit.summary",
}

__all__ = [
    "Chat",
    "Recipe",
    "RewardModel",
    "Trunk",
    "generate",
    "load_recipe",
    "ppo",
    "run",
    "run_act",
    "train_judge",
    "train_sft",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'plaudit' has no attribute {name!r}")
