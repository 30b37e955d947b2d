"""Figures out of loosely filled JSON, and how figures and hostile text are written for people."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_JOINERS = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"
"""Format characters that emoji and several scripts need; all others can reorder or hide text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A number, with its 95 % interval where one is known."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def has_width(self) -> bool:
        """An interval that is a point is that of one prompt, which says nothing about others."""
        return self.low is not None and self.high is not None and self.low < self.high

    @property
    def is_up(self) -> bool:
        return self.has_width and self.low is not None and self.low > 0

    @property
    def is_down(self) -> bool:
        return self.has_width and self.high is not None and self.high < 0


def look_up(data: object, *keys: str) -> object:
    """What lies under the keys, one after the other; None where the way ends."""
    for key in keys:
        if not isinstance(data, Mapping):
            return None
        data = cast("Mapping[str, object]", data).get(key)
    return data


def mapping(data: object, *keys: str) -> Mapping[str, object]:
    """The object under the keys, or an empty one."""
    found = look_up(data, *keys)
    return cast("Mapping[str, object]", found) if isinstance(found, Mapping) else {}


def objects(data: object, *keys: str) -> list[Mapping[str, object]]:
    """The objects of the list under the keys; what is no object is passed over."""
    found = look_up(data, *keys)
    items = cast("list[object]", found) if isinstance(found, list) else []
    return [cast("Mapping[str, object]", item) for item in items if isinstance(item, Mapping)]


def number(data: object, *keys: str) -> float | None:
    """The finite number under the keys, if there is one."""
    found = look_up(data, *keys)
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        return None
    return float(found)


def figure(data: object, *keys: str) -> Figure | None:
    """A plain number or {"value", "low", "high"} under the keys."""
    found = look_up(data, *keys)
    value = number(found)
    if value is None:
        value = number(found, "value")
    if value is None:
        return None
    low, high = number(found, "low"), number(found, "high")
    return Figure(value=value, low=low, high=high) if low is not None and high is not None else Figure(value=value)


def gain(before: Figure | None, after: Figure | None, paired: Figure | None = None) -> Figure | None:
    """after - before: the paired figure where one was measured, else the widest that both intervals allow."""
    if paired is not None or before is None or after is None:
        return paired
    value = after.value - before.value
    if before.low is None or before.high is None or after.low is None or after.high is None:
        return Figure(value=value)
    return Figure(value=value, low=after.low - before.high, high=after.high - before.low)


def plain(value: float | None, digits: int = 2) -> str:
    """1234.5 -> "1 234.50", with a true minus sign; None -> an en dash."""
    if value is None:
        return "–"
    return f"{value:,.{digits}f}".replace(",", "\N{NARROW NO-BREAK SPACE}").replace("-", "\N{MINUS SIGN}")


def signed(value: float, digits: int = 3) -> str:
    """With a plus sign where it is above 0."""
    text = plain(value, digits)
    return f"+{text}" if value > 0 else text


def percent(value: float | None, digits: int = 0) -> str:
    """0.731 -> "73 %"."""
    return "–" if value is None else f"{plain(100 * value, digits)}\N{NO-BREAK SPACE}%"


def interval(figure: Figure | None, *, digits: int = 2, as_percent: bool = False, with_sign: bool = False) -> str:
    """ "0.45 to 0.51", or nothing where no interval is known."""
    if figure is None or figure.low is None or figure.high is None:
        return ""
    if as_percent:
        return f"{plain(100 * figure.low, 0)} to {percent(figure.high)}"
    write = signed if with_sign else plain
    return f"{write(figure.low, digits)} to {write(figure.high, digits)}"


def duration(seconds: float | None) -> str:
    """161 -> "2 min 41 s"."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{plain(seconds, 1)} s"
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def shown(text: object) -> str:
    """Model text as it may stand on a page: control, format and half characters become a visible mark.

    It is still to be escaped for HTML. Newlines and tabs stay.
    """
    plain_text = str(text).replace("\r\n", "\n")
    return "".join(REPLACEMENT if _is_hidden(character) else character for character in plain_text)


def _is_hidden(character: str) -> bool:
    if character in "\n\t" or character in _JOINERS:
        return False
    return unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
