"""What a running batch keeps of its past: keys and values of one layer, and the look back of one new token."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class KeyValues:
    """Of B rows with H key heads of width D at up to M places, allocated once.

    Keys lie transposed. The products of one token's queries with them are many and small, and on a CPU their cost is
    the reading: with the places side by side it is a third of what `scaled_dot_product_attention` takes for one token
    (docs/performance.md).
    """

    keys_BHDM: Tensor
    values_BHMD: Tensor

    @classmethod
    def empty(cls, size: tuple[int, int, int, int], *, dtype: torch.dtype, device: torch.device) -> KeyValues:
        """For (rows, key heads, width, places). Zeros: what is masked must be finite."""
        rows, heads, width, places = size
        keys = torch.zeros(size, dtype=dtype, device=device)
        return cls(keys, torch.zeros(rows, heads, places, width, dtype=dtype, device=device))

    @property
    def places(self) -> int:
        return self.values_BHMD.shape[2]

    def put_prompts(self, rows: list[int], keys_PHSD: Tensor, values_PHSD: Tensor) -> None:
        """The first S places of these rows."""
        upto = keys_PHSD.shape[2]
        self.keys_BHDM[rows, :, :, :upto] = keys_PHSD.transpose(2, 3)
        self.values_BHMD[rows, :, :upto] = values_PHSD

    def put_tokens(self, rows_B: Tensor, places_B: Tensor, keys_BHD: Tensor, values_BHD: Tensor) -> None:
        """One place of every row, each its own."""
        self.keys_BHDM[rows_B, :, :, places_B] = keys_BHD
        self.values_BHMD[rows_B, :, places_B] = values_BHD

    def attend(self, queries_BQD: Tensor, mask_N1L: Tensor, scaling: float) -> Tensor:
        """What each row's Q queries find at the first L places: [B, Q D].

        The mask is added, its N = B H: 0 where a row looks, -inf elsewhere. Queries that share a key head stand where a
        sequence would: all of them look back from one place.
        """
        rows, heads, width, _ = self.keys_BHDM.shape
        places = mask_N1L.shape[2]
        grouped_NGD = queries_BQD.reshape(rows * heads, -1, width)
        keys_NDL, values_NLD = self.keys_BHDM.flatten(0, 1)[:, :, :places], self.values_BHMD.flatten(0, 1)[:, :places]
        weights_NGL = torch.baddbmm(mask_N1L, grouped_NGD, keys_NDL, alpha=scaling).softmax(dim=-1)
        return torch.bmm(weights_NGL, values_NLD).view(rows, -1)

    def of(self, rows: Tensor) -> KeyValues:
        """Of these rows alone."""
        return KeyValues(self.keys_BHDM[rows], self.values_BHMD[rows])
