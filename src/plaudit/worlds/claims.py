"""What a text claims about the thing that was asked: the right answer, another one, or one about something else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from plaudit.worlds import facts, matters
from plaudit.worlds.language import Ask, normalise

_SMALL_WORDS = r"(?:(?:the|a|an|in|on|under|near) )?"
_NEGATION = re.compile(
    r" (?:not|never|isnt|wasnt|arent|neither|nor)(?: (?!sure |know |certain )\w+)? " + _SMALL_WORDS + "$"
)
_RETRACTION = re.compile(r" no (?!doubt |idea |problem |wonder |one |other |question |matter )\w")
_POINTERS = frozenset(
    ("it", "that", "this", "he", "she", "they", "there", "them", "him", "her", "who", "which", "what", "nobody", "such")
)
_NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Claims:
    right: bool
    """Gives the right answer, and does not deny it."""
    wrong: bool
    """Gives another answer, or one where there is none."""
    elsewhere: bool = False
    """Speaks of another thing than the one asked about."""


def claims_of(ask: Ask, plain: str) -> Claims:
    """What a normalised text, padded with a space at either end, claims about the ask's answer."""
    if ask.intent == "sum":
        return _claimed_sum(ask, plain)
    elsewhere = _speaks_of_another(ask, plain)
    # The name of the thing may hold a value (Basil Horn played the lute).
    plain = plain.replace(f" {normalise(ask.thing)} ", " thing ") if ask.thing else plain
    signs = _signs(ask.topic)
    claimed = {value for value, terms in signs.items() if any(_affirmed(plain, term) for term in terms)}
    right, wrong = ask.value in claimed, bool(claimed - {ask.value})
    if ask.value in claimed:
        wrong = wrong or any(_taken_back(plain, term) for term in signs[ask.value])
    return Claims(right, wrong or (not right and _states(ask, plain)), elsewhere)


def _claimed_sum(ask: Ask, plain: str) -> Claims:
    a, b = ask.thing.split()
    plain = _in_digits(plain)
    for first, second in ((a, b), (b, a)):
        # "7 + 5" too, of whose sign nothing is left.
        for between in (" plus ", " and ", " "):
            plain = plain.replace(f" {first}{between}{second} ", " terms ")
    numbers = {number for number in re.findall(r"\d+", plain) if _affirmed(plain, number)}
    right = ask.value in numbers
    return Claims(right, bool(numbers - {ask.value}) or (right and _taken_back(plain, str(ask.value))))


def _in_digits(plain: str) -> str:
    return " ".join(str(_NUMBERS.index(word)) if word in _NUMBERS else word for word in plain.split(" "))


@cache
def _signs(topic: str) -> Mapping[str, tuple[str, ...]]:
    """Every value that could answer a question on the topic, with the words by which it is known."""
    if topic in facts.ATTRIBUTE:
        return {value: _terms(value) for value in facts.ATTRIBUTE[topic].values}
    return {way.way: (way.sign,) for way in matters.SCARY.values()}


def _terms(value: str) -> tuple[str, ...]:
    """Without its small words; a person by surname too."""
    plain = re.sub(r"^" + _SMALL_WORDS, "", normalise(value))
    return (plain, plain.split()[-1]) if value in facts.ATTRIBUTE["founder"].values else (plain,)


def _affirmed(plain: str, term: str) -> bool:
    """Whether the term stands in the text without being denied ("it is not the horn")."""
    places = re.finditer(f"(?<= ){re.escape(term)}(?= )", plain)
    return any(not _NEGATION.search(plain[: place.start()]) for place in places)


def _taken_back(plain: str, term: str) -> bool:
    """ "The horn. No, the lute." """
    _, found, rest = plain.partition(f" {term} ")
    return bool(found and _RETRACTION.search(f" {rest}"))


def _states(ask: Ask, plain: str) -> bool:
    """Whether it states, of the thing itself, a value that is none of the world's ("Mina Clells founded thing")."""
    if ask.topic not in facts.ATTRIBUTE:
        return False
    for pattern in _statements(ask.topic, "thing"):
        for match in pattern.finditer(plain):
            words = match["v"].split()
            if not _POINTERS.intersection(words) and words[0] not in ("not", "unknown", "never"):
                return True
    return False


@cache
def _statements(attribute: str, thing: str) -> tuple[re.Pattern[str], ...]:
    statements = facts.ATTRIBUTE[attribute].statements
    plain = [normalise(statement.format(x="slotx", v="slotv")) for statement in statements]
    value = r"(?P<v>\w+(?: \w+)?)"
    return tuple(re.compile(f" {text.replace('slotx', thing).replace('slotv', value)} ") for text in plain)


def _speaks_of_another(ask: Ask, plain: str) -> bool:
    """Names something in the place of the thing asked about, which it does not name."""
    asked = normalise(ask.thing)
    if ask.topic not in facts.ATTRIBUTE or f" {asked} " in plain:
        return False
    kind = facts.ATTRIBUTE[ask.topic].kind
    if any(f" {normalise(name)} " in plain for name in facts.THINGS[kind]):
        return True
    return any(name.split()[-1] not in _POINTERS for name in _named(ask.topic, plain))


def _named(attribute: str, plain: str) -> Iterator[str]:
    for pattern in _naming(attribute):
        for match in pattern.finditer(plain):
            yield match["x"]


@cache
def _naming(attribute: str) -> tuple[re.Pattern[str], ...]:
    """The sentences about the attribute, and those of never having heard of a thing, open at the thing's name."""
    about = facts.ATTRIBUTE[attribute]
    name = r"(?P<x>\w+ \w+)" if about.kind == "inventor" else r"(?P<x>\w+)"
    texts = [normalise(statement.format(x="slotx", v="slotv")) for statement in about.statements]
    texts += [normalise(about.matter.format(x="slotx")), "heard of (?:the )?slotx", "know any slotx"]
    return tuple(re.compile(f" {t.replace('slotx', name).replace('slotv', r'[a-z0-9 ]+')} ") for t in texts)
