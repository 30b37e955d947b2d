"""Checkpoints answer the same held-out prompts, and those who did not teach them say which answers are better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from plaudit.evaluation.compare import SCORE, Answers, Scorer, compare
from plaudit.evaluation.truth import skill
from plaudit.evaluation.winrate import Prefer, by_panel, by_scores
from plaudit.progress import Journal
from plaudit.recipe import Recipe
from plaudit.reward.model import RewardModel
from plaudit.reward.ready import open_reward
from plaudit.rl.shaping import combine_objectives
from plaudit.types import Prompt, Sampling, World
from plaudit.workshop import Workshop

OTHER_PEOPLE = 500_000
"""Added to the seed for the people who compare checkpoints: they are not those who taught the judge."""
EVALUATION = -2_000_000
"""The occasion on which checkpoints speak here, unlike any other act's."""


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Who may judge, and how the checkpoints are asked. `judges` by name: "judge", and "second_judge" where there is
    one that PPO has never seen."""

    recipe: Recipe
    workshop: Workshop
    world: World | None
    judges: Mapping[str, RewardModel]
    sampling: Sampling

    def hold(
        self, prompts: Sequence[Prompt], checkpoints: Mapping[str, str], journal: Journal
    ) -> tuple[dict[str, Any], dict[str, Answers]]:
        """The figures for summary.json, and what each checkpoint (name -> model folder) said."""
        config = self.recipe.evaluation
        answers: dict[str, Answers] = {}
        skills: dict[str, dict[str, float]] = {}
        for name, path in checkpoints.items():
            model = self.workshop.load_model(path)
            said = self.workshop.speak(
                model, prompts, self.sampling, occasion=EVALUATION, batch_size=config.batch_size, journal=journal
            )
            texts = tuple(self.workshop.chat.text_of(s.tokens, self.sampling.stop) for s in said)
            answers[name] = Answers(texts=texts, finished=tuple(s.finished for s in said))
            if self.world is not None:
                skills[name] = skill(self.world.skills(), lambda t, m=model: self.workshop.complete(m, t)).as_dict()
        prefer, by = self.who_prefers()
        with self.workshop.trunk.memory.kept():  # the judges read the same texts
            result = compare(
                prompts,
                answers,
                truth=None if self.world is None else self.world.truth(),
                prefer=prefer,
                scorers=self.scorers,
                resamples=config.resamples,
                seed=self.recipe.seed,
            )
        for name, estimate in skills.items():
            result["truth"][name]["skill"] = estimate
        return result | {"win_rate_by": by}, answers

    @property
    def scorers(self) -> dict[str, Scorer]:
        """The judges by name. Their score weighs the objectives as PPO does."""

        def scorer(judge: RewardModel, prompts: Sequence[Prompt], texts: Sequence[str]) -> dict[str, list[float]]:
            scores_BO = judge(prompts, texts)
            total_B = combine_objectives(scores_BO, judge.objectives, self.recipe.ppo.objective_weights)
            apart = zip(judge.objectives, scores_BO.T.tolist(), strict=True) if len(judge.objectives) > 1 else ()
            return {**dict(apart), SCORE: total_B.tolist()}  # an objective of that name does not take its place

        return {name: partial(scorer, judge) for name, judge in self.judges.items()}

    def who_prefers(self) -> tuple[Prefer, str]:
        """Who says which of two answers is better: people where there are any, else the judge PPO has not seen."""
        if self.world is not None:
            panel = self.world.annotators(seed=self.recipe.seed + OTHER_PEOPLE)
            return by_panel(panel), "people of the world who did not teach the judge"
        names = {"second_judge": "the second judge", "judge": "the judge itself"}
        name = next((name for name in names if name in self.judges), None)
        if name is not None:
            scorer = self.scorers[name]
            return by_scores(lambda p, t: scorer(p, t)[SCORE]), names[name]
        reward = open_reward(self.recipe.ppo.reward or "", device=self.recipe.model.device)
        return by_scores(lambda p, t: reward(p, t).sum(dim=1).tolist()), "the reward itself"
