"""Layers whose activations are not kept: the backward pass computes them once more (Chen et al. 2016)."""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from plaudit.models.lora import Switch


class Recomputed(nn.Module):
    """One layer, of which the input alone is kept. The second pass has the adapter on that the first one had: by then
    the switch stands elsewhere."""

    def __init__(self, layer: nn.Module, switch: Switch) -> None:
        super().__init__()
        self.layer, self.switch = layer, switch

    def forward(self, *inputs: Any, **more: Any) -> Tensor:
        active = self.switch.active

        def compute(*inputs: Any) -> Tensor:
            with self.switch.on(active):
                return self.layer(*inputs, **more)

        # No dropout is on, so that there is no state of random numbers to keep.
        return cast(Tensor, checkpoint(compute, *inputs, use_reentrant=False, preserve_rng_state=False))

    def __getattr__(self, name: str) -> Any:
        """Decoders ask their layers for some attributes (which kind of attention)."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)


def recomputing(decoder: nn.Module, layers: str, switch: Switch) -> nn.Module:
    """A view of a decoder that shares its weights and keeps no activations inside the layers, its child `layers`."""
    if not torch.is_grad_enabled():
        return decoder
    shown = copy.copy(decoder)
    wrapped = nn.ModuleList([Recomputed(layer, switch) for layer in cast(nn.ModuleList, decoder.get_submodule(layers))])
    shown.__dict__["_modules"] = dict(decoder.named_children()) | {layers: wrapped}
    return shown
