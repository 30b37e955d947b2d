"""The fast decoder: the layers of Llama's family, computed by few large operations over caches that never grow.

transformers' modules spend more time around the matrix products of a decoding step than in them. Here q, k and v are
one product, gate and up another, the cache is allocated once, a group of query heads attends to its key head without
copies of it, and prompts lie left-aligned, so that reading them needs no mask. A network is taken if it proves to
compute the same as its modules; see `fused_decoder`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import PreTrainedModel

from plaudit import kernels
from plaudit.data.batching import token_budget_batches
from plaudit.models.cache import KeyValues
from plaudit.models.costs import tokens_at_a_time
from plaudit.models.decoding import Decoder, ModuleDecoder, Start
from plaudit.models.decoding_layers import Layer, Matrix, Norm, fuse, places, rotate
from plaudit.models.family import ROUNDED, is_of_the_family, shape_of_layer
from plaudit.models.fused_layers import FusedLayers
from plaudit.models.packed import PackedLinear
from plaudit.models.replay import Replay
from plaudit.models.structure import find_layers

LOOKED_AT = 256
"""On a GPU rows look at so many places, or twice as many, and so on."""
TOLERANCE = 1e-3
"""Largest difference of a logit from the modules' own that still counts as the same network, in float32."""


class FusedDecoder:
    """Decodes with fused copies of a network's weights.

    `base` is its decoder (embedding to final norm), `head` its output embedding; `path` is where the layers stand in
    the model, for the names in `load`. The states that leave the first `boundary_at` layers (0: none) are kept: they
    are what the trunk's upper part takes. These layers are frozen, so that `load` must not name them. Products that
    `shared` has packed are not packed once more. `dtype`: that of the layers' products and of what is kept of the past;
    the residual stream, norms, rotations and the head, where rounding would be felt most, keep the network's own.
    `few`: there will be few rows, so that reading the weights is what counts.
    """

    def __init__(
        self,
        base: Any,
        head: nn.Module,
        path: str,
        *,
        boundary_at: int = 0,
        shared: FusedLayers | None = None,
        dtype: torch.dtype | None = None,
        few: bool = False,
    ) -> None:
        self.embed: nn.Module = base.embed_tokens
        self.norm: nn.Module = Norm(base.norm)
        self.rotary: nn.Module = base.rotary_emb
        self.head = head
        self.boundary_at = boundary_at
        self._sources: list[Any] = list(base.layers)
        self.shape = shape_of_layer(self._sources[0])
        self._is_silu = isinstance(self.shape.activation, nn.SiLU)
        self.dtype = dtype or cast(Tensor, self.embed.weight).dtype
        self.layers = [fuse(source, f"{path}.{i}", shared, dtype, few=few) for i, source in enumerate(self._sources)]
        ready = head.packed if isinstance(head, PackedLinear) else None
        self._unembed = Matrix(cast(nn.Linear, head), shared=ready, few=few)
        self._places = {
            f"{path}.{i}.{name}": place for i, layer in enumerate(self.layers) for name, place in places(layer)
        }

    @property
    def device(self) -> torch.device:
        return cast(Tensor, self.embed.weight).device

    def load(self, path: str, weight: Tensor) -> None:
        """Take over a new weight [out, in] of the linear layer at `path`."""
        matrix, index = self._places[path]
        matrix.replace(index, weight)

    def reload(self) -> None:
        """Read all weights again from the modules, which have been trained."""
        for matrix in (self._unembed, *(matrix for matrix, _ in self._places.values())):
            matrix.reread()

    def logits(self, states: Tensor) -> Tensor:
        return self._unembed(self.norm(states))

    @torch.no_grad()
    def start(self, prompts: Sequence[Sequence[int]], copies: Sequence[int], room: int) -> Start:
        device, shape = self.device, self.shape
        lengths = [len(p) for p in prompts]
        size = (len(copies), shape.kv_heads, shape.head_width, max(lengths) + room)
        caches = [KeyValues.empty(size, dtype=self.dtype, device=device) for _ in self.layers]
        ends = torch.tensor([lengths[copy] for copy in copies], device=device)
        logits, kept = self.read_prompts(prompts, copies, caches, list(range(len(copies))))
        return Start(logits, _RunningFused(self, caches, ends), kept)

    def read_prompts(
        self, prompts: Sequence[Sequence[int]], copies: Sequence[int], caches: Sequence[KeyValues], rows: list[int]
    ) -> tuple[Tensor, list[Tensor] | None]:
        """Row `rows[i]` of the caches takes prompt `copies[i]`: what follows in each of these rows [rows, V], and each
        prompt's boundary states."""
        lengths = [len(p) for p in prompts]
        logits: dict[int, Tensor] = {}
        boundary: dict[int, Tensor] = {}
        for chosen in token_budget_batches(lengths, tokens_at_a_time(self.device)):
            theirs = [(row, chosen.index(copy)) for row, copy in zip(rows, copies, strict=True) if copy in chosen]
            states, lower = self._read([prompts[c] for c in chosen], caches, *map(list, zip(*theirs, strict=True)))
            last = states[torch.arange(len(chosen), device=self.device), [lengths[c] - 1 for c in chosen]]
            logits |= zip(chosen, self.logits(last), strict=True)
            if lower is not None:
                boundary |= {c: lower[i, : lengths[c]].clone() for i, c in enumerate(chosen)}
        kept = [boundary[c] for c in range(len(prompts))] if boundary else None
        return torch.stack([logits[copy] for copy in copies]), kept

    def _read(
        self, prompts: Sequence[Sequence[int]], caches: Sequence[KeyValues], rows: list[int], source: list[int]
    ) -> tuple[Tensor, Tensor | None]:
        """States [P, S, D] of some prompts, left-aligned, and those at the boundary. Row r of `rows` in the caches
        takes the keys and values of prompt `source[r]`."""
        device, shape = self.device, self.shape
        longest = max(map(len, prompts))
        ids = torch.zeros(len(prompts), longest, dtype=torch.long)
        for i, prompt in enumerate(prompts):
            ids[i, : len(prompt)] = torch.tensor(prompt)
        states = self.embed(ids.to(device))
        rotation = self._rotation(states, torch.arange(longest, device=device))
        boundary: Tensor | None = None
        for i, (layer, cache) in enumerate(zip(self.layers, caches, strict=True)):
            if i == self.boundary_at and i:
                boundary = states
            q, k, v = (x.transpose(1, 2) for x in self._qkv(layer, self._mixed(layer, states), rotation))
            cache.put_prompts(rows, k[source], v[source])
            # Padding stands behind the real tokens: that nothing reads ahead is all the mask there is.
            mixed = scaled_dot_product_attention(
                q, k, v, is_causal=True, scale=shape.scaling, enable_gqa=shape.group > 1
            )
            states = self._rest(layer, states, mixed.transpose(1, 2).flatten(2))
        return states, boundary

    def _rotation(self, states: Tensor, places_N: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and signed sines [N, 1, width] of places, for `rotate`."""
        cos, sin = (part.squeeze(0) for part in self.rotary(states, places_N.unsqueeze(0)))
        first, second = sin.chunk(2, dim=-1)
        return cos.unsqueeze(-2), torch.cat((-first, second), dim=-1).unsqueeze(-2)

    def _queries(
        self, layer: Layer, states: Tensor, rotation: tuple[Tensor, Tensor], cache: KeyValues, places_B: Tensor
    ) -> Tensor:
        """Queries [B, heads, width] of one token a row, whose keys and values go to their place in the cache."""
        mixed = self._mixed(layer, states)
        queries = None if layer.q_norm is not None else cache.turn_and_put(mixed, rotation, places_B)
        if queries is None:
            queries, keys, values = self._qkv(layer, mixed, rotation)
            cache.put_tokens(torch.arange(len(states), device=states.device), places_B, keys, values)
        return queries

    def _mixed(self, layer: Layer, states: Tensor) -> Tensor:
        """q over k over v, as they leave their product."""
        return layer.qkv(layer.norm(states).to(self.dtype))

    def _qkv(self, layer: Layer, mixed: Tensor, rotation: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [..., heads, width], turned by their positions."""
        shape = self.shape
        turning, v = mixed.split([shape.turning, shape.kv_heads * shape.head_width], -1)
        turning = turning.unflatten(-1, (-1, shape.head_width))
        if layer.q_norm is not None and layer.k_norm is not None:
            q, k = turning.split([shape.heads, shape.kv_heads], dim=-2)
            turning = torch.cat([layer.q_norm(q), layer.k_norm(k)], dim=-2)
        turned = rotate(turning.to(rotation[0].dtype), *rotation).to(self.dtype)
        q, k = turned.split([shape.heads, shape.kv_heads], dim=-2)
        return q, k, v.unflatten(-1, (-1, shape.head_width))

    def _rest(self, layer: Layer, states: Tensor, mixed: Tensor) -> Tensor:
        """What follows attention, with both residual sums."""
        states = states + layer.out(mixed)
        both = layer.gate_up(layer.mlp_norm(states).to(self.dtype))
        if self._is_silu and kernels.usable(both):
            return states + layer.down(kernels.gate(both))
        gate, up = both.chunk(2, dim=-1)
        return states + layer.down(self.shape.activation(gate).mul_(up))


class _RunningFused:
    joins = True

    def __init__(self, decoder: FusedDecoder, caches: list[KeyValues], lengths_B: Tensor) -> None:
        self.decoder, self.caches, self.lengths_B = decoder, caches, lengths_B
        self.longest = int(lengths_B.max())
        self._boundary: Tensor | None = None
        self._positions = torch.arange(caches[0].places, device=lengths_B.device)
        self._upto = 0
        self._replay = Replay[Tensor]()

    @torch.no_grad()
    def step(self, tokens_B: Tensor) -> Tensor:
        if self.longest >= self._upto or not tokens_B.is_cuda:
            self._upto = self._looked_at(tokens_B.is_cuda)
            self._replay = Replay[Tensor]()
        self.longest += 1
        return self._replay(self._step, tokens_B)

    def _looked_at(self, recorded: bool) -> int:
        """Places that rows look at: those there are, or a number that stays for some steps, since a recording does."""
        needed = self.longest + 1
        return min(self.caches[0].places, -(-needed // LOOKED_AT) * LOOKED_AT if recorded else needed)

    def _step(self, tokens_B: Tensor) -> Tensor:
        return self.decoder.logits(self._through(tokens_B, len(self.decoder.layers), self._upto))

    @torch.no_grad()
    def step_lower(self, tokens_B: Tensor) -> Tensor | None:
        depth = self.decoder.boundary_at
        if not depth:
            return None
        self.longest += 1
        return self._through(tokens_B, depth, self.longest)

    def _through(self, tokens_B: Tensor, depth: int, upto: int) -> Tensor:
        """States [B, D] of one more token in each row, behind so many layers; rows look at the first `upto` places."""
        decoder, shape = self.decoder, self.decoder.shape
        states = decoder.embed(tokens_B)
        # A row that is done, and waits for another to take its place, stays at the last one.
        at = self.lengths_B.clamp(max=self.caches[0].places - 1)
        rotation = decoder._rotation(states, at)  # pyright: ignore[reportPrivateUsage]
        # A row looks at its own tokens up to this one.
        mask = self.caches[0].mask(self._positions[:upto] > at.unsqueeze(1))
        for i, layer in enumerate(decoder.layers[:depth]):
            if i == decoder.boundary_at and i:
                self._boundary = states
            queries = decoder._queries(layer, states, rotation, self.caches[i], at)  # pyright: ignore[reportPrivateUsage]
            mixed = self.caches[i].attend(queries, mask, shape.scaling)
            states = decoder._rest(layer, states, mixed)  # pyright: ignore[reportPrivateUsage]
        self.lengths_B += 1
        return states

    def keep(self, rows: Tensor) -> None:
        self._upto = 0
        for i, cache in enumerate(self.caches):  # one after the other, so that they are never all there twice
            self.caches[i] = cache.of(rows)
        self.lengths_B = self.lengths_B[rows]
        self.longest = int(self.lengths_B.max())

    @torch.no_grad()
    def join(self, rows: list[int], prompts: Sequence[Sequence[int]], copies: Sequence[int]) -> Start:
        logits, kept = self.decoder.read_prompts(prompts, copies, self.caches, rows)
        lengths = [len(prompts[copy]) for copy in copies]
        self.lengths_B[rows] = torch.tensor(lengths, device=self.lengths_B.device)
        self.longest = int(self.lengths_B.max())
        return Start(logits, self, kept)

    def boundary(self) -> Tensor | None:
        return self._boundary


# -- is it that network? --------------------------------------------------------------------------------------------


def decoder_of(model: PreTrainedModel, dtype: torch.dtype | None = None, *, few: bool = False) -> Decoder:
    """The fast decoder of a model that is only to speak, or its modules; `dtype`: that of its products, where it is not
    the model's own; `few`: a conversation's, where weights are best kept in half precision."""
    fused = fused_decoder(model, dtype=dtype, few=few)
    if fused is None and few:
        fused = fused_decoder(model, dtype=dtype)
    if fused is not None or dtype is None:
        return fused or ModuleDecoder(model)
    return ModuleDecoder(copy.deepcopy(model).to(dtype))  # pyright: ignore[reportArgumentType]


def fused_decoder(
    model: PreTrainedModel,
    *,
    base: nn.Module | None = None,
    head: nn.Module | None = None,
    boundary_at: int = 0,
    shared: FusedLayers | None = None,
    dtype: torch.dtype | None = None,
    few: bool = False,
) -> FusedDecoder | None:
    """The fast decoder of a model, or None where it cannot be shown to compute the same.

    `base` and `head` stand in for the model's own (a full copy that is trained). Names must fit first; then the logits
    of ragged prompts, and of tokens behind them, must be those of the modules.
    """
    if not is_of_the_family(model):
        return None
    path, _ = find_layers(model)
    own_head = cast(nn.Module, model.get_output_embeddings())
    own = FusedDecoder(model.base_model, own_head, path, boundary_at=boundary_at, shared=shared, dtype=dtype, few=few)
    if not agrees(own, model, exact=model.dtype == torch.float32 and dtype is None):
        return None
    if base is None or head is None:
        return own
    return FusedDecoder(base, head, path, boundary_at=boundary_at, dtype=dtype)


@torch.no_grad()
def agrees(decoder: FusedDecoder, model: PreTrainedModel, *, exact: bool) -> bool:
    """Two prompts of unlike length, one of them twice, and two tokens behind each."""
    vocabulary = model.config.get_text_config().vocab_size
    prompts = [[7 * i % vocabulary for i in range(1, 10)], [11 * i % vocabulary for i in range(1, 5)]]
    start = decoder.start(prompts, [0, 1, 1], room=2)
    said, logits = [list(prompts[i]) for i in (0, 1, 1)], start.logits_BV
    scale = max(1.0, float(logits.abs().max()))
    bound = (TOLERANCE if exact else ROUNDED) * scale
    for step in range(3):
        for row, tokens in enumerate(said):
            expected = model(input_ids=torch.tensor([tokens], device=model.device), use_cache=False).logits[0, -1]
            if float((logits[row].float() - expected.float()).abs().max()) > bound:
                return False
        if step < 2:
            following = torch.tensor([(3 + 5 * row + step) % vocabulary for row in range(3)], device=model.device)
            for tokens, token in zip(said, following.tolist(), strict=True):
                tokens.append(token)
            logits = start.running.step(following)
    return True
