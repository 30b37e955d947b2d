"""Training through the layers of Llama's family: few large operations, and little kept for the way back.

On a CPU the products with frozen weights run at the processor's rate, and everything around them waits for memory. So
q, k and v are one product and gate and up another, an adapter's terms are products of their own on top, and what is
cheap to compute again (norms, the gate's activation) is not kept; on a GPU, too, memory is what the rest waits for.
Weights are packed where the processor knows how (`plaudit.models.packed`). Networks that do not prove to be of the
family run through transformers' own modules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from plaudit.models.family import GATED, PROJECTIONS, ROUNDED, Shape, is_of_the_family, shape_of_layer
from plaudit.models.lora import LoRA
from plaudit.models.operations import GATE, PLAIN, Normed, Terms, normed, pick, product, spread, turn
from plaudit.models.packed import Packed
from plaudit.models.quantised import NF4Linear
from plaudit.models.structure import find_layers

TOLERANCE = 1e-4
"""Largest difference of a state from the modules' own, as a share of the largest state, in the same network."""


# -- layers -----------------------------------------------------------------------------------------------------------


class Group:
    """Linear layers over one input, as one product."""

    def __init__(self, layer: Any, path: str, within: str, names: Sequence[str]) -> None:
        linears = [cast(nn.Linear, getattr(getattr(layer, within), name)) for name in names]
        biases = [linear.bias.detach() for linear in linears if cast("Tensor | None", linear.bias) is not None]
        self.packed = Packed(*(linear.weight for linear in linears), bias=torch.cat(biases) if biases else None)
        self.paths = [f"{path}.{within}.{name}" for name in names]

    def terms(self, lora: LoRA | None) -> Terms | None:
        """The adapter's terms of these layers, side by side."""
        if lora is None or self.paths[0] not in lora:
            return None
        updates = [lora.at(path) for path in self.paths]
        A_RI = torch.cat([update.A for update in updates]).to(self.packed.dtype)
        B_OR = torch.block_diag(*(update.B for update in updates)).to(self.packed.dtype)
        return Terms(A_RI, B_OR, updates[0].scale)


class FusedLayer:
    """One decoder layer; q over k over v, gate over up."""

    def __init__(self, layer: Any, path: str) -> None:
        self.qkv = Group(layer, path, "self_attn", PROJECTIONS)
        self.out = Group(layer, path, "self_attn", ("o_proj",))
        self.gate_up = Group(layer, path, "mlp", GATED)
        self.down = Group(layer, path, "mlp", ("down_proj",))
        self.norm, self.mlp_norm = Normed(layer.input_layernorm), Normed(layer.post_attention_layernorm)
        has_norms = hasattr(layer.self_attn, "q_norm")
        self.q_norm = Normed(layer.self_attn.q_norm) if has_norms else None
        self.k_norm = Normed(layer.self_attn.k_norm) if has_norms else None

    def __call__(self, x: Tensor, grid: Grid, shape: Shape, lora: LoRA | None, read: Tensor | None = None) -> Tensor:
        """States [N, D] of the grid's real tokens behind this layer, or of those among them that are read."""
        qkv = grid.spread(product(x, self.qkv.packed, self.norm, self.qkv.terms(lora)))
        turning, v = qkv.split([shape.turning, shape.kv_heads * shape.head_width], dim=-1)
        turning, v = (part.unflatten(-1, (-1, shape.head_width)) for part in (turning, v))
        if self.q_norm is not None and self.k_norm is not None:
            q, k = turning.split([shape.heads, shape.kv_heads], dim=2)
            turning = torch.cat([normed(q, self.q_norm), normed(k, self.k_norm)], dim=2)
        q, k = turn(turning, grid.cos, grid.sin).split([shape.heads, shape.kv_heads], dim=2)
        shares = shape.group > 1
        if shares and grid.allowed is not None and x.device.type == "cuda":
            # No fast kernel takes a mask and groups of queries both.
            k, v, shares = (*(part.repeat_interleave(shape.group, dim=2) for part in (k, v)), False)
        mixed = scaled_dot_product_attention(
            *(part.transpose(1, 2) for part in (q, k, v)),
            attn_mask=grid.allowed,
            is_causal=grid.allowed is None,
            scale=shape.scaling,
            enable_gqa=shares,
        )
        mixed = grid.gather(mixed.transpose(1, 2).flatten(2))
        if read is not None:
            x, mixed = (pick(some, read) for some in (x, mixed))
        x = product(mixed, self.out.packed, PLAIN, self.out.terms(lora), to=x)
        gate_up = product(x, self.gate_up.packed, self.mlp_norm, self.gate_up.terms(lora))
        return product(gate_up, self.down.packed, GATE, self.down.terms(lora), to=x)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """How real tokens [N] lie in a padded batch [B, S], which attention alone computes with."""

    shape_BS: tuple[int, int]
    places_N: Tensor | None
    """Where each stands, the batch flattened; None: there is no padding."""
    allowed: Tensor | None
    """Where a token may look [B, 1, S, S]; None: back."""
    cos: Tensor
    """Of the angles by which queries and keys are turned, [B, S, 1, width / 2]."""
    sin: Tensor

    def spread(self, x_NI: Tensor) -> Tensor:
        """[B, S, I]"""
        if self.places_N is None:
            return x_NI.unflatten(0, self.shape_BS)
        batch, length = self.shape_BS
        return spread(x_NI, self.places_N, batch * length).unflatten(0, self.shape_BS)

    def gather(self, x_BSI: Tensor) -> Tensor:
        """[N, I]"""
        flat = x_BSI.flatten(0, 1)
        return flat if self.places_N is None else pick(flat, self.places_N)

    def row_of(self, places: Tensor) -> Tensor:
        """Which of the N rows stand at these places."""
        return places if self.places_N is None else torch.searchsorted(self.places_N, places)


