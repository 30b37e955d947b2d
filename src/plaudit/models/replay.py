"""CUDA graphs: hundreds of small operations, started by one call."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")


class Replay(Generic[Result]):
    """A function of tensors whose shapes stay, over and over. It runs as it is the first time, so that every kernel is
    loaded, is recorded the second time, and played from then on.

    It must wait for nothing, and what it leaves behind must be where it was the last time: it writes into tensors that
    stay, and its result is read before the next call. On other devices it is just called.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.inputs: tuple[Tensor, ...] = ()
        self.graph: torch.cuda.CUDAGraph | None = None
        self.result: Result | None = None

    def __call__(self, function: Callable[..., Result], *inputs: Tensor) -> Result:
        self.calls += 1
        if self.calls == 1 or not inputs[0].is_cuda:
            return function(*inputs)
        if self.graph is None:
            self.inputs = tuple(torch.empty_like(given) for given in inputs)
            self._copy(inputs)
            self.graph = self._record(function)
        else:
            self._copy(inputs)
        self.graph.replay()
        assert self.result is not None
        return self.result

    def _copy(self, inputs: tuple[Tensor, ...]) -> None:
        for mine, given in zip(self.inputs, inputs, strict=True):
            mine.copy_(given)

    def _record(self, function: Callable[..., Result]) -> torch.cuda.CUDAGraph:
        # torch.cuda.graph would first give all free memory back, which costs more than a recording.
        graph, here, aside = torch.cuda.CUDAGraph(), torch.cuda.current_stream(), torch.cuda.Stream()
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            graph.capture_begin()
            try:
                self.result = function(*self.inputs)
            except BaseException:
                # An open recording would forbid to give memory back, and so to try with fewer rows.
                with suppress(RuntimeError):
                    graph.capture_end()
                raise
            graph.capture_end()
        here.wait_stream(aside)
        return graph
