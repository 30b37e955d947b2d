"""What generation asks of a network: a batch of prompts read once, then one token per running row and step.

Two decoders answer. `ModuleDecoder` runs any causal language model of transformers with a cache that grows.
`plaudit.models.fused` has the fast one, for the families whose layers it can compute by itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel


class Running(Protocol):
    """A batch in the middle of its sentences. Row r of every call is row r of the last `keep`."""

    @property
    def joins(self) -> bool:
        """Whether others can take the places of rows: `join`."""
        ...

    def step(self, tokens_B: Tensor) -> Tensor:
        """Append one token to each row: the logits [B, V] of what follows."""
        ...

    def step_lower(self, tokens_B: Tensor) -> Tensor | None:
        """Append one token to each row for the sake of its boundary states [B, D] alone, which nothing may follow but
        the same."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows alone."""
        ...

    def join(self, rows: list[int], prompts: Sequence[Sequence[int]], copies: Sequence[int]) -> Start:
        """What `rows` have said is forgotten: row `rows[i]` now continues prompt `copies[i]`, which is no longer than
        the longest that the batch began with, and by as many tokens at most."""
        ...

    def boundary(self) -> Tensor | None:
        """States [B, D] below the split of the tokens given to the last `step`; None where no split is known."""
        ...


class Decoder(Protocol):
    """A network that generates."""

    def start(self, prompts: Sequence[Sequence[int]], copies: Sequence[int], room: int) -> Start:
        """Read each (distinct) prompt once; row r of the batch continues prompt `copies[r]` by up to `room` tokens."""
        ...


class Start:
    """A batch after its prompts: the first logits [B, V], what goes on, and each prompt's boundary states [P, D]."""

    def __init__(self, logits_BV: Tensor, running: Running, prompt_states: Sequence[Tensor] | None = None) -> None:
        self.logits_BV, self.running, self.prompt_states = logits_BV, running, prompt_states


def _cache_argument(model: PreTrainedModel) -> str:
    """The name of the cache among the model's arguments: from transformers 5.24 on it is `cache`, family by family."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


class ModuleDecoder:
    """Any causal language model of transformers."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model

    @torch.no_grad()
    def start(self, prompts: Sequence[Sequence[int]], copies: Sequence[int], room: int) -> Start:
        """Left-padded, positions counting real tokens; the cache is then spread over the rows."""
        device = self.model.device
        length = max(map(len, prompts))
        ids = torch.zeros(len(prompts), length, dtype=torch.long, device=device)
        mask = torch.zeros_like(ids)
        for i, prompt in enumerate(prompts):
            ids[i, length - len(prompt) :] = torch.tensor(prompt, device=device)
            mask[i, length - len(prompt) :] = 1
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        cache = DynamicCache(config=self.model.config)
        out = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1,
            **{_cache_argument(self.model): cache},
        )
        index = torch.tensor(copies, device=device)
        if len(copies) != len(prompts) or list(copies) != list(range(len(prompts))):
            cache.batch_select_indices(index)
        return Start(out.logits[index, -1], _RunningModule(self.model, cache, mask[index], positions[index, -1]))


class _RunningModule:
    joins = False
    """The cache of transformers' modules grows for all rows alike."""

    def __init__(self, model: PreTrainedModel, cache: DynamicCache, mask_BS: Tensor, position_B: Tensor) -> None:
        self.model, self.cache, self.mask_BS, self.position_B = model, cache, mask_BS, position_B

    def step(self, tokens_B: Tensor) -> Tensor:
        self.position_B = self.position_B + 1
        self.mask_BS = torch.cat([self.mask_BS, self.mask_BS.new_ones(len(tokens_B), 1)], dim=1)
        out = self.model(
            input_ids=tokens_B.unsqueeze(1),
            attention_mask=self.mask_BS,
            position_ids=self.position_B.unsqueeze(1),
            use_cache=True,
            **{_cache_argument(self.model): self.cache},
        )
        return out.logits[:, -1]

    def step_lower(self, tokens_B: Tensor) -> Tensor | None:
        return None

    def join(self, rows: list[int], prompts: Sequence[Sequence[int]], copies: Sequence[int]) -> Start:
        raise NotImplementedError("see `joins`")

    def keep(self, rows: Tensor) -> None:
        self.cache.batch_select_indices(rows)
        self.mask_BS, self.position_B = self.mask_BS[rows], self.position_B[rows]

    def boundary(self) -> Tensor | None:
        return None
