"""Boundary states that are kept, so that the frozen layers run once per token and not once per use."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import IO

import torch
from torch import Tensor

from plaudit.types import Bundle, TrainingError

Key = tuple[bytes, bytes | None]
"""A prompt's token ids, and those of a response to it; None: the prompt by itself."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where states [n, D] lie in the file."""

    begin: int
    shape: torch.Size
    dtype: torch.dtype
    device: torch.device


class StateMemory:
    """Boundary states by the tokens they belong to: up to a number of bytes in memory, then up to another on disk.
    What does not fit is computed again.

    Responses to one prompt do not see each other: each is remembered by itself, whatever bundle it is in. The file has
    no name and is gone with its last use; it lies where temporary files do (`TMPDIR`).
    """

    def __init__(self, gigabytes: float, *, on_disk: float = 0.0) -> None:
        self.gigabytes, self.gigabytes_on_disk = gigabytes, on_disk
        self.left = self.left_on_disk = 0
        self._states: dict[Key, Tensor] = {}
        self._places: dict[Key, _Place] = {}
        self._file: IO[bytes] | None = None

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
        self.forget()
        self.left, self.left_on_disk = int(self.gigabytes * 1e9), int(self.gigabytes_on_disk * 1e9)

    def forget(self) -> None:
        """Forget what was kept, and keep nothing more."""
        self._states.clear()
        self._places.clear()
        self.left = self.left_on_disk = 0
        if self._file is not None:
            self._file.close()
            self._file = None

    def put(self, key: Key, states: Tensor) -> None:
        """Remember states [n, D], if there is room."""
        size = states.numel() * states.element_size()
        if key in self._states or key in self._places:
            return
        if size <= self.left:
            self._states[key] = states
            self.left -= size
        elif size <= self.left_on_disk:
            self._write(key, states, size)

    def get(self, key: Key) -> Tensor | None:
        place = self._places.get(key)
        return self._states.get(key) if place is None else self._read(place)

    def shorten(self, key: Key, to: Key) -> None:
        """What is kept of a response is from now on kept of its beginning `to`, whose states are the same."""
        assert to[1] is not None, "a response's"
        count = len(to[1]) // torch.long.itemsize
        if to in self._states or to in self._places or not count:
            return
        if key in self._states:
            self._states[to] = self._states.pop(key)[:count]
        elif key in self._places:
            place = self._places.pop(key)
            self._places[to] = replace(place, shape=torch.Size([count, *place.shape[1:]]))

    def _write(self, key: Key, states: Tensor, size: int) -> None:
        begin = self._append(states.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        if begin is None:
            self.left_on_disk = 0  # what lies there stays, the rest is computed again
            return
        self._places[key] = _Place(begin, states.shape, states.dtype, states.device)
        self.left_on_disk -= size

    def _append(self, data: bytes) -> int | None:
        """Where the bytes begin in the file; None: no file can be made, or the disk is full."""
        begin, rest = None, memoryview(data)
        try:
            if self._file is None:
                # Nothing may wait in a buffer: what found no room there would be written once more when it is closed.
                self._file = tempfile.TemporaryFile(prefix="plaudit-states-", buffering=0)  # noqa: SIM115  see forget
            begin = self._file.seek(0, os.SEEK_END)
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            if self._file is not None and begin is not None:
                with suppress(OSError):
                    self._file.truncate(begin)
            return None
        return begin

    def _read(self, place: _Place) -> Tensor:
        assert self._file is not None, "its places go when it does"
        self._file.seek(place.begin)
        data = bytearray(place.shape.numel() * place.dtype.itemsize)
        rest = memoryview(data)
        while rest:
            count = self._file.readinto(rest)  # pyright: ignore[reportAttributeAccessIssue]
            if not count:
                raise TrainingError("the temporary file of boundary states (in TMPDIR) was cut off while it was in use")
            rest = rest[count:]
        return torch.frombuffer(data, dtype=place.dtype).view(place.shape).to(place.device)


def keys_of(ids: Bundle) -> list[Key]:
    """The keys of a bundle of token ids: its prompt's, then each response's."""
    prompt, *responses = (part.cpu().numpy().tobytes() for part in parts_of(ids))
    return [(prompt, None), *((prompt, response) for response in responses)]


def parts_of(one: Bundle) -> tuple[Tensor, ...]:
    """The prompt's inputs, then each response's."""
    return one.inputs.split([one.num_prompt, *one.lengths])