class FusedLayers:
    """The layers of a network, any stretch of which can be run. Holds the packed weights of all of them, each packed
    when it is first multiplied by."""

    def __init__(self, model: PreTrainedModel) -> None:
        base = cast(Any, model.base_model)
        path, layers = find_layers(model)
        self.embed, self.rotary = cast(nn.Module, base.embed_tokens), cast(nn.Module, base.rotary_emb)
        self.shape = shape_of_layer(layers[0])
        self.layers = [FusedLayer(layer, f"{path}.{i}") for i, layer in enumerate(layers)]
        self.norm = Normed(base.norm)

    def __call__(
        self,
        inputs: Tensor,
        mask_BS: Tensor,
        positions_BS: Tensor,
        *,
        layers: range,
        lora: LoRA | None = None,
        allowed_BSS: Tensor | None = None,
        read: Tensor | None = None,
        checkpointing: bool = False,
    ) -> Tensor:
        """States [B, S, D] behind a stretch of layers, and behind the final norm where it goes to the end; zeros in the
        padding. Or those [n, D] at the places `read` of the flattened batch: the last layer computes no others.

        `inputs` are token ids [B, S], or the states [B, S, D] that leave the layer before.
        """
        x = cast(Tensor, self.embed(inputs)) if inputs.dim() == 2 else inputs
        grid = self._grid(x, mask_BS, positions_BS, allowed_BSS)
        x = grid.gather(x)
        rows = None if read is None else grid.row_of(read)
        for place in layers:
            step = partial(self.layers[place], read=rows if place == layers[-1] else None)
            if checkpointing and torch.is_grad_enabled():
                x = cast(Tensor, checkpoint(step, x, grid, self.shape, lora, use_reentrant=False))
            else:
                x = step(x, grid, self.shape, lora)
        if layers.stop == len(self.layers):
            x = normed(x, self.norm)
        return x if read is not None else grid.spread(x)

    def _grid(self, x_BSD: Tensor, mask_BS: Tensor, positions_BS: Tensor, allowed_BSS: Tensor | None) -> Grid:
        cos, sin = cast("tuple[Tensor, Tensor]", self.rotary(x_BSD, positions_BS))
        half = self.shape.head_width // 2
        return Grid(
            shape_BS=(mask_BS.shape[0], mask_BS.shape[1]),
            places_N=None if bool(mask_BS.all()) else mask_BS.flatten().nonzero().squeeze(1),
            allowed=_allowed(mask_BS, allowed_BSS),
            cos=cos[..., :half].unsqueeze(2),
            sin=sin[..., :half].unsqueeze(2),
        )

    def packed(self, path: str) -> Packed | None:
        """The product that the linear layer at `path` is the first of."""
        groups = (g for layer in self.layers for g in (layer.qkv, layer.out, layer.gate_up, layer.down))
        return next((group.packed for group in groups if group.paths[0] == path), None)


def _allowed(mask_BS: Tensor, allowed_BSS: Tensor | None) -> Tensor | None:
    """Where a token may look [B, 1, S, S]; None: back, which is all where nothing but padding stands behind."""
    if allowed_BSS is not None:
        return allowed_BSS.unsqueeze(1)
    if not bool((mask_BS[:, 1:] & ~mask_BS[:, :-1]).any()):
        return None
    length = mask_BS.shape[1]
    back_SS = torch.ones(length, length, dtype=torch.bool, device=mask_BS.device).tril()
    self_SS = torch.eye(length, dtype=torch.bool, device=mask_BS.device)  # padding sees itself, or it would be NaN
    return ((back_SS & mask_BS[:, None, :]) | self_SS).unsqueeze(1)


# -- is it that network? ----------------------------------------------------------------------------------------------


def fused_layers(model: PreTrainedModel, linears: Mapping[str, Any]) -> FusedLayers | None:
    """The fast layers of a model, or None where its weights are in four bits, or where they do not show to compute the
    same as its modules on padded rows. `linears` are those that adapters may sit on."""
    if not may_be_fused(model) or any(isinstance(linear, NF4Linear) for linear in linears.values()):
        return None
    made = FusedLayers(model)
    return made if _agrees(made, model) else None


def may_be_fused(model: PreTrainedModel) -> bool:
    """By its names; the weights need not be there."""
    return is_of_the_family(model) and model.config.get_text_config().hidden_act in ("silu", "swish")


@torch.no_grad()
def _agrees(made: FusedLayers, model: PreTrainedModel) -> bool:
    vocabulary = model.config.get_text_config().vocab_size
    ids = torch.arange(24, device=model.device).reshape(2, 12) * 7 % vocabulary
    masks = torch.ones(2, 2, 12, dtype=torch.bool, device=model.device)
    tolerance = TOLERANCE if model.dtype == torch.float32 else ROUNDED
    masks[0, 1, 9:], masks[1, 1, :3] = False, False  # padding on the right, and on the left
    for mask in masks:
        positions = (mask.long().cumsum(dim=1) - 1).clamp(min=0)
        arguments = {"attention_mask": mask.long(), "position_ids": positions, "use_cache": False}
        expected = model.base_model(input_ids=ids, **arguments).last_hidden_state[mask]
        found = made(ids, mask, positions, layers=range(len(made.layers)))[mask]
        if float((found - expected).abs().max()) > tolerance * max(1.0, float(expected.abs().max())):
            return False
    return True
