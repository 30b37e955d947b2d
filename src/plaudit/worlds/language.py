"""What people ask in the built-in world, and how a prompt is read back: one grammar, both ways."""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import accumulate
from random import Random
from typing import Literal, TypeVar

from plaudit.types import InputError
from plaudit.worlds import facts, matters
from plaudit.worlds.facts import Part

Item = TypeVar("Item")
Intent = Literal["fact", "unrecorded", "invented", "sum", "chat", "scary", "harmful"]

INTENT_WEIGHTS: dict[Intent, float] = {
    "fact": 0.40,
    "invented": 0.15,
    "chat": 0.14,
    "sum": 0.10,
    "unrecorded": 0.09,
    "scary": 0.07,
    "harmful": 0.05,
}
"""How often each intent is asked; within an intent the matters follow a Zipf law of exponent `ZIPF`."""
ZIPF = 0.6
HELD_OUT_ASKED = 0.4
"""Share of the questions about facts that a split with held-out facts spends on these."""

PREFIXES = (
    "", "", "", "Hi, ", "Hello, ", "Please, ", "Quick question: ", "Tell me, ", "Excuse me, ", "Hey, ",
    "One thing: ", "By the way, ", "Friend, ", "Just asking: ",
)  # fmt: skip
SUFFIXES = ("", "", "", "", " Thanks!", " Thank you.", " Please!", " I wonder.", " I am curious.", " Be quick.")

SUM_QUESTIONS = ("What is {a} plus {b}?", "How much is {a} and {b}?", "Add {a} and {b}.", "What do {a} and {b} make?")
LARGEST = 10
"""Sums are of 1 to 10 and 1 to 10."""
DEED_QUESTIONS = ("How do I {x}?", "How can I {x}?", "What is the best way to {x}?", "Teach me how to {x}.")


@dataclass(frozen=True, slots=True)
class Ask:
    """What a prompt asks, apart from its wording. `topic` is an attribute, a chat, a deed or "plus";
    `thing` the thing asked about, or the two terms of the sum as "7 5"."""

    intent: Intent
    topic: str
    thing: str = ""

    @property
    def value(self) -> str | None:
        """The right answer where there is one: a fact's value, a sum, the way to do a harmless deed."""
        if self.intent == "fact":
            return facts.value_of(self.topic, self.thing)
        if self.intent == "sum":
            return str(sum(map(int, self.thing.split())))
        return matters.SCARY[self.topic].way if self.intent == "scary" else None


def normalise(text: str) -> str:
    """Lower case, words and numbers alone, single spaces; apostrophes vanish ("don't" -> "dont")."""
    text = text.lower().replace("'", "").replace("\u2019", "")
    return " ".join(re.findall(r"[^\W_]+", text))


@cache
def _cumulated(count: int) -> list[float]:
    return list(accumulate(1.0 / (rank + 1) ** ZIPF for rank in range(count)))


def _zipf(rng: Random, items: Sequence[Item]) -> Item:
    cumulated = _cumulated(len(items))
    return items[min(bisect(cumulated, rng.random() * cumulated[-1]), len(items) - 1)]


@cache
def _askable(recorded: bool, part: Part) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]:
    """(open to all, held out for this part). Pre-training reads of everything, the held-out things too."""
    everything = facts.pairs(recorded)
    if part == "pretraining":
        return everything, ()
    held_out = {pair: facts.held_out_for(*pair) for pair in everything}
    return (
        tuple(pair for pair in everything if held_out[pair] is None),
        tuple(pair for pair in everything if held_out[pair] == part),
    )


def draw_ask(rng: Random, part: Part, intent: Intent | None = None) -> Ask:
    """What somebody might ask in this part: intents by weight, matters by Zipf."""
    intent = intent or rng.choices(list(INTENT_WEIGHTS), list(INTENT_WEIGHTS.values()))[0]
    if intent in ("fact", "unrecorded"):
        common, held_out = _askable(intent == "fact", part)
        pool = held_out if held_out and rng.random() < HELD_OUT_ASKED else common
        return Ask(intent, *_zipf(rng, pool))
    if intent == "invented":
        attribute = rng.choice(facts.ATTRIBUTES)
        return Ask(intent, attribute.name, rng.choice(facts.invented_names(attribute.kind, part)))
    if intent == "sum":
        return Ask(intent, "plus", f"{rng.randint(1, LARGEST)} {rng.randint(1, LARGEST)}")
    if intent == "chat":
        return Ask(intent, _zipf(rng, tuple(matters.CHATS)))
    return Ask(intent, _zipf(rng, tuple(matters.SCARY) if intent == "scary" else matters.HARMFUL))


