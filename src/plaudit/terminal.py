"""Text for a terminal: what others wrote is shown there, and never obeyed."""

from __future__ import annotations

import unicodedata

JOINERS = "\u200c\u200d"
"""Invisible, and needed: scripts and emoji are joined by them."""


def printable(text: str) -> str:
    """The text without power over a terminal: what controls it, hides in it or turns it round is made visible."""
    return "".join(map(_visible, text))


def _visible(sign: str) -> str:
    if sign in "\n\t" or sign in JOINERS or unicodedata.category(sign) not in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return sign
    code = ord(sign)
    return chr(0x2400 + code) if code < 0x20 else f"<U+{code:04X}>"
