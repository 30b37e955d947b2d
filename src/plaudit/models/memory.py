"""Boundary states that are kept, so that the frozen layers run once per token and not once per use."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from torch import Tensor

from plaudit.types import Bundle

Key = tuple[bytes, bytes | None]
"""A prompt's token ids, and those of a response to it; None: the prompt by itself."""


class StateMemory:
    """Boundary states by the tokens they belong to, up to a number of bytes; what does not fit is computed again.

    Responses to one prompt do not see each other: each is remembered by itself, whatever bundle it is in.
    """

    def __init__(self, gigabytes: float) -> None:
        self.gigabytes = gigabytes
        self.left = 0
        self._states: dict[Key, Tensor] = {}

    @contextmanager
    def kept(self) -> Generator[None]:
        """Remember for the length of an act in which the same sequences come again."""
        self.renew()
        try:
            yield
        finally:
            self.forget()

    def renew(self) -> None:
        """Forget what was kept, and remember from now on."""
        self._states.clear()
        self.left = int(self.gigabytes * 1e9)

    def forget(self) -> None:
        """Forget what was kept, and keep nothing more."""
        self._states.clear()
        self.left = 0

    def put(self, key: Key, states: Tensor) -> None:
        """Remember states [n, D], if there is room."""
        size = states.numel() * states.element_size()
        if key not in self._states and size <= self.left:
            self._states[key] = states
            self.left -= size

    def get(self, key: Key) -> Tensor | None:
        return self._states.get(key)


def keys_of(ids: Bundle) -> list[Key]:
    """The keys of a bundle of token ids: its prompt's, then each response's."""
    prompt, *responses = (part.cpu().numpy().tobytes() for part in parts_of(ids))
    return [(prompt, None), *((prompt, response) for response in responses)]


def parts_of(one: Bundle) -> tuple[Tensor, ...]:
    """The prompt's inputs, then each response's."""
    return one.inputs.split([one.num_prompt, *one.lengths])
