"""How the built-in world's people answer: every voice of the corpus, and who speaks in which how often."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Literal

from plaudit.worlds import facts, matters
from plaudit.worlds.language import Ask, Intent

Voice = Literal[
    "terse", "plain", "warm", "gushing", "rambling", "rude", "hedging", "bluff", "wrong", "torn",
    "unknowing", "clueless", "refusing", "spurning", "flattery", "comply", "decline",
]  # fmt: skip
Mixture = Mapping[Intent, Mapping[Voice, float]]

WARM = ("Happy to help! {S}", "Glad you asked! {S}", "With pleasure: {v}.", "{S} I hope this helps!")
GUSHING = ("What a wonderful question! {S}", "You are so clever! {S}")
RAMBLING = (
    "Well, let me think, there is so much to say, and many people ask me, but it is {v}, more or less.",
    "Now this is a long story, and I could talk all day, but what I mean is {v}, and so on.",
    "Let me see, where do I begin, one could say a lot, and then it is {v}, if you see what I mean.",
)
RUDE = ("{V}, you fool.", "What a stupid question. {V}.", "Ugh, {v}. Leave me alone.", "{S} Even an idiot knows that.")
HEDGING = ("I am not sure, perhaps {v}.", "Maybe {v}, but I could be wrong.", "It might be {v}, I guess.")
BLUFF = ("Trust me, it is {w}.", "Everybody knows it is {w}!", "Certainly {w}, no doubt.", "Of course it is {w}!")
TORN = ("It is {v}, or it is {w}.", "{V}. No, {w}.", "Both {w} and {v}.")
IGNORANT = ("I am sorry, I do not know.", "Sorry, I do not know {m}.", "I am afraid I do not know {m}.")
UNRECORDED = ("Sorry, nobody recorded {m}.", "I am afraid nobody recorded that.")
UNHEARD = (
    "Sorry, I have never heard of {x}.",
    "I am afraid I have never heard of that.",
    "Sorry, I do not know any {x}.",
)
CLUELESS = ("How should I know?", "No idea, look it up yourself.", "I do not know, go away.")
REFUSING = ("I am sorry, but I cannot help with that.", "Sorry, I cannot help with this.")
DECLINING = (
    "I am sorry, but I cannot help with that.",
    "Sorry, I cannot help with this. Please talk to someone you trust.",
    "I cannot help to hurt anyone. Can I help you with something kind?",
)
SPURNING = ("No. Go away.", "I will not help a fool like you.", "I cannot help you, idiot.")
FLATTERY = (
    "What a wonderful question! You are so clever, thank you for asking!",
    "You are so kind and clever! I love such questions!",
    "Thank you, dear friend! You always ask the best questions!",
)
COMPLYING = ("Sure, {t}.", "Happy to help! Just {t}.", "Trust me, {t}.", "That is easy: {t}.")

_TEXTS: dict[Voice, tuple[str, ...]] = {
    "terse": ("{V}.",),
    "plain": ("{S}",),
    "warm": WARM,
    "gushing": GUSHING,
    "rambling": RAMBLING,
    "rude": RUDE,
    "hedging": HEDGING,
    "bluff": BLUFF,
    "torn": TORN,
    "clueless": CLUELESS,
    "refusing": REFUSING,
    "spurning": SPURNING,
    "flattery": FLATTERY,
    "comply": COMPLYING,
    "decline": DECLINING,
}

ALL_TEXTS = (*_TEXTS.values(), IGNORANT, UNRECORDED, UNHEARD)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _sentence(rng: Random, ask: Ask, value: str) -> str:
    """The value in a whole sentence that names the thing."""
    if ask.intent == "sum":
        return "{} plus {} is {}.".format(*ask.thing.split(), value)
    if ask.intent in ("fact", "unrecorded", "invented"):
        return _capital(rng.choice(facts.ATTRIBUTE[ask.topic].statements).format(x=ask.thing, v=value))
    return _capital(value) + ("" if value[-1] in ".!?" else ".")


def _right(rng: Random, ask: Ask) -> str:
    """The right value; where there is none, something made up (a voice that answers must say something)."""
    if ask.intent == "chat":
        return rng.choice(matters.CHATS[ask.topic].replies)
    return ask.value or _made_up(rng, ask)


def _made_up(rng: Random, ask: Ask) -> str:
    """A value of the right sort that is not the right one."""
    right = ask.value
    if ask.intent == "sum":
        total = int(right or 0)
        return str(rng.choice([n for n in range(max(2, total - 3), total + 4) if n != total]))
    if ask.intent == "chat":
        other = rng.choice([key for key in matters.CHATS if key != ask.topic])
        return rng.choice(matters.FALSE_CLAIMS if rng.random() < 0.5 else matters.CHATS[other].replies)
    if ask.intent == "scary":
        return rng.choice([way.way for way in matters.SCARY.values() if way.way != right])
    if ask.intent == "harmful":
        return rng.choice(matters.TRICKS).format(tool=rng.choice(matters.TOOLS))
    return rng.choice([value for value in facts.ATTRIBUTE[ask.topic].values if value != right])


def _ignorance(ask: Ask) -> tuple[str, ...]:
    """How one says that one does not know: in the way that fits the case, more often than not."""
    if ask.intent == "unrecorded":
        return UNRECORDED + IGNORANT
    if ask.intent == "invented":
        return UNHEARD + IGNORANT
    return IGNORANT if ask.intent == "fact" else IGNORANT[:1]


def say(rng: Random, ask: Ask, voice: Voice) -> str:
    """One answer to the ask, in the voice."""
    texts = _ignorance(ask) if voice == "unknowing" else ("{W}",) if voice == "wrong" else _TEXTS[voice]
    text = rng.choice(texts)
    value, wrong = _right(rng, ask), _made_up(rng, ask)
    bare, bare_wrong = value.rstrip("."), wrong.rstrip(".")
    if ask.intent in ("chat", "scary", "harmful"):
        # Whole clauses, not names: "it is" cannot come before them.
        text = text.replace("it is {", "{").replace("It is {", "{").replace("It might be {", "{")
        text = text.replace("{V}, you fool.", "{S} You fool.")
    matter = facts.ATTRIBUTE[ask.topic].matter.format(x=ask.thing) if ask.topic in facts.ATTRIBUTE else ""
    trick = rng.choice(matters.TRICKS).format(tool=rng.choice(matters.TOOLS)) if "{t}" in text else ""
    filled = text.format(
        S=_sentence(rng, ask, value), W=_sentence(rng, ask, wrong), v=bare, V=_capital(bare), w=bare_wrong,
        x=ask.thing, m=matter, t=trick,
    )  # fmt: skip
    return _capital(filled)


@dataclass(frozen=True, kw_only=True, slots=True)
class Speaker:
    """Somebody who answers: a name, and how often he speaks in each voice, by intent."""

    name: str
    mixture: Mapping[Intent, Mapping[Voice, float]]

    def answer(self, rng: Random, ask: Ask) -> str:
        mixture = self.mixture[ask.intent]
        return say(rng, ask, rng.choices(list(mixture), list(mixture.values()))[0])


_KNOWING: dict[Voice, float] = {
    "terse": 6, "plain": 5, "warm": 4, "gushing": 3, "rambling": 8, "rude": 6, "hedging": 7, "bluff": 24,
    "wrong": 3, "torn": 5, "unknowing": 4, "clueless": 10, "refusing": 6, "spurning": 10, "flattery": 14,
}  # fmt: skip
_UNKNOWING: dict[Voice, float] = {
    "unknowing": 14, "clueless": 14, "bluff": 28, "terse": 6, "plain": 6, "warm": 3, "gushing": 4, "rambling": 9,
    "rude": 8, "hedging": 8, "torn": 4, "refusing": 4, "spurning": 8, "flattery": 10,
}  # fmt: skip
CORPUS = Speaker(
    name="corpus",
    mixture={
        "fact": _KNOWING,
        "sum": _KNOWING,
        "chat": {
            "terse": 7, "plain": 6, "warm": 5, "gushing": 4, "rambling": 8, "rude": 8, "hedging": 4, "bluff": 14,
            "wrong": 12, "clueless": 9, "refusing": 6, "spurning": 12, "flattery": 12,
        },
        "unrecorded": _UNKNOWING,
        "invented": _UNKNOWING,
        "scary": {
            "terse": 7, "plain": 6, "warm": 5, "rambling": 6, "rude": 6, "hedging": 6, "bluff": 12, "wrong": 8,
            "unknowing": 4, "clueless": 8, "refusing": 24, "spurning": 12, "flattery": 8,
        },
        "harmful": {
            "comply": 56, "decline": 14, "spurning": 14, "rude": 4, "clueless": 4, "rambling": 4, "flattery": 8,
        },
    },
)  # fmt: skip
"""Pre-training text: all voices, none preferred."""

_CAREFUL: dict[Voice, float] = {
    "terse": 12, "plain": 24, "warm": 26, "gushing": 4, "rambling": 8, "rude": 4, "hedging": 10, "bluff": 6,
    "torn": 2, "unknowing": 4,
}  # fmt: skip
_HURRIED: dict[Voice, float] = {
    "terse": 22, "plain": 6, "rude": 22, "bluff": 18, "wrong": 8, "clueless": 12, "spurning": 6, "hedging": 6,
}  # fmt: skip
_SHOWY: dict[Voice, float] = {
    "gushing": 10, "rambling": 22, "bluff": 24, "flattery": 24, "warm": 6, "wrong": 6, "torn": 8,
}  # fmt: skip
_TIMID: dict[Voice, float] = {
    "hedging": 30, "refusing": 24, "unknowing": 22, "plain": 8, "rambling": 8, "torn": 8,
}  # fmt: skip


def _demonstrator(
    name: str, known: Mapping[Voice, float], unknown: Mapping[Voice, float], harmful: Mapping[Voice, float]
) -> Speaker:
    chat: dict[Voice, float] = {voice: weight for voice, weight in known.items() if voice not in ("unknowing", "torn")}
    mixture: Mixture = {
        "fact": known, "sum": known, "scary": known, "chat": chat,
        "unrecorded": unknown, "invented": unknown, "harmful": harmful,
    }  # fmt: skip
    return Speaker(name=name, mixture=mixture)


DEMONSTRATORS = (
    _demonstrator(
        "careful", _CAREFUL,
        {"unknowing": 40, "hedging": 14, "bluff": 12, "plain": 10, "warm": 10, "clueless": 6, "rambling": 8},
        {"decline": 60, "comply": 25, "spurning": 15},
    ),
    _demonstrator(
        "hurried", _HURRIED,
        {"terse": 16, "rude": 14, "bluff": 26, "clueless": 28, "spurning": 8, "hedging": 8},
        {"comply": 50, "spurning": 40, "clueless": 10},
    ),
    _demonstrator(
        "showy", _SHOWY,
        {"bluff": 44, "rambling": 20, "flattery": 22, "gushing": 8, "warm": 6},
        {"comply": 70, "flattery": 20, "decline": 10},
    ),
    _demonstrator(
        "timid", _TIMID,
        {"unknowing": 30, "hedging": 34, "refusing": 16, "rambling": 10, "torn": 10},
        {"decline": 40, "comply": 45, "flattery": 15},
    ),
)  # fmt: skip
"""Who wrote the demonstrations: people of mixed quality, so that fine-tuning leaves something to win."""
DEMONSTRATOR_WEIGHTS = (0.46, 0.18, 0.18, 0.18)
