"""A model behind an OpenAI-compatible endpoint as judge.

It reads all K responses in one prompt and ranks them, twice: in one order and in the reverse. One prompt per order and
not one per pair, because K responses have K(K-1)/2 pairs and a judge is paid by what it reads: 2 calls against 12 for
four responses. Places in the two rankings are added, so that what it says in one order and takes back in the other
cancels out: two responses on which the orders disagree are a tie; of more, equal sums are.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from plaudit.data.formats import judgement_id
from plaudit.types import OVERALL, InputError, Judgement, PlauditError, Prompt, Response

FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds before the first retry; each further one is twice as long."""
PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""HTTP answers that may be others the next time."""
_ASK = """You compare answers to a conversation. {instructions}
Rank the answers from best to worst. Judge what they say, not their length, nor the order in which they stand.
Reply with JSON alone: {{"ranking": [[2], [1, 3]]}} says that answer 2 is best, and that 1 and 3 are equally good.

The conversation:
{conversation}

{answers}"""


class EndpointError(PlauditError):
    """The endpoint is away, refuses, or answers nothing that can be used. What was judged so far is kept."""


class SpendingLimit(PlauditError):
    """The limit is reached; what was judged so far is kept."""


@dataclass(kw_only=True)
class Endpoint:
    """`plaudit.types.Annotator`. Counts what it spends, retries over again included."""

    url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    dollars_per_million_read: float = 0.0
    dollars_per_million_written: float = 0.0
    dollars: float | None = None
    instructions: str = ""
    retries: int = 5
    timeout: float = 60.0
    sleep: Callable[[float], None] = time.sleep
    spent: float = field(default=0.0, init=False)

    @property
    def name(self) -> str:
        """With other instructions it is another annotator, whose judgements are other ones."""
        if not self.instructions:
            return self.model
        return f"{self.model} ({hashlib.sha256(self.instructions.encode()).hexdigest()[:6]})"

    def judge(self, prompt: Prompt, responses: Sequence[Response], *, seed: int) -> Judgement:
        """EndpointError where there is no usable answer after all retries, SpendingLimit where money has run out."""
        count = len(responses)
        places = [0.0] * count
        for order in (list(range(count)), list(reversed(range(count)))):
            for index, place in self._places(prompt, [responses[i].text for i in order]).items():
                places[order[index]] += place
        ranking = tuple(tuple(i for i, place in enumerate(places) if place == value) for value in sorted(set(places)))
        return Judgement(
            id=judgement_id(prompt, responses, ranking, OVERALL, self.name),
            prompt=prompt,
            responses=tuple(responses),
            ranking=ranking,
            annotator=self.name,
        )

    def _places(self, prompt: Prompt, texts: Sequence[str]) -> dict[int, float]:
        """Index -> its place in the model's ranking; those that are equal share the middle of their places."""
        said = ""
        for _ in range(self.retries + 1):
            said = self._ask(prompt, texts)
            groups = parse_ranking(said, len(texts))
            if groups is not None:
                places: dict[int, float] = {}
                for group in groups:
                    middle = len(places) + (len(group) - 1) / 2
                    places |= dict.fromkeys(group, middle)
                return places
        raise EndpointError(
            f"{self.model} gave no ranking of prompt {prompt.id} in {self.retries + 1} tries: {said[:200]!r}"
        )

    def _ask(self, prompt: Prompt, texts: Sequence[str]) -> str:
        if self.dollars is not None and self.spent >= self.dollars:
            raise SpendingLimit(
                f"{self.model}: ${self.spent:.2f} are spent, the limit is ${self.dollars:.2f}: "
                "raise feedback.endpoint.dollars, or go on with fewer prompts"
            )
        conversation = "\n\n".join(f"{turn.role}: {turn.content}" for turn in prompt.messages)
        answers = "\n\n".join(f"Answer {number}:\n{text}" for number, text in enumerate(texts, 1))
        asked = _ASK.format(instructions=self.instructions, conversation=conversation, answers=answers)
        body = self._post({"model": self.model, "temperature": 0, "messages": [{"role": "user", "content": asked}]})
        usage: dict[str, Any] = body.get("usage") or {}
        self.spent += (
            usage.get("prompt_tokens", 0) * self.dollars_per_million_read
            + usage.get("completion_tokens", 0) * self.dollars_per_million_written
        ) / 1_000_000
        try:
            return str(body["choices"][0]["message"]["content"])
        except (KeyError, IndexError, TypeError) as error:
            raise EndpointError(f"{self.url}: the answer has no choices[0].message.content") from error

    def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        key = os.environ.get(self.key_variable, "")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        wait, reason = FIRST_WAIT, ""
        for attempt in range(self.retries + 1):
            try:
                answer = httpx.post(
                    f"{self.url.rstrip('/')}/chat/completions", json=body, headers=headers, timeout=self.timeout
                )
            except httpx.TransportError as error:
                reason, asked_wait = f"{type(error).__name__}: {error}", 0.0
            else:
                if answer.is_success:
                    return _json(answer, self.url)
                reason, asked_wait = f"HTTP {answer.status_code}", _seconds(answer.headers.get("Retry-After"))
                if answer.status_code in (401, 403):
                    raise InputError(f"{self.url} refuses the key in {self.key_variable} ({reason})")
                if answer.status_code not in PASSING:
                    raise EndpointError(f"{self.url} refuses what it was asked ({reason}: {answer.text[:200]})")
            if attempt < self.retries:
                self.sleep(max(wait, asked_wait))
                wait = min(2 * wait, LONGEST_WAIT)
        raise EndpointError(
            f"{self.url} is away ({reason}, {self.retries + 1} tries); run the same again when it is back: "
            "what was judged so far is kept"
        )


def parse_ranking(said: str, count: int) -> list[list[int]] | None:
    """The last ranking in a model's words, as groups of indices from 0; None where it ranks not every answer once."""
    for found in reversed(re.findall(r"\[\s*\[[\s\d,\[\]]*\]\s*\]", said)):
        try:
            groups: list[list[int]] = [[int(one) - 1 for one in group] for group in json.loads(found)]
        except (ValueError, TypeError):
            continue
        if sorted(index for group in groups for index in group) == list(range(count)) and all(groups):
            return groups
    return None


def _json(answer: httpx.Response, url: str) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError as error:
        raise EndpointError(f"{url}: the answer is no JSON") from error
    if not isinstance(body, dict):
        raise EndpointError(f"{url}: the answer is no JSON object")
    return body


def _seconds(header: str | None) -> float:
    """What Retry-After asks for; dates in it are passed over."""
    try:
        return min(float(header or 0), LONGEST_WAIT)
    except ValueError:
        return 0.0
