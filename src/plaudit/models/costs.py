"""What a network costs: its weights, its arithmetic, and how fast this device multiplies."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from transformers import PreTrainedModel

from plaudit.models.lora import Linear, shape_of
from plaudit.models.packed import can_pack, multiply, pack
from plaudit.models.quantised import numel
from plaudit.models.structure import find_layers
from plaudit.recipe import Adapter


@dataclass(frozen=True, kw_only=True)
class Network:
    """What of a network the costs depend on. Widths in floats, weights in numbers."""

    layers: int
    layer_weights: int
    linear_weights: int
    """Of a layer's: those of its linear layers, which may be held in 4 bits."""
    other_weights: int
    head_weights: int
    width: int
    attention_width: int
    kv_width: int
    mlp_width: int
    lora_widths: int
    """Sum over a layer's linear layers of their width in and out."""

    def lora(self, adapter: Adapter, split_depth: int) -> int:
        """Weights of a part on the layers above the split."""
        if adapter.kind == "full":
            return self.layers * self.layer_weights + self.other_weights
        return (self.layers - split_depth) * adapter.rank * self.lora_widths

    @property
    def layer_flops(self) -> int:
        """Of one token in one layer, forward."""
        return 2 * self.layer_weights

    @property
    def head_flops(self) -> int:
        """Of the logits of one token."""
        return 2 * self.head_weights

    def saved_per_token(self, *, fused: bool) -> int:
        """Floats that one layer keeps per token for its backward pass, the base weights being frozen: inputs of the
        linear layers, queries, repeated keys and values, the norms' terms, gate and up. `fused`
        (`plaudit.models.fused_layers`): both inputs, what was multiplied, what was turned of it, the mix, gate and up.
        """
        if fused:
            return 2 * self.width + 4 * self.attention_width + 3 * self.kv_width + 2 * self.mlp_width
        return 8 * self.width + 5 * self.attention_width + 4 * self.mlp_width

    def activations_per_token(self, layers: int, *, checkpointing: bool, fused: bool) -> int:
        """Floats that so many layers keep per token for their backward pass, at the most. With `checkpointing`: each
        layer's input, and of one layer, which is computed once more, all."""
        one = self.saved_per_token(fused=fused)
        return layers * self.width + one if checkpointing else layers * one


def network_of(model: PreTrainedModel) -> Network:
    """Read off a network; its weights need not be there (torch's "meta" device)."""
    text = model.config.get_text_config()
    _, layers = find_layers(model)
    linears = [m for m in layers[0].modules() if isinstance(m, Linear)]
    shapes = [shape_of(m) for m in linears]
    layer, every = numel(layers[0]), numel(model)
    head_width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return Network(
        layers=len(layers),
        layer_weights=layer,
        linear_weights=sum(a * b for a, b in shapes),
        other_weights=every - layer * len(layers),
        head_weights=text.vocab_size * text.hidden_size,
        width=text.hidden_size,
        attention_width=text.num_attention_heads * head_width,
        kv_width=(getattr(text, "num_key_value_heads", None) or text.num_attention_heads) * head_width,
        mlp_width=getattr(text, "intermediate_size", None) or 4 * text.hidden_size,
        lora_widths=sum(a + b for a, b in shapes),
    )


def passes(adapter: Adapter) -> int:
    """Forward, and backward to the inputs; where all weights are trained, backward to the weights too."""
    return 2 if adapter.kind == "lora" else 3


def tokens_at_a_time(device: torch.device) -> int:
    """Tokens in one pass where nothing is trained. A CPU likes few: 1024 ran faster than 512 and than 4096."""
    return 1024 if device.type == "cpu" else 16384


def matmul_rate(device: torch.device, dtype: torch.dtype, *, seconds: float = 0.5) -> float:
    """FLOP/s of matrix products of a training forward's shape, the fastest way that a trunk has for them."""
    side = 1024 if device.type == "cpu" else 8192  # a GPU would be done with the smaller one before the next is asked
    dice = torch.Generator(device).manual_seed(0)  # its own: to measure must not change what is drawn elsewhere
    a, b = (torch.randn(side, side, device=device, dtype=dtype, generator=dice) for _ in range(2))
    ways: list[Callable[[], Tensor]] = [partial(torch.mm, a, b)]
    if can_pack(b):
        ways.append(partial(multiply, a, pack(b)))
    return max(_rate(way, 2 * side**3, device, seconds / len(ways)) for way in ways)


def _rate(work: Callable[[], Tensor], flops: int, device: torch.device, seconds: float) -> float:
    """The best of several measurements, FLOP/s."""
    best, spent = 0.0, 0.0
    _finished(work, 1, device)  # the first call loads what is needed
    while spent < seconds:
        took = _finished(work, 4, device)
        best, spent = max(best, 4 * flops / took), spent + took
    return best


def _finished(work: Callable[[], Tensor], times: int, device: torch.device) -> float:
    """Seconds."""
    began = time.perf_counter()
    for _ in range(times):
        work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began
