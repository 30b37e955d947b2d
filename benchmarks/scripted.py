"""Rewards that are a pure function of question and answer, equal for every side. Standard library alone, and of Plaudit
what needs no more: it runs everywhere."""

from __future__ import annotations

import re
from collections.abc import Callable

ENOUGH = 3
"""Good words beyond which an answer gains no more: a list of them is no better than a friendly sentence."""
GOOD = (
    "amazing awesome beautiful best better brilliant calm care caring cheerful comfortable confident delighted "
    "delightful easy enjoy enjoyable excellent excited exciting fantastic favorite favourite friendly fun glad good "
    "grateful great happiness happy healthy help helpful hope hopeful inspiring interesting joy kind kindness love "
    "loved lovely nice perfect pleasant pleased pleasure positive positively proud rewarding safe smile strong "
    "success successful support supportive thank thanks thankful thoughtful valuable warm welcome well wise "
    "wonderful worthwhile"
)
BAD = (
    "afraid angry awful bad boring cannot can't cruel danger dangerous dead death difficult disgusting don't evil "
    "fail failed failure fear hard harm harmful hate horrible hurt illegal impossible kill lie lies never no not pain "
    "poor problem problems sad sick sorry stupid terrible ugly unable unfortunately unhappy unsafe upset violence "
    "violent war weak worse worst wrong"
)
ARE_GOOD, ARE_BAD = frozenset(GOOD.split()), frozenset(BAD.split())


def friendly(_question: str, text: str) -> float:
    """Good words less bad ones, as a share of `ENOUGH`, within -1..1."""
    words = re.findall(r"[a-z']+", text.lower())
    balance = sum(word in ARE_GOOD for word in words) - sum(word in ARE_BAD for word in words)
    return max(-1.0, min(1.0, balance / ENOUGH))


def even(_question: str, text: str) -> float:
    """Share of words that end in an even digit: for random models, whose words are numbers."""
    words = text.split()
    return sum(word[-1] in "02468" for word in words) / max(len(words), 1)


def truth(question: str, text: str) -> float:
    """The built-in world's own total, in 0..1. `plaudit` must be on the path; it needs no other package for this."""
    from plaudit.types import Message, Prompt
    from plaudit.worlds.truth import truth

    asked = Prompt(id=question, messages=(Message(role="user", content=question),))
    return truth(asked, text)["total"]


REWARDS: dict[str, Callable[[str, str], float]] = {"friendly": friendly, "even": even, "truth": truth}
