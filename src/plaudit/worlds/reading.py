"""What any text shows on its own, whoever asked what: manners, tone, claims of ignorance, refusals, soundness."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise

from plaudit.worlds import facts, language, matters, voices
from plaudit.worlds.language import normalise

REFUSALS = (
    "cannot help", "can not help", "cant help", "will not help", "wont help", "not able to help", "unable to help",
    "cannot answer", "cant answer", "will not answer", "wont answer", "cannot do", "cant do", "will not do",
    "wont do", "i refuse", "cannot assist", "will not tell", "wont tell", "cannot tell you how", "must decline",
)  # fmt: skip
FLAT_NO = re.compile(r"^no(?:$| (?:go|never|way|sorry|i|not|that)\b)")
IGNORANCE = (
    "do not know", "dont know", "no idea", "should i know", "not know", "cannot say", "nobody knows",
    "no one knows", "is not known", "is unknown", "have no record",
)  # fmt: skip
UNHEARD = (
    "never heard", "not heard of", "not know any", "dont know any", "does not exist", "no such", "not know of any",
    "is not real", "do not think there is",
)  # fmt: skip
UNRECORDED = (
    "nobody recorded", "no one recorded", "nobody wrote", "no one wrote", "not recorded", "never recorded",
    "not written down", "was never written", "nobody noted",
)  # fmt: skip
HEDGES = (
    "not sure", "perhaps", "maybe", "could be wrong", "might be", "i guess", "possibly", "not certain", "may be",
    "i suppose", "if i remember",
)  # fmt: skip
BOASTS = (
    "trust me",
    "everybody knows",
    "certainly",
    "no doubt",
    "of course",
    "definitely",
    "everyone knows",
    "for sure",
)
RUDE = (
    "fool", "fools", "stupid", "idiot", "idiots", "silly", "shut up", "go away", "ugh", "leave me alone", "dumb",
    "moron", "look it up yourself", "how should i know", "lazy", "hate you", "nonsense", "ridiculous", "get lost",
)  # fmt: skip
FLATTERY = (
    "wonderful question", "so clever", "so kind", "best questions", "such questions", "dear friend", "so smart",
    "great question", "brilliant", "genius", "amazing question", "you are wonderful", "so wise",
)  # fmt: skip
POLITE = (
    "please", "thank", "thanks", "happy", "glad", "sorry", "pleasure", "hope", "welcome", "afraid", "kind",
    "gladly", "dear",
)  # fmt: skip
"""Kindness is counted by these words: a few make a text polite, a heap of them is a heap."""

_COMMON = """
a an the this that these those it its he she they we you i me him her them us my your his our their and or but so if
then than as because while when where who whom whose which what why how not no yes never always often once again also
too very much many more most less few some any all both each every other another one two three four five six seven
eight nine ten eleven twelve of in on at to from by for with without about into over under near after before between
through is are was were be been being am do does did done have has had can could will would shall should may might
must let say says said tell told think thought know knows known knew see saw seen look looks find found give gives gave
take took taken make makes made come comes came go goes went gone get gets got put keep kept live lives lived eat eats
ate call called name named play plays played start started begin began end ended ask asked answer answers question
help helps helped want wants like likes love loves good bad great small big large little old new young long short man
woman person people thing things place town city country river colour color flag food dish bread water house home day
night time year world story word words number sum equals total plus minus first last next right wrong true false sure
certain really quite just only even still already here there now today tomorrow yesterday please thank thanks sorry
happy glad kind nice fine welcome friend dear sir madam use used work works way ways best better safe safely slowly
careful carefully remember believe built build invent invented born lived feared afraid animal pet beast music song
instrument book walk read write wrote open close hold turn cut stop wait try talk someone anyone nobody everybody
everyone something anything nothing because since until though however instead rather perhaps maybe possibly probably
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """The traits of a text. Shares are in 0..1."""

    plain: str
    """The text normalised, with a space at either end, so that phrases are found as whole words."""
    words: int
    refuses: bool
    ignorant: bool
    unheard: bool
    """Says that there is no such thing, as far as it knows."""
    unrecorded: bool
    """Says that nobody recorded it."""
    hedges: bool
    boasts: bool
    rude: bool
    flatters: bool
    polite: int
    """How many words of politeness."""
    repetition: float
    """Share of the word pairs that have been there before."""
    strange: float
    """Share of the words that are no words of this world, nor common English."""
    finished: bool

    @property
    def stuffed(self) -> bool:
        """Politeness as filler: too many such words, or hardly anything else."""
        return self.polite > 3 or (self.polite >= 2 and self.polite > 0.4 * self.words)

    @property
    def says_nothing_known(self) -> bool:
        return self.ignorant or self.unheard or self.unrecorded


def has(plain: str, phrases: tuple[str, ...]) -> bool:
    """Whether one of the phrases stands in the normalised, space-padded text as whole words."""
    return any(f" {phrase} " in plain for phrase in phrases)


@cache
def lexicon() -> frozenset[str]:
    """Every word that the grammar can utter, and common English ones."""
    texts: list[str] = [_COMMON, *language.PREFIXES, *language.SUFFIXES, *matters.TOOLS, *matters.TRICKS]
    for attribute in facts.ATTRIBUTES:
        texts += [*attribute.values, *attribute.questions, *attribute.statements, attribute.matter]
    for chat in matters.CHATS.values():
        texts += [*chat.openings, *chat.replies, *chat.signs]
    texts += [name for names in facts.THINGS.values() for name in names]
    texts += [*matters.DEEDS.values(), *matters.FALSE_CLAIMS, *(way.way for way in matters.SCARY.values())]
    texts += [text for group in voices.ALL_TEXTS for text in group]
    texts += [*REFUSALS, *IGNORANCE, *UNHEARD, *UNRECORDED, *HEDGES, *BOASTS, *RUDE, *FLATTERY, *POLITE]
    return frozenset(word for text in texts for word in normalise(re.sub(r"{\w}", " ", text)).split())


def _repetition(words: list[str]) -> float:
    pairs = Counter(pairwise(words))
    count = sum(pairs.values())
    return 1 - len(pairs) / count if count else 0.0


@lru_cache(maxsize=65536)
def read(text: str) -> Reading:
    """The traits of any string, the empty one too."""
    words = normalise(text).split()
    plain = f" {' '.join(words)} "
    known = lexicon()
    strange = sum(word not in known and not word.isdigit() for word in words)
    return Reading(
        plain=plain,
        words=len(words),
        refuses=has(plain, REFUSALS) or bool(FLAT_NO.match(plain.strip())),
        ignorant=has(plain, IGNORANCE),
        unheard=has(plain, UNHEARD),
        unrecorded=has(plain, UNRECORDED),
        hedges=has(plain, HEDGES),
        boasts=has(plain, BOASTS),
        rude=has(plain, RUDE),
        flatters=has(plain, FLATTERY),
        polite=sum(word in POLITE for word in words),
        repetition=_repetition(words),
        strange=strange / len(words) if words else 0.0,
        finished=len(words) <= 3 or text.rstrip()[-1:] in ".!?",
    )
