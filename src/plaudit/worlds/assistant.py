"""The built-in world: an assistant with a few hundred facts, and people who know how it should answer."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from random import Random

from plaudit.data.formats import prompt_of
from plaudit.types import Annotator, Demonstration, InputError, Message, Prompt, SkillItem, Split, Truth
from plaudit.worlds import facts
from plaudit.worlds.facts import Part
from plaudit.worlds.language import LARGEST, Ask, draw_prompt
from plaudit.worlds.people import crowd
from plaudit.worlds.truth import truth
from plaudit.worlds.voices import DEMONSTRATOR_WEIGHTS, DEMONSTRATORS

PEOPLE = 10
SUMS = 48
"""How many sums the skill holds, beside the held-out facts."""
TRIES = 60
"""A split gives up looking for new wordings after so many draws in a row have brought nothing new."""


@dataclass(frozen=True, slots=True)
class AssistantWorld:
    """`plaudit.types.World`. Equal arguments give equal results; a seed redraws which wordings of a split come."""

    @property
    def base_model(self) -> Path:
        """The Hugging Face folder that ships with the package (rebuilt by `plaudit.worlds.pretrain`)."""
        return Path(__file__).parent / "base_model"

    def prompts(self, split: Split, count: int, *, seed: int) -> list[Prompt]:
        """Different prompts of one split, tagged by intent; no other split can ever give any of them."""
        return [prompt for _, prompt in _draw(split, count, seed)]

    def demonstrations(self, count: int, *, seed: int) -> list[Demonstration]:
        """Answers of people of mixed quality to prompts of the split "sft"."""
        rng = Random(f"demonstrators {seed}")
        found: list[Demonstration] = []
        for ask, prompt in _draw("sft", count, seed):
            speaker = rng.choices(DEMONSTRATORS, DEMONSTRATOR_WEIGHTS)[0]
            found.append(Demonstration(prompt=prompt, response=speaker.answer(rng, ask), source=speaker.name))
        return found

    def annotators(self, *, seed: int) -> list[Annotator]:
        """Ten people with weights, biases and noise of their own."""
        return list(crowd(PEOPLE, seed=seed))

    def truth(self) -> Truth:
        """The program that scores any response to any prompt of this world."""
        return truth

    def skills(self) -> list[SkillItem]:
        """What pre-training taught and no later act trains: held-out facts as plain statements, and sums."""
        items: list[SkillItem] = []
        for attribute, thing in facts.pairs(True):
            if facts.held_out_for(attribute, thing) is None:
                continue
            value = facts.value_of(attribute, thing) or ""
            beginning = facts.ATTRIBUTE[attribute].statements[0].partition(" {v}")[0].format(x=thing)
            items.append(SkillItem(text=beginning, answer=f" {value}"))
        sums = list(product(range(1, LARGEST + 1), repeat=2))
        chosen = Random("sums of the skill").sample(sums, SUMS)
        return items + [SkillItem(text=f"{a} plus {b} is", answer=f" {a + b}") for a, b in sorted(chosen)]


def _draw(part: Part, count: int, seed: int) -> list[tuple[Ask, Prompt]]:
    if count < 0:
        raise InputError(f"split {part}: cannot draw {count} prompts")
    rng = Random(f"prompts {part} {seed}")
    found: dict[str, Ask] = {}
    stale = 0
    while len(found) < count:
        ask, text = draw_prompt(rng, part)
        stale = stale + 1 if text in found else 0
        found[text] = ask
        if stale > TRIES:
            raise InputError(f"split {part} of the built-in world has no {count} different prompts; ask for fewer")
    return [(ask, _tagged(prompt_of([Message(role="user", content=text)]), ask.intent)) for text, ask in found.items()]


def _tagged(prompt: Prompt, intent: str) -> Prompt:
    return Prompt(id=prompt.id, messages=prompt.messages, tags=(intent,))


def load() -> AssistantWorld:
    """The built-in world; the recipe names it `plaudit.worlds.assistant:load`."""
    return AssistantWorld()
