"""A step of decoding as a CUDA graph: hundreds of small operations, started by one call."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

LOOKED_AT = 256
"""A graph looks at a number of places that does not change; it is recorded anew when the longest row outgrows it."""


class Replay:
    """The same step for the same rows, over and over. It runs as it is the first time, so that every kernel is loaded,
    is recorded the second time, and played from then on.

    What the step leaves behind must be where it was the last time: it writes into tensors that stay, and its result is
    read before the next step.
    """

    def __init__(self, like_B: Tensor, *, longest: int, places: int) -> None:
        self.upto = min(places, -(-(longest + 1) // LOOKED_AT) * LOOKED_AT)
        self.tokens_B = torch.empty_like(like_B)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.result: Tensor | None = None

    def __call__(self, step: Callable[[Tensor, int], Tensor], tokens_B: Tensor) -> Tensor:
        if self.result is None:
            self.result = step(tokens_B, self.upto)
            return self.result
        self.tokens_B.copy_(tokens_B)
        if self.graph is None:
            self.graph = self._record(step)
        self.graph.replay()
        return self.result

    def _record(self, step: Callable[[Tensor, int], Tensor]) -> torch.cuda.CUDAGraph:
        # torch.cuda.graph would first give all free memory back, which costs more than a recording.
        graph, here, aside = torch.cuda.CUDAGraph(), torch.cuda.current_stream(), torch.cuda.Stream()
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            graph.capture_begin()
            self.result = step(self.tokens_B, self.upto)
            graph.capture_end()
        here.wait_stream(aside)
        return graph
