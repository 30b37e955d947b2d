"""Checkpoints answer the same held-out prompts, and those who did not teach them say which answers are better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch

from plaudit.data.batching import token_budget_batches
from plaudit.evaluation.compare import BEFORE, SCORE, Answers, Scorer, compare
from plaudit.evaluation.overoptimization import kl_of_best_of
from plaudit.evaluation.truth import skill
from plaudit.evaluation.winrate import Prefer, by_panel, by_scores
from plaudit.intervals import mean_interval
from plaudit.models.generate import Generated
from plaudit.models.sequences import bundle, predicting_states
from plaudit.progress import Journal
from plaudit.recipe import Recipe
from plaudit.reward.model import RewardModel
from plaudit.reward.ready import open_reward
from plaudit.rl.shaping import combine_objectives
from plaudit.tensors import token_logprobs
from plaudit.types import Estimate, Prompt, RewardFunction, Sampling, World
from plaudit.workshop import Workshop

OTHER_PEOPLE = 500_000
"""Added to the seed for the people who compare checkpoints: they are not those who taught the judge."""
EVALUATION, BEST_OF = -2_000_000, -2_500_000
"""Occasions on which checkpoints speak here, unlike any other act's."""
BEST_OF_N = "best_of_n"


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
        distances: dict[str, dict[str, float]] = {}
        for name, path in checkpoints.items():
            model = self.workshop.load_model(path)
            said = self.workshop.speak(
                model, prompts, self.sampling, occasion=EVALUATION, batch_size=config.batch_size, journal=journal
            )
            texts = tuple(self.workshop.chat.text_of(s.tokens, self.sampling.stop) for s in said)
            answers[name] = Answers(texts=texts, finished=tuple(s.finished for s in said))
            if name not in ("base", BEFORE):
                distances[name] = self.distance(prompts, said).as_dict()
            if self.world is not None:
                skills[name] = skill(self.world.skills(), lambda t, m=model: self.workshop.complete(m, t)).as_dict()
        prefer, by = self.who_prefers()
        if config.best_of is not None:
            answers[BEST_OF_N] = self.best_of(config.best_of, prompts, checkpoints[BEFORE], journal)
            exact = kl_of_best_of(config.best_of)
            distances[BEST_OF_N] = {"value": exact, "low": exact, "high": exact}
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
        return result | {"win_rate_by": by, "kl": distances}, answers

    def distance(self, prompts: Sequence[Prompt], said: Sequence[Generated]) -> Estimate:
        """KL of a checkpoint from the SFT model on its own answers, nats per answer: the k1 estimate, at the
        temperature they were drawn at."""
        trunk, asked = self.workshop.trunk, [torch.tensor(self.workshop.chat.prompt_ids(p)) for p in prompts]
        tokens = [torch.tensor(one.tokens) for one in said]
        bundles = [bundle(ids, [own[:-1]]) for ids, own in zip(asked, tokens, strict=True)]

        @torch.no_grad()
        def reference(tokens_per_batch: int) -> dict[int, float]:
            found: dict[int, float] = {}
            for rows in token_budget_batches([len(one) for one in bundles], tokens_per_batch):
                logprobs_N, _ = token_logprobs(
                    predicting_states(trunk, [bundles[r] for r in rows], part=None),
                    torch.cat([tokens[r] for r in rows]).to(trunk.device),
                    trunk.head(None),
                    temperature=self.sampling.temperature,
                    top_p=self.sampling.top_p,
                )
                lengths = [len(tokens[r]) for r in rows]
                found |= zip(rows, (float(own.sum()) for own in logprobs_N.cpu().split(lengths)), strict=True)
            return found

        before = trunk.reading.run(reference, where="reading how likely the reference finds what was said")
        sums = [sum(one.logprobs) - before[row] for row, one in enumerate(said)]
        groups = [prompt.id for prompt in prompts]
        return mean_interval(sums, groups=groups, resamples=self.recipe.evaluation.resamples, seed=self.recipe.seed)

    def best_of(self, count: int, prompts: Sequence[Prompt], path: str, journal: Journal) -> Answers:
        """What the judge likes best of so many answers of the SFT model."""
        repeated = [prompt for prompt in prompts for _ in range(count)]
        said = self.workshop.speak(
            self.workshop.load_model(path),
            repeated,
            self.sampling,
            occasion=BEST_OF,
            batch_size=self.recipe.evaluation.batch_size,
            journal=journal,
        )
        texts = [self.workshop.chat.text_of(s.tokens, self.sampling.stop) for s in said]
        scores = self.paid(repeated, texts)
        best = [max(range(i, i + count), key=scores.__getitem__) for i in range(0, len(texts), count)]
        return Answers(texts=tuple(texts[i] for i in best), finished=tuple(said[i].finished for i in best))

    def paid(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> Sequence[float]:
        """The score that PPO follows, before any shaping."""
        if "judge" in self.judges:
            return self.scorers["judge"](prompts, texts)[SCORE]
        scores_BO, weights = self.reward(prompts, texts), self.recipe.ppo.objective_weights
        return combine_objectives(scores_BO, self.reward.objectives, weights).tolist()

    @cached_property
    def reward(self) -> RewardFunction:
        """What PPO is paid by where there is no judge of the run's own."""
        return open_reward(self.recipe.ppo.reward or "", device=self.recipe.model.device)

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
        return by_scores(self.paid), "the reward itself"
