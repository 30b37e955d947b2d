"""A reward function in place of a person, with the noise that the Bradley-Terry model takes people to have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from plaudit.data.formats import judgement_id
from plaudit.types import InputError, Judgement, Prompt, Response, RewardFunction


@dataclass(frozen=True, kw_only=True)
class StandIn:
    """Ranks by score plus Gumbel noise times the temperature: the chance of a strict order is Plackett-Luce's, and
    of a pair sigmoid(difference / temperature) (Luce 1959; Yellott 1977). Equal texts are tied."""

    name: str
    reward: RewardFunction
    temperature: float = 1.0
    seed: int = 0

    @property
    def objective(self) -> str:
        return self.reward.objectives[0]

    def judge(self, prompt: Prompt, responses: Sequence[Response], *, seed: int) -> Judgement:
        """Equal arguments, equal judgement. InputError where a score is no number."""
        texts = [one.text for one in responses]
        scores_KO = self.reward([prompt] * len(texts), texts)
        rng = Random(f"stand-in {self.seed} {self.name} {seed} {prompt.id}")
        perceived: dict[str, float] = {}
        for text, row in zip(texts, scores_KO, strict=True):
            score = float(row[0])
            if not math.isfinite(score):
                raise InputError(f"{self.name}: the score of a response to prompt {prompt.id} is {score}")
            noise = -math.log(-math.log(rng.random() or 1e-300))
            perceived.setdefault(text, score + self.temperature * noise)
        order = sorted(perceived.values(), reverse=True)
        ranking = tuple(
            tuple(i for i, text in enumerate(texts) if perceived[text] == value) for value in dict.fromkeys(order)
        )
        return Judgement(
            id=judgement_id(prompt, responses, ranking, self.objective, self.name),
            prompt=prompt,
            responses=tuple(responses),
            ranking=ranking,
            objective=self.objective,
            strength=max(order) - min(order),
            annotator=self.name,
        )


def stand_ins(reward: RewardFunction, name: str, *, count: int, temperature: float, seed: int) -> list[StandIn]:
    """So many of them, whose noise is independent."""
    return [
        StandIn(name=f"{name} {number}", reward=reward, temperature=temperature, seed=seed)
        for number in range(1, count + 1)
    ]
