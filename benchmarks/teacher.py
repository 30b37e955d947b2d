"""Judges of a benchmark: each trained by itself on one SFT model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plaudit import Chat, Recipe, RewardModel, Trunk, train_judge
from plaudit.models.loading import load_causal_lm
from plaudit.progress import Journal
from plaudit.types import Judgement


class Teacher:
    """Trains judges as the recipe has them, but for what a benchmark changes."""

    def __init__(self, recipe: Recipe, model: str, folder: Path) -> None:
        self.recipe, self.model, self.folder = recipe, model, folder

    def judge(self, learned: Sequence[Judgement], *, order: int = 0, **changes: Any) -> RewardModel:
        return self.taught(learned, order=order, **changes)[0]

    def taught(
        self, learned: Sequence[Judgement], *, order: int = 0, **changes: Any
    ) -> tuple[RewardModel, dict[str, Any]]:
        """The judge, and what its training says. `order` draws the order of the rankings anew; the heads begin alike.
        `changes` replace fields of the reward section."""
        config, seed = self.recipe.reward.model_copy(update=changes), self.recipe.seed
        judge = RewardModel(
            Trunk(load_causal_lm(self.model)),
            Chat.load(self.model),
            ["overall"],
            part="reward",
            adapter=config.adapter,
            members=config.members,
            seed=seed,
        )
        with Journal(self.folder, quiet=True) as journal:
            return judge, train_judge(judge, learned, [], config, seed=seed + 1000 * order, journal=journal)
