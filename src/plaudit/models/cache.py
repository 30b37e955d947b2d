"""What a running batch keeps of its past: keys and values of one layer, and the look back of one new token."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from plaudit import kernels

ALIGNED = 8
"""Places come in so many: kernels of GPUs want rows of masks aligned."""


@dataclass(frozen=True, slots=True)
class KeyValues(ABC):
    """Of B rows with H key heads of width D at up to M places, allocated once."""

    keys: Tensor
    values_BHMD: Tensor

    @classmethod
    def empty(cls, size: tuple[int, int, int, int], *, dtype: torch.dtype, device: torch.device) -> KeyValues:
        """For (rows, key heads, width, places). Zeros: what is masked must be finite."""
        rows, heads, width, places = size
        if device.type == "cpu":
            keys = torch.zeros(size, dtype=dtype, device=device)
            return KeyValuesOfCPU(keys, torch.zeros(rows, heads, places, width, dtype=dtype, device=device))
        size = (rows, heads, -(-places // ALIGNED) * ALIGNED, width)
        return KeyValuesOfGPU(*(torch.zeros(size, dtype=dtype, device=device) for _ in range(2)))

    @property
    def places(self) -> int:
        return self.values_BHMD.shape[2]

    @abstractmethod
    def put_prompts(self, rows: list[int], keys_PHSD: Tensor, values_PHSD: Tensor) -> None:
        """The first S places of these rows."""

    @abstractmethod
    def put_tokens(self, rows_B: Tensor, places_B: Tensor, keys_BHD: Tensor, values_BHD: Tensor) -> None:
        """One place of every row, each its own."""

    def turn_and_put(self, mixed_BI: Tensor, rotation: tuple[Tensor, Tensor], places_B: Tensor) -> Tensor | None:
        """Queries of one token a row, and what `put_tokens` does, all in one; None where there is no such way."""
        return None

    @abstractmethod
    def mask(self, unseen_BL: Tensor) -> Tensor:
        """What `attend` takes: rows do not look where this is True."""

    def _added(self, unseen_BL: Tensor) -> Tensor:
        return torch.zeros_like(unseen_BL, dtype=self.keys.dtype).masked_fill_(unseen_BL, float("-inf"))

    @abstractmethod
    def attend(self, queries_BQD: Tensor, mask: Tensor, scaling: float) -> Tensor:
        """What each row's Q queries find at the first L places: [B, Q D]. Queries that share a key head stand where a
        sequence would: all of them look back from one place."""

    def of(self, rows: Tensor) -> Self:
        """Of these rows alone."""
        return type(self)(self.keys[rows], self.values_BHMD[rows])


class KeyValuesOfCPU(KeyValues):
    """Keys [B, H, D, M] lie transposed. The products of one token's queries with them are many and small, and their
    cost is the reading: with the places side by side it is a third of what `scaled_dot_product_attention` takes for one
    token (docs/performance.md)."""

    __slots__ = ()

    def put_prompts(self, rows: list[int], keys_PHSD: Tensor, values_PHSD: Tensor) -> None:
        upto = keys_PHSD.shape[2]
        self.keys[rows, :, :, :upto] = keys_PHSD.transpose(2, 3)
        self.values_BHMD[rows, :, :upto] = values_PHSD

    def put_tokens(self, rows_B: Tensor, places_B: Tensor, keys_BHD: Tensor, values_BHD: Tensor) -> None:
        self.keys[rows_B, :, :, places_B] = keys_BHD
        self.values_BHMD[rows_B, :, places_B] = values_BHD

    def mask(self, unseen_BL: Tensor) -> Tensor:
        """To be added [B H, 1, L]: 0 where a row looks, -inf elsewhere."""
        return self._added(unseen_BL).unsqueeze(1).repeat_interleave(self.keys.shape[1], dim=0)

    def attend(self, queries_BQD: Tensor, mask: Tensor, scaling: float) -> Tensor:
        rows, heads, width, _ = self.keys.shape
        places = mask.shape[2]
        grouped_NGD = queries_BQD.reshape(rows * heads, -1, width)
        keys_NDL, values_NLD = self.keys.flatten(0, 1)[:, :, :places], self.values_BHMD.flatten(0, 1)[:, :places]
        weights_NGL = torch.baddbmm(mask, grouped_NGD, keys_NDL, alpha=scaling).softmax(dim=-1)
        return torch.bmm(weights_NGL, values_NLD).view(rows, -1)


class KeyValuesOfGPU(KeyValues):
    """Keys [B, H, M, D], for a kernel that sums in float32 whatever they are kept in."""

    __slots__ = ()

    def put_prompts(self, rows: list[int], keys_PHSD: Tensor, values_PHSD: Tensor) -> None:
        upto = keys_PHSD.shape[2]
        self.keys[rows, :, :upto] = keys_PHSD
        self.values_BHMD[rows, :, :upto] = values_PHSD

    def put_tokens(self, rows_B: Tensor, places_B: Tensor, keys_BHD: Tensor, values_BHD: Tensor) -> None:
        self.keys[rows_B, :, places_B] = keys_BHD
        self.values_BHMD[rows_B, :, places_B] = values_BHD

    def turn_and_put(self, mixed_BI: Tensor, rotation: tuple[Tensor, Tensor], places_B: Tensor) -> Tensor | None:
        if not kernels.usable(mixed_BI) or mixed_BI.dtype != self.keys.dtype:
            return None
        return kernels.turn_and_put(mixed_BI, rotation, places_B, self.keys, self.values_BHMD)

    def mask(self, unseen_BL: Tensor) -> Tensor:
        """To be added [B, 1, 1, L]: 0 where a row looks, -inf elsewhere."""
        return self._added(unseen_BL)[:, None, None]

    def attend(self, queries_BQD: Tensor, mask: Tensor, scaling: float) -> Tensor:
        rows, heads, _, width = self.keys.shape
        places = mask.shape[3]
        queries_BHGD = queries_BQD.view(rows, heads, -1, width)
        mixed_BHGD = scaled_dot_product_attention(
            queries_BHGD,
            self.keys[:, :, :places],
            self.values_BHMD[:, :, :places],
            attn_mask=mask.expand(-1, heads, queries_BHGD.shape[2], -1),
            scale=scaling,
        )
        return mixed_BHGD.reshape(rows, -1)
