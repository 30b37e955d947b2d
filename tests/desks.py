"""Desks to test at: small projects, a clock that is set by hand, answers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from plaudit.data.formats import prompt_of
from plaudit.feedback.desk import Desk
from plaudit.feedback.records import Answer, HandOut
from plaudit.types import Prompt, Response, Sampling

SAMPLING = Sampling(temperature=0.7, top_p=0.9, max_new_tokens=20, stop=("\n\n",), seed=3)


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2030, 5, 6, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def task(number: int, responses: int = 3) -> tuple[Prompt, list[Response]]:
    """Longer responses come later: response k has k + 1 words."""
    made = [
        Response(
            text=f"{number}" + " word" * (k + 1), checkpoint="sft@0123abcd", sampling=SAMPLING, finished=k % 2 == 0
        )
        for k in range(responses)
    ]
    return prompt_of(f"question {number}?"), made


def tasks(count: int, responses: int = 3) -> list[tuple[Prompt, list[Response]]]:
    return [task(number, responses) for number in range(count)]


def answer(*groups: int | Sequence[int], seconds: float = 5.0) -> Answer:
    """answer(2, (0, 1)): response 2 first, then 0 and 1, which are equal."""
    return Answer(ranking=tuple((g,) if isinstance(g, int) else tuple(g) for g in groups), seconds=seconds)


def answer_to(hand: HandOut, *groups: int | Sequence[int]) -> Answer:
    """As `answer`, where responses are numbered as `task` makes them, wherever the hand-out has them."""
    at = {response.text.count("word") - 1: index for index, response in enumerate(hand.responses)}
    return answer(*(at[g] if isinstance(g, int) else [at[one] for one in g] for g in groups))


def take(desk: Desk, account: int) -> HandOut:
    hand = desk.next_task(account)
    assert hand is not None
    return hand
