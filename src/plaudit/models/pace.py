"""How fast an act works: seconds by phase, tokens a second, and the share of the device's rate that this is."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager

import torch

from plaudit.data.batching import padding_share
from plaudit.models.costs import matmul_rate, network_of, passes
from plaudit.models.trunk import Trunk
from plaudit.progress import Phases
from plaudit.recipe import Adapter


class Pace(Phases):
    """Seconds by phase, of a device that has finished, and the tokens that the trunk has read in each."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk, self.network = trunk, network_of(trunk.model)
        self.rate = matmul_rate(trunk.device, trunk.model.dtype, seconds=0.05)
        self.read: dict[str, tuple[float, float]] = {}
        """Phase -> tokens that went through the layers below the split, and above it, there and not back."""

    def begin(self) -> None:
        """A step begins."""
        self.seconds.clear()
        self.read.clear()

    @contextmanager
    def __call__(self, name: str) -> Generator[None]:
        before = self.trunk.tokens_read()
        with super().__call__(name):
            yield
            if self.trunk.device.type == "cuda":
                torch.cuda.synchronize()
        lower, top = self.read.get(name, (0.0, 0.0))
        after = self.trunk.tokens_read()
        self.read[name] = (lower + after[0] - before[0], top + after[1] - before[1])

    def lower_flops(self, name: str) -> float:
        """Arithmetic of the layers below the split in a phase, where states had not been kept."""
        return self.read[name][0] * self.trunk.split_depth * self.network.layer_flops

    def forward_flops(self, name: str) -> float:
        """Arithmetic of all layers that the trunk has run in a phase, there and not back."""
        above = self.network.layers - self.trunk.split_depth
        return self.lower_flops(name) + self.read[name][1] * above * self.network.layer_flops

    def utilisation(self, name: str, flops: float) -> float:
        """Share of the device's rate for matrix products that so many operations in this phase are."""
        return flops / self.seconds[name] / self.rate

    def of_training(
        self, name: str, adapter: Adapter, groups: Sequence[Sequence[int]], *, predicted: int = 0
    ) -> dict[str, float]:
        """What a step of training logs of itself: `groups` of lines that were padded together, in tokens; logits of so
        many tokens. What is computed once more on the way back counts once more."""
        tokens, ways = sum(map(sum, groups)), passes(adapter)
        above = self.network.layers - self.trunk.split_depth
        flops = (ways + self.trunk.activation_checkpointing) * tokens * above * self.network.layer_flops
        flops += ways * predicted * self.network.head_flops + self.lower_flops(name)
        return {
            "seconds": self.seconds[name],
            "tokens_per_second": tokens / self.seconds[name],
            "utilisation": self.utilisation(name, flops),
            "padding": padding_share(groups),
        }
