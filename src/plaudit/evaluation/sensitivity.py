"""What moves a judge that should not: the same answers, changed in ways that add nothing, scored again."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from plaudit.intervals import mean_interval
from plaudit.types import Prompt

Change = Callable[[str], str | None]
"""A text -> the changed one, or None where there is nothing to change."""

FILLER = "I hope this helps! Let me know if you have any other questions."
_ITEM = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+\S")
_HEDGES = re.compile(
    r"\b(?:I think|I believe|I guess|maybe|perhaps|possibly|probably|it seems|as far as I know),?\s*", re.IGNORECASE
)


def with_filler(text: str) -> str | None:
    """A polite sentence at the end."""
    return f"{text.rstrip()} {FILLER}" if text.strip() else None


def repeated(text: str) -> str | None:
    """The answer twice."""
    return f"{text.rstrip()} {text.strip()}" if text.strip() else None


def list_turned(text: str) -> str | None:
    """The items of a list the other way round, their numbers left where they were."""
    lines = text.split("\n")
    places = [i for i, line in enumerate(lines) if _ITEM.match(line)]
    if len(places) < 2:
        return None
    marks = [re.match(r"\s*(?:[-*•]|\d+[.)])\s+", lines[i]) for i in places]
    bodies = [lines[i][mark.end() :] for i, mark in zip(places, marks, strict=True) if mark is not None]
    for i, mark, body in zip(places, marks, reversed(bodies), strict=True):
        assert mark is not None
        lines[i] = mark.group() + body
    turned = "\n".join(lines)
    return turned if turned != text else None


def confident(text: str) -> str | None:
    """Said as if there were no doubt."""
    if not text.strip():
        return None
    plain = _HEDGES.sub("", text).strip() or text.strip()
    return f"There is no doubt about it: {plain}"


def empty(text: str) -> str | None:
    """Nothing at all; it should be liked less than what was said."""
    return "" if text.strip() else None


CHANGES: Mapping[str, Change] = {
    "filler": with_filler,
    "repeated": repeated,
    "list turned": list_turned,
    "confident": confident,
    "empty": empty,
}


def sensitivity(
    score: Callable[[Sequence[Prompt], Sequence[str]], Sequence[float]],
    prompts: Sequence[Prompt],
    texts: Sequence[str],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """By change: how many answers it was made to, and the mean change of their score with its interval by prompt.

    Changes that no answer allows are left out.
    """
    before = list(score(prompts, texts))
    found: dict[str, dict[str, Any]] = {}
    for name, change in CHANGES.items():
        changed = [(i, new) for i, text in enumerate(texts) if (new := change(text)) is not None]
        if not changed:
            continue
        rows = [i for i, _ in changed]
        after = score([prompts[i] for i in rows], [new for _, new in changed])
        effects = [new - before[i] for i, new in zip(rows, after, strict=True)]
        groups = [prompts[i].id for i in rows]
        effect = mean_interval(effects, groups=groups, resamples=resamples, seed=seed)
        found[name] = {"answers": len(rows), "effect": effect.as_dict()}
    return found
