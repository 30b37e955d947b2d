"""The people of the built-in world: Plackett-Luce judges of known temperature, with weights and biases of their own.

A person's utility of a response is the truth weighted his way, plus what misleads him. He perceives it with Gumbel
noise times his temperature and sorts by that; so the chance of any strict order is Plackett-Luce's, and of a pair
sigmoid(difference / temperature) (Plackett 1975; Luce 1959). What he perceives as nearer than his tie width, he ties.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from random import Random

from plaudit.data.formats import judgement_id
from plaudit.types import OVERALL, InputError, Judgement, Prompt, Response
from plaudit.worlds.reading import read
from plaudit.worlds.truth import WEIGHTS, truth

NAMES = (
    "Amira", "Bjorn", "Chen", "Dana", "Elif", "Farid", "Gita", "Henk", "Ines", "Juro", "Kofi", "Lotte",
)  # fmt: skip
TEMPERATURE = 0.08
"""On the scale of the truth's total: 0.16 apart, a person takes the better of two seven times in eight."""
TIE_WIDTH = 0.02
CARELESS_SHARE = 0.25
"""Share of the people who, at times, rank without having read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """One annotator. Biases are in units of utility; 0 everywhere and WEIGHTS make a judge of the truth itself."""

    name: str
    seed: int = 0
    """Redraws everything he does by chance."""
    weights: Mapping[str, float]
    temperature: float = TEMPERATURE
    tie_width: float = TIE_WIDTH
    length_bias: float = 0.0
    """Per 20 words."""
    confidence_bias: float = 0.0
    """For "trust me" and its like; taken off for a hedge."""
    flattery_bias: float = 0.0
    position_bias: float = 0.0
    """For what is shown first."""
    carelessness: float = 0.0
    """Chance that a judgement is made blindly."""

    def __post_init__(self) -> None:
        if not self.temperature > 0 or self.tie_width < 0 or not 0 <= self.carelessness <= 1:
            raise InputError(
                f"annotator {self.name}: temperature must be above 0, tie_width 0 or more, carelessness in 0..1; "
                f"got {self.temperature}, {self.tie_width}, {self.carelessness}"
            )

    def utility(self, prompt: Prompt, text: str, *, shown_first: bool = False) -> float:
        """What the response is worth to him before noise."""
        scores, traits = truth(prompt, text), read(text)
        worth = sum(weight * scores[objective] for objective, weight in self.weights.items())
        worth += self.length_bias * min(traits.words, 40) / 20
        worth += self.confidence_bias * (traits.boasts - traits.hedges)
        worth += self.flattery_bias * traits.flatters
        return worth + self.position_bias * shown_first

    def judge(self, prompt: Prompt, responses: Sequence[Response], *, seed: int) -> Judgement:
        """Ranks the responses of one prompt; equal texts are always tied. Equal arguments, equal judgement."""
        if len(responses) < 2:
            raise InputError(f"prompt {prompt.id}: a ranking needs two responses or more, got {len(responses)}")
        rng = Random(f"judge {self.seed} {self.name} {seed} {prompt.id}")
        order = rng.sample(range(len(responses)), len(responses))
        careless = rng.random() < self.carelessness
        perceived: dict[int, float] = {}
        by_text: dict[str, float] = {}
        for place, index in enumerate(order):
            text = responses[index].text
            if text not in by_text:
                worth = 0.0 if careless else self.utility(prompt, text, shown_first=place == 0)
                by_text[text] = worth + self.temperature * _gumbel(rng)
            perceived[index] = by_text[text]
        ranking = tie_groups(perceived, self.tie_width)
        return Judgement(
            id=f"{judgement_id(prompt, responses, ranking, OVERALL, self.name)[:10]}{rng.getrandbits(24):06x}",
            prompt=prompt,
            responses=tuple(responses),
            ranking=ranking,
            strength=max(perceived.values()) - min(perceived.values()),
            display_order=tuple(order),
            annotator=self.name,
            seconds=round(2.0 + 0.4 * sum(read(response.text).words for response in responses), 1),
        )


def _gumbel(rng: Random) -> float:
    return -math.log(-math.log(max(rng.random(), 1e-300)))


def tie_groups(perceived: Mapping[int, float], width: float) -> tuple[tuple[int, ...], ...]:
    """From best to worst; whatever lies within `width` of a group's best belongs to the group."""
    groups: list[list[int]] = []
    for index in sorted(perceived, key=lambda index: (-perceived[index], index)):
        if groups and perceived[groups[-1][0]] - perceived[index] <= width:
            groups[-1].append(index)
        else:
            groups.append([index])
    return tuple(tuple(sorted(group)) for group in groups)


def crowd(count: int, *, seed: int, noise: float = 1.0, bias: float = 1.0) -> list[Person]:
    """People who differ: `noise` scales temperature and carelessness, `bias` every bias and the spread of weights."""
    if not 1 <= count <= len(NAMES):
        raise InputError(f"a crowd has 1 to {len(NAMES)} people, not {count}")
    rng = Random(f"crowd {seed}")
    people: list[Person] = []
    for name in rng.sample(NAMES, count):
        own = {objective: weight * math.exp(0.35 * bias * rng.gauss(0, 1)) for objective, weight in WEIGHTS.items()}
        total = sum(own.values())
        people.append(
            Person(
                name=name,
                seed=seed,
                weights={objective: weight / total for objective, weight in own.items()},
                temperature=max(1e-6, TEMPERATURE * noise * rng.uniform(0.7, 1.4)),
                length_bias=bias * rng.gauss(0.03, 0.03),
                confidence_bias=bias * rng.gauss(0.04, 0.03),
                flattery_bias=bias * rng.gauss(0.06, 0.05),
                position_bias=bias * rng.gauss(0.03, 0.02),
                carelessness=min(1.0, noise * 0.15) if rng.random() < CARELESS_SHARE else 0.0,
            )
        )
    return people


def preference(person: Person, prompt: Prompt, first: str, second: str) -> float:
    """The chance that he puts `first` before `second`, ties split evenly, each shown first half of the time."""
    if first == second:
        return 0.5
    chance = 0.0
    for lead in (person.position_bias, -person.position_bias):
        gap = person.utility(prompt, first) - person.utility(prompt, second) + lead
        chance += 0.5 * _untied_chance(gap, person)
    return (1 - person.carelessness) * chance + person.carelessness * 0.5


def _untied_chance(gap: float, person: Person) -> float:
    """P(first) + P(tie) / 2, of a difference of two Gumbels (a logistic) shifted by the gap."""
    wins = _sigmoid((gap - person.tie_width) / person.temperature)
    loses = _sigmoid((-gap - person.tie_width) / person.temperature)
    return wins + (1 - wins - loses) / 2


def _sigmoid(value: float) -> float:
    return 0.5 * (1 + math.tanh(value / 2))


def bayes_accuracy(people: Sequence[Person], prompt: Prompt, texts: Sequence[str]) -> float:
    """The ceiling: how often the best possible judge agrees with one of these people, drawn at random, on a pair.

    Mean over the pairs of different texts of max(p, 1 - p), p being the crowd's mean preference; ties count half.
    """
    chances = [
        sum(preference(person, prompt, first, second) for person in people) / len(people)
        for first, second in combinations(dict.fromkeys(texts), 2)
    ]
    if not chances:
        raise InputError(f"prompt {prompt.id}: no two different responses to tell apart")
    return sum(max(chance, 1 - chance) for chance in chances) / len(chances)
