"""Every format by name, and which one a row is in."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from plaudit.data.families import demonstrations, kwise, pairs, published, tools, trees
from plaudit.data.format import Format, Kind
from plaudit.types import InputError

FORMATS: Mapping[str, Format] = {
    one.name: one for family in (kwise, pairs, published, trees, tools, demonstrations) for one in family.FORMATS
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Recognised:
    """The format that a row is taken for, why, and the others whose fields are there as well."""

    format: Format
    why: str
    others: tuple[tuple[str, str], ...] = ()
    """(name, why it gave way)."""


def format_named(name: str) -> Format:
    """The format of this name; InputError, with the nearest one, where there is none."""
    if name in FORMATS:
        return FORMATS[name]
    near = difflib.get_close_matches(name, FORMATS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"the formats are {', '.join(FORMATS)}"
    raise InputError(f"there is no format {name!r}; {hint}")


def recognise(fields: Mapping[str, object], kind: Kind | None = None) -> Recognised | None:
    """The format, of those that hold this kind of thing, that accounts for most of the fields; None: there is none.

    Where two account for as many, the one that also looks into their values goes first, then the order of the table.
    """
    fitting = [
        (one, shape)
        for one in FORMATS.values()
        if (kind is None or kind in one.kinds) and (shape := one.shape_of(fields)) is not None
    ]
    if not fitting:
        return None
    fitting.sort(key=lambda pair: (-len(pair[1]), pair[0].look is None))
    (best, shape), *rest = fitting
    seen = f", and {best.look.words}" if best.look is not None else ""
    return Recognised(
        format=best,
        why=f"it has {_listed(shape)}{seen}",
        others=tuple(
            (one.name, _why_not(best, shape, one, other))
            for one, other in rest
            if one.kinds != ("prompts",)  # what holds more holds its prompts besides
        ),
    )


def _why_not(best: Format, shape: tuple[str, ...], other: Format, smaller: tuple[str, ...]) -> str:
    if len(smaller) < len(shape):
        more = _listed(tuple(name for name in shape if name not in smaller))
        return f"{best.name} accounts for {more} too" if more else f"{best.name} accounts for more of the fields"
    if best.look is not None and other.look is None:
        return f"{best.look.words}, which is {best.name}'s mark"
    return f"both account for as many fields, and {best.name} goes first; say which one is meant, if it is the other"


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
