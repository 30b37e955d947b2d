"""Low-rank adapters, by name, on linear layers that stay as they are (Hu et al. 2021).

An adapter adds its term through a forward hook: the network keeps its modules and weights, so that "no
adapter" is the frozen model to the last bit, and several adapters share one set of weights.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from plaudit.models.quantised import NF4Linear
from plaudit.types import InputError

Linear = nn.Linear | Conv1D | NF4Linear


class Switch:
    """Which adapter is on. One object for a whole network; set for the length of a forward pass."""

    def __init__(self) -> None:
        self.active: LoRA | None = None

    @contextmanager
    def on(self, adapter: LoRA | None) -> Generator[None]:
        previous, self.active = self.active, adapter
        try:
            yield
        finally:
            self.active = previous


class LowRank(nn.Module):
    """x -> scale * x A^T B^T, the update of one linear layer. B starts at 0, so it starts as nothing."""

    def __init__(self, linear: Linear, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        width_in, width_out = shape_of(linear)
        bound = 1 / math.sqrt(width_in)  # kaiming_uniform(a=sqrt 5), as LoRA's own code
        start = torch.rand(rank, width_in, generator=generator) * 2 * bound - bound
        device = linear.weight.device
        self.A = nn.Parameter(start.to(device))
        self.B = nn.Parameter(torch.zeros(width_out, rank, device=device))
        self.scale = alpha / rank

    def forward(self, x: Tensor, output: Tensor) -> Tensor:
        """The layer's output for x, with the update added to it."""
        # Scaled where it is narrow, and added by the product itself: no pass over [N, out] but that one.
        narrow = (x.to(self.A.dtype) @ self.A.T) * self.scale
        if output.dtype != self.A.dtype:
            return output + (narrow @ self.B.T).to(output.dtype)
        return torch.addmm(output.flatten(0, -2), narrow.flatten(0, -2), self.B.T).view_as(output)

    def delta(self) -> Tensor:
        """The change of the weight, [out, in]."""
        return self.B @ self.A * self.scale


class LoRA(nn.Module):
    """One named adapter: a low-rank update for each of the layers at `paths` (module paths in the model)."""

    def __init__(self, linears: Mapping[str, Linear], *, rank: int, alpha: float, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.rank, self.alpha = rank, alpha
        self.paths = tuple(linears)
        self.updates = nn.ModuleList([LowRank(linear, rank, alpha, generator) for linear in linears.values()])
        self._index = {path: i for i, path in enumerate(self.paths)}

    def __contains__(self, path: str) -> bool:
        return path in self._index

    def at(self, path: str) -> LowRank:
        update = self.updates[self._index[path]]
        assert isinstance(update, LowRank)
        return update


def shape_of(linear: Linear) -> tuple[int, int]:
    """(width in, width out); GPT-2's Conv1D stores its weight transposed."""
    if isinstance(linear, Conv1D):
        rows, columns = linear.weight.shape
        return rows, columns
    return linear.in_features, linear.out_features


def linears_in(layers: Iterable[tuple[str, nn.Module]]) -> dict[str, Linear]:
    """Every linear layer inside the named modules, by full path."""
    found = {
        f"{name}.{inner}": module
        for name, layer in layers
        for inner, module in layer.named_modules()
        if isinstance(module, Linear)
    }
    if not found:
        raise InputError("this model has no linear layers that an adapter could sit on; set adapter.kind: full")
    return found


def hook_into(linears: Mapping[str, Linear], switch: Switch) -> None:
    """Let every linear layer add the active adapter's term."""
    for path, linear in linears.items():

        def add(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, path: str = path) -> Tensor:
            return output if switch.active is None else switch.active.at(path)(inputs[0], output)

        linear.register_forward_hook(add)


def merged_weight(linear: Linear, update: LowRank) -> Tensor:
    """base + delta in the layer's own layout and dtype, computed in float32 and cast once; the layer stays as it is."""
    delta = update.delta().float()
    weight = cast(Tensor, linear.weight)
    merged = weight.float() + (delta.T if isinstance(linear, Conv1D) else delta)
    return merged.to(weight.dtype)