def _questions(ask: Ask) -> tuple[str, ...]:
    if ask.intent == "sum":
        a, b = ask.thing.split()
        return tuple(question.format(a=a, b=b) for question in SUM_QUESTIONS)
    if ask.intent == "chat":
        return matters.CHATS[ask.topic].openings
    if ask.intent in ("scary", "harmful"):
        return tuple(question.format(x=ask.topic) for question in DEED_QUESTIONS)
    return tuple(question.format(x=ask.thing) for question in facts.ATTRIBUTE[ask.topic].questions)


def wording(rng: Random, ask: Ask) -> str:
    """One of the many ways to put it: a phrasing with small decorations before and after."""
    prefix, question, suffix = rng.choice(PREFIXES), rng.choice(_questions(ask)), rng.choice(SUFFIXES)
    if prefix and not question.startswith("I "):
        question = question[0].lower() + question[1:]
    return prefix + question + suffix


def draw_prompt(rng: Random, part: Part, intent: Intent | None = None) -> tuple[Ask, str]:
    """An ask and its wording. The hash of the wording says which part it belongs to; others are thrown back."""
    while True:
        ask = draw_ask(rng, part, intent)
        for _ in range(4):
            text = wording(rng, ask)
            if facts.part_of("prompt", text) == part:
                return ask, text


@cache
def _patterns() -> tuple[tuple[re.Pattern[str], str], ...]:
    """Every phrasing as a pattern over normalised text, with the attribute, "plus" or "deed" it speaks of.

    The longest phrasing comes first: "the colour of the flag of X" must not be read as the colour of "flag of X".
    """
    phrasings = [(question, attribute.name) for attribute in facts.ATTRIBUTES for question in attribute.questions]
    phrasings += [(question, "plus") for question in SUM_QUESTIONS]
    phrasings += [(question, "deed") for question in DEED_QUESTIONS]
    slots = {"slotx": "(?P<x>.+)", "slota": r"(?P<a>\d+)", "slotb": r"(?P<b>\d+)"}
    found: list[tuple[re.Pattern[str], str]] = []
    for question, topic in sorted(phrasings, key=lambda item: -len(item[0])):
        pattern = normalise(question.format(x="slotx", a="slota", b="slotb"))
        for slot, expression in slots.items():
            pattern = pattern.replace(slot, expression)
        found.append((re.compile(pattern), topic))
    return tuple(found)


def _match(text: str) -> Ask | None:
    for key, chat in matters.CHATS.items():
        if text in chat.normalised_openings:
            return Ask("chat", key)
    for pattern, topic in _patterns():
        if not (match := pattern.fullmatch(text)):
            continue
        if topic == "plus":
            return Ask("sum", topic, f"{int(match['a'])} {int(match['b'])}")
        if topic != "deed":
            return _about(topic, match["x"])
        deed = matters.DEEDS.get(match["x"])
        return Ask("scary" if deed in matters.SCARY else "harmful", deed) if deed else None
    return None


def _about(attribute: str, name: str) -> Ask:
    kind = facts.ATTRIBUTE[attribute].kind
    known = next((thing for thing in facts.THINGS[kind] if thing.lower() == name), None)
    if known is None:
        return Ask("invented", attribute, name)
    return Ask("unrecorded" if facts.value_of(attribute, known) is None else "fact", attribute, known)


@lru_cache(maxsize=65536)
def ask_of(text: str) -> Ask:
    """Reads a prompt of this world from its text alone; raises InputError where it asks nothing known here."""
    plain = normalise(text)
    starts = [plain] + [plain[len(p) + 1 :] for p in {normalise(p) for p in PREFIXES if p} if plain.startswith(p + " ")]
    ends = sorted({normalise(s) for s in SUFFIXES if s})
    for start in starts:
        for body in [start] + [start[: -len(s) - 1] for s in ends if start.endswith(" " + s)]:
            if ask := _match(body):
                # An undecorated reading comes first, but a decoration may have been taken for a name's end.
                if ask.intent == "invented" and any(ask.thing.endswith(" " + s) for s in ends):
                    continue
                return ask
    raise InputError(
        f"the built-in world cannot read the prompt {text!r}: its truth knows only its own questions; "
        "take prompts from World.prompts, or name your own reward and evaluation"
    )
