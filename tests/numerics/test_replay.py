"""What surrounds the recording of a CUDA graph, with stand-ins for the card's own; the real ones: tests/cuda."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from plaudit.models.replay import Replay


class OnCard(Tensor):
    """A tensor that says it is on a card."""

    @property
    def is_cuda(self) -> bool:
        return True


def test_a_recording_that_runs_out_of_memory_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An open one forbids to give memory back, and to record another."""
    told: list[str] = []

    class Graph:
        def capture_begin(self) -> None:
            told.append("begin")

        def capture_end(self) -> None:
            told.append("end")

        def replay(self) -> None:
            told.append("replay")

    stream = SimpleNamespace(wait_stream=lambda _: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    room = [True, False, True]

    def step(x: Tensor) -> Tensor:
        if not room.pop(0):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x + 1

    replay = Replay[Tensor]()
    given = torch.zeros(2).as_subclass(OnCard)
    replay(step, given)
    with pytest.raises(torch.OutOfMemoryError):
        replay(step, given)
    assert told == ["begin", "end"]
    replay(step, given)
    assert told == ["begin", "end", "begin", "end", "replay"]
