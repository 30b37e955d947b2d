"""How much is done at a time: once memory has run out, half of it from then on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from plaudit.types import TrainingError

Result = TypeVar("Result")


def _nothing() -> None:
    pass


def unsaid(_: str) -> None:
    """Nobody is told."""


@dataclass(kw_only=True)
class AtATime:
    """So many of something at a time, halved for good when memory runs out."""

    count: int
    what: str
    """What is counted, as a person reads it: "64 {what} at a time"."""
    least: int = 1
    """Fewer are not tried."""
    advice: str
    """What to do where the least is too much."""
    say: Callable[[str], None] = field(default=unsaid)
    """Tells the person that there will be fewer."""

    def run(self, attempt: Callable[[int], Result], *, where: str, drop: Callable[[], None] = _nothing) -> Result:
        """`attempt(count)`, which may be tried again with half of them: `drop` forgets what a failed one has left, such
        as a part of the gradient. What comes out must not depend on the count."""
        while True:
            tried = self.count
            try:
                return attempt(tried)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            drop()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if self.count < tried:  # what was attempted has found out by itself
                continue
            if tried <= self.least:
                raise TrainingError(
                    f"{where}: memory does not suffice even for {tried} {self.what} at a time; {self.advice}"
                )
            self.count = max(tried // 2, 1)
            self.say(f"{where}: memory has run out; from here on {self.count} {self.what} at a time")


def micro_batches(tokens: int, say: Callable[[str], None] = unsaid) -> AtATime:
    """Tokens in one pass. Sequences are never cut: the smallest pass holds one, if a longer one."""
    return AtATime(
        count=tokens,
        what="tokens",
        least=16,
        advice="raise model.split_depth, set model.activation_checkpointing, or lower the number of tokens in a row",
        say=say,
    )


def tokens_read(count: int) -> AtATime:
    """Tokens in one pass of a network that is not trained on what it reads."""
    advice = "lower the number of tokens in a row, or choose a smaller model"
    return AtATime(count=count, what="tokens", least=16, advice=advice)


def sampled_rows(count: int, say: Callable[[str], None] = unsaid) -> AtATime:
    """Responses that are sampled side by side."""
    return AtATime(count=count, what="responses", advice="lower max_new_tokens, or the length of prompts", say=say)


def is_out_of_memory(error: RuntimeError) -> bool:
    """CUDA has a class for it; the CPU's allocator has words alone."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
