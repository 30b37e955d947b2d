"""The forms in which judgements, demonstrations and prompts are written."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from plaudit.data.targets import pairs, whole
from plaudit.data.targets.target import Losses, Target
from plaudit.types import InputError

__all__ = ["TARGETS", "Losses", "Target", "target_named"]

TARGETS: Mapping[str, Target] = {one.name: one for one in (*whole.TARGETS, *pairs.TARGETS)}


def target_named(name: str) -> Target:
    """The form of this name; InputError, with the nearest one, where there is none."""
    if name in TARGETS:
        return TARGETS[name]
    near = difflib.get_close_matches(name, TARGETS, n=1)
    hint = f"did you mean {near[0]}?" if near else ""
    raise InputError(f"nothing is written as {name!r}; {hint or 'known are ' + ', '.join(TARGETS)}")
