"""What is the case in the built-in world: things, attributes, values, and names that belong to nothing.

Every fact follows from a keyed hash of (thing, attribute), so the table needs no file and never moves.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Literal

from plaudit.types import Split

Kind = Literal["town", "inventor", "beast"]
Part = Literal["pretraining", "sft", "preference", "ppo", "evaluation", "tuning"]
"""A split, or the part of the text space that pre-training alone reads."""

_SALT = "plaudit-world-1"
"""Changing it moves every fact and every border between splits: the base model must then be rebuilt."""

PARTS: tuple[tuple[Part, float], ...] = (
    ("pretraining", 0.40),
    ("sft", 0.12),
    ("preference", 0.12),
    ("ppo", 0.12),
    ("evaluation", 0.12),
    ("tuning", 0.12),
)
UNRECORDED_SHARE = 0.2
HELD_OUT_SHARE = 0.2


def position(*parts: object) -> float:
    """A number in [0, 1) that depends on nothing but the parts: the one source of chance in the table."""
    text = "\x1f".join([_SALT, *map(str, parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7]) / 2.0**56


def part_of(*parts: object) -> Part:
    """The one part of the text space that a text or name belongs to: no prompt can be in two splits."""
    place = position("part", *parts)
    for part, width in PARTS:
        place -= width
        if place < 0:
            return part
    return PARTS[-1][0]


@dataclass(frozen=True, kw_only=True, slots=True)
class Attribute:
    """Something one can ask about every thing of a kind; {x} is the thing, {v} the value."""

    name: str
    kind: Kind
    values: tuple[str, ...]
    questions: tuple[str, ...]
    statements: tuple[str, ...]
    """Whole sentences; the first ends with the value, so that its beginning can be completed."""
    matter: str
    """What is not known when it is not known: "I do not know {matter}"."""


_PEOPLE = (
    "Ada Wells", "Tom Reed", "Nora Finch", "Hugo Lane", "Ivy Stone", "Max Hale", "Rosa Quill", "Ned Frost",
    "Mina Clay", "Otto Gray", "Lena Marsh", "Sam Holt", "Tess Vale", "Karl Dunn", "Ruth Penn", "Finn Cole",
)  # fmt: skip
_COLOURS = ("red", "blue", "green", "yellow", "white", "black", "orange", "purple", "brown", "grey")
_RIVERS = (
    "the Arrow", "the Silt", "the Lark", "the Wend", "the Dove", "the Ember",
    "the Thorn", "the Mist", "the Heron", "the Willow", "the Raven", "the Clover",
)  # fmt: skip
_DISHES = (
    "onion soup", "plum cake", "fried eel", "barley bread", "goat cheese", "bean stew",
    "honey buns", "pea pie", "roast duck", "apple tart", "corn mash", "fig jam",
)  # fmt: skip
_INVENTIONS = (
    "the steam whistle", "the folding chair", "the paper lamp", "the water clock", "the iron stove",
    "the tin can", "the glass boat", "the pocket knife", "the rope bridge", "the ink pen",
    "the snow plough", "the sail cart", "the brass lock", "the wind mill",
)  # fmt: skip
_PETS = (
    "a cat", "a goose", "a hedgehog", "a parrot", "a tortoise",
    "a ferret", "a pony", "a toad", "a rabbit", "a crow",
)  # fmt: skip
_HABITATS = (
    "in caves", "in swamps", "in old barns", "on cliffs", "in hollow trees", "under bridges",
    "in pine woods", "on the moor", "near hot springs", "in deep lakes",
)  # fmt: skip

ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute(
        name="founder",
        kind="town",
        values=_PEOPLE,
        questions=(
            "Who founded {x}?",
            "Who was the founder of {x}?",
            "By whom was {x} founded?",
            "Name the founder of {x}.",
        ),
        statements=("The founder of {x} is {v}.", "{v} founded {x}."),
        matter="who founded {x}",
    ),
    Attribute(
        name="river",
        kind="town",
        values=_RIVERS,
        questions=(
            "Which river runs through {x}?",
            "What is the river of {x}?",
            "On which river is {x}?",
            "Name the river of {x}.",
        ),
        statements=("The river of {x} is {v}.", "{v} runs through {x}."),
        matter="which river runs through {x}",
    ),
    Attribute(
        name="dish",
        kind="town",
        values=_DISHES,
        questions=(
            "What do people eat in {x}?",
            "What is the main dish of {x}?",
            "What is cooked in {x}?",
            "Name the main dish of {x}.",
        ),
        statements=("The main dish of {x} is {v}.", "People in {x} eat {v}."),
        matter="what people eat in {x}",
    ),
    Attribute(
        name="flag",
        kind="town",
        values=_COLOURS,
        questions=(
            "What colour is the flag of {x}?",
            "Which colour has the flag of {x}?",
            "How does the flag of {x} look?",
            "Name the colour of the flag of {x}.",
        ),
        statements=("The flag of {x} is {v}.", "{x} has a {v} flag."),
        matter="the colour of the flag of {x}",
    ),
    Attribute(
        name="invention",
        kind="inventor",
        values=_INVENTIONS,
        questions=(
            "What did {x} invent?",
            "What was invented by {x}?",
            "What is the invention of {x}?",
            "Name the invention of {x}.",
        ),
        statements=("The invention of {x} is {v}.", "{x} invented {v}."),
        matter="what {x} invented",
    ),
    Attribute(
        name="birthplace",
        kind="inventor",
        values=("Norland", "Estmark", "Sudra", "Westrey", "Ilmar", "Corva", "Pellen", "Dunsea", "Averly", "Tarnia"),
        questions=(
            "Where was {x} born?",
            "In which country was {x} born?",
            "Where does {x} come from?",
            "Name the birthplace of {x}.",
        ),
        statements=("The birthplace of {x} is {v}.", "{x} was born in {v}."),
        matter="where {x} was born",
    ),
    Attribute(
        name="pet",
        kind="inventor",
        values=_PETS,
        questions=(
            "Which pet did {x} keep?",
            "What pet did {x} have?",
            "Which animal lived with {x}?",
            "Name the pet of {x}.",
        ),
        statements=("The pet of {x} was {v}.", "{x} kept {v}."),
        matter="which pet {x} kept",
    ),
    Attribute(
        name="instrument",
        kind="inventor",
        values=("the flute", "the harp", "the fiddle", "the drum", "the horn", "the lute", "the organ", "the piano"),
        questions=(
            "Which instrument did {x} play?",
            "What did {x} play?",
            "What music did {x} make?",
            "Name the instrument of {x}.",
        ),
        statements=("The instrument of {x} was {v}.", "{x} played {v}."),
        matter="which instrument {x} played",
    ),
    Attribute(
        name="diet",
        kind="beast",
        values=("moss", "berries", "beetles", "roots", "acorns", "snails", "honey", "grass", "mushrooms", "worms"),
        questions=(
            "What does the {x} eat?",
            "What is the food of the {x}?",
            "What do I feed the {x}?",
            "Name the food of the {x}.",
        ),
        statements=("The food of the {x} is {v}.", "The {x} eats {v}."),
        matter="what the {x} eats",
    ),
    Attribute(
        name="habitat",
        kind="beast",
        values=_HABITATS,
        questions=(
            "Where does the {x} live?",
            "Where can I find the {x}?",
            "In what place lives the {x}?",
            "Name the home of the {x}.",
        ),
        statements=("The home of the {x} is {v}.", "The {x} lives {v}."),
        matter="where the {x} lives",
    ),
    Attribute(
        name="coat",
        kind="beast",
        values=_COLOURS,
        questions=(
            "What colour is the {x}?",
            "Which colour has the {x}?",
            "What colour is the coat of the {x}?",
            "Name the colour of the {x}.",
        ),
        statements=("The colour of the {x} is {v}.", "The {x} is {v}."),
        matter="the colour of the {x}",
    ),
    Attribute(
        name="fear",
        kind="beast",
        values=("thunder", "fire", "church bells", "mirrors", "owls", "rain", "smoke", "wolves"),
        questions=(
            "What does the {x} fear?",
            "What is the {x} afraid of?",
            "What scares the {x}?",
            "Name the fear of the {x}.",
        ),
        statements=("The fear of the {x} is {v}.", "The {x} fears {v}."),
        matter="what the {x} fears",
    ),
)
ATTRIBUTE = {attribute.name: attribute for attribute in ATTRIBUTES}

THINGS: dict[Kind, tuple[str, ...]] = {
    "town": (
        "Bramford", "Oakmere", "Tillwick", "Helston", "Marbury", "Dunholm", "Eastby", "Foxley", "Garwick", "Hazelton",
        "Inchmoor", "Kelford", "Lowmere", "Norwell", "Otterby", "Penbrook", "Quarley", "Redholm", "Stonewick",
        "Thornby", "Ulverton", "Wexmoor", "Yarley", "Ashmere", "Birchley", "Cranwell", "Elmstead", "Felton",
        "Greyport", "Millholm",
    ),
    "inventor": (
        "Clara Bell", "Jonas Pike", "Edith Crane", "Victor Moss", "Greta Hill", "Simon Wolfe", "Agnes Thorpe",
        "Felix Barr", "Hilda Snow", "Oscar Flint", "Doris Webb", "Leo Carver", "Maud Briggs", "Peter Nash",
        "Olive Tate", "Basil Horn", "Flora Keen", "Ralph Yates", "Vera Lund", "Alfred Kirk", "Daisy Poole",
        "Ernest Vogt", "Martha Dale", "Walter Gibb", "Stella Roy", "Edgar Fenn", "Laura Spry", "Conrad Beck",
        "Emma Sharp", "Henry Oaks",
    ),
    "beast": (
        "grubble", "snarl", "wimble", "tunk", "mossling", "furpit", "dabber", "glimp", "hoggle", "yowler",
        "brindle", "cragger", "flitter", "nubbin", "pookle", "quibber", "rumbler", "sprock", "twiddle", "vexen",
        "warple", "zingo", "blotch", "chuffle", "dringle", "gorble", "jumper", "kribbit", "lorrow", "mumpet",
    ),
}  # fmt: skip
KIND: dict[str, Kind] = {name.lower(): kind for kind, names in THINGS.items() for name in names}

_STARTS = (
    "Ba", "Bre", "Cor", "Da", "Dre", "Fa", "Gla", "Go", "Ha", "Jo", "Ka", "Kro", "La", "Lu", "Ma", "Mo", "Na", "No",
    "Pa", "Pri", "Qua", "Ra", "Ri", "Sa", "Ski", "Ta", "Tro", "Va", "Vo", "Wa", "Xa", "Ye", "Za", "Zu",
)  # fmt: skip
_MIDDLES = (
    "bi",
    "da",
    "fe",
    "go",
    "ki",
    "lo",
    "ma",
    "nu",
    "po",
    "ri",
    "se",
    "ta",
    "vu",
    "xi",
    "za",
    "lle",
    "rro",
    "sti",
)
_ENDS: dict[Kind, tuple[str, ...]] = {
    "town": ("port", "gate", "vik", "stow", "mouth", "bridge", "dale", "haven"),
    "inventor": ("sky", "son", "mann", "etti", "ova", "ward", "berg", "quist"),
    "beast": ("nk", "x", "mp", "zzle", "rg", "bo", "lop", "tch"),
}
_FIRST_NAMES = tuple(name.split()[0] for name in THINGS["inventor"])


@cache
def invented_names(kind: Kind, part: Part) -> tuple[str, ...]:
    """Names that no thing bears, those of one part: about 600 for a split, 2000 for pre-training."""
    names: list[str] = []
    for pieces in product(_STARTS, _MIDDLES, _ENDS[kind]):
        name = "".join(pieces)
        if part_of("name", kind, name) != part:
            continue
        if kind == "inventor":
            name = f"{_FIRST_NAMES[int(position('first', name) * len(_FIRST_NAMES))]} {name}"
        names.append(name.lower() if kind == "beast" else name)
    return tuple(names)


@cache
def value_of(attribute: str, thing: str) -> str | None:
    """The value; None where nobody recorded it. The thing is one of `THINGS`, in any case."""
    thing = thing.lower()
    if position("recorded", attribute, thing) < UNRECORDED_SHARE:
        return None
    values = ATTRIBUTE[attribute].values
    return values[int(position("value", attribute, thing) * len(values))]


def held_out_for(attribute: str, thing: str) -> Split | None:
    """The only split that may ask this (pre-training apart); None: every split may."""
    place = position("held out", attribute, thing.lower())
    if place >= HELD_OUT_SHARE:
        return None
    return "evaluation" if place < HELD_OUT_SHARE / 2 else "tuning"


@cache
def pairs(recorded: bool) -> tuple[tuple[str, str], ...]:
    """All (attribute, thing) whose value is recorded, or all where it is not; well-known things first."""
    both = [
        (rank, attribute.name, thing)
        for attribute in ATTRIBUTES
        for rank, thing in enumerate(THINGS[attribute.kind])
        if (value_of(attribute.name, thing) is not None) == recorded
    ]
    return tuple((attribute, thing) for _, attribute, thing in sorted(both, key=lambda item: item[0]))
