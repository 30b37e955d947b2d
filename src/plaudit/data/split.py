"""Two parts of a data set that share no prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import TypeVar

from plaudit.types import Prompt

Item = TypeVar("Item")


def split_by_prompt(
    items: Iterable[Item], share: float, seed: int, prompt_of: Callable[[Item], Prompt], *, occasion: str = ""
) -> tuple[list[Item], list[Item]]:
    """(rest, held out): about `share` of the first user messages are held out, with all that begins with them.

    Each message is drawn by its own hash, so rows added or taken away move no others; the share is met on average.
    What one occasion has left is parted by chance on another: on the same it would be parted by what was held out.
    """
    rest: list[Item] = []
    held_out: list[Item] = []
    for item in items:
        (held_out if _draw(prompt_of(item), f"{seed}{occasion}") < share else rest).append(item)
    return rest, held_out


def _draw(prompt: Prompt, key: str) -> float:
    """A number in [0, 1) that the key and the first user message fix."""
    opening = next(message.content for message in prompt.messages if message.role == "user").strip()
    digest = hashlib.sha256(f"{key}\n{opening}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48  # 48 bits: exact in a float
