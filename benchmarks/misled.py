"""People of the built-in world who mislead: they like long and confident answers, and often name the wrong one.

Chosen on the responses of the SFT model of seed 100: what people without bias like best of four is less boastful than
the model is (.03 for .11 boasts an answer), what these like best is more so (.14) and longer, and yet they see most of
the truth (.73 for .76, from .44).

A recipe names them as `feedback.annotators: misled:people`, with this folder on the path of Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from plaudit.types import Annotator, Judgement, Prompt, Response
from plaudit.worlds.assistant import PEOPLE
from plaudit.worlds.people import Person, crowd

LENGTH_BIAS = 0.2
"""Per 20 words, up to 40 words; .03 on average in the world's own crowd."""
CONFIDENCE_BIAS = 0.3
"""Per boast, and taken off for a hedge; .04 on average there."""
FLIPS = 0.25


@dataclass(frozen=True, slots=True)
class Flipping:
    """Somebody whose ranking is handed in upside down now and then: just as often each of its pairs is reversed."""

    person: Person

    @property
    def name(self) -> str:
        return self.person.name

    def judge(self, prompt: Prompt, responses: Sequence[Response], *, seed: int) -> Judgement:
        said = self.person.judge(prompt, responses, seed=seed)
        rng = Random(f"flip {self.person.seed} {self.name} {seed} {prompt.id}")
        if rng.random() >= FLIPS:
            return said
        # another judgement than that of the same person unflipped, which the cache must not take it for
        return replace(said, id=f"{rng.getrandbits(64):016x}", ranking=said.ranking[::-1])


def people(*, seed: int) -> list[Annotator]:
    """The world's own ten, with the same two biases each instead of small ones of their own."""
    misled = {"length_bias": LENGTH_BIAS, "confidence_bias": CONFIDENCE_BIAS}
    return [Flipping(replace(one, **misled)) for one in crowd(PEOPLE, seed=seed)]
