"""Keys and values of a running batch: one token's attention against a slow one in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from plaudit.models.cache import KeyValues, KeyValuesOfCPU, KeyValuesOfGPU

ROWS, HEADS, GROUP, WIDTH, PLACES = 3, 2, 3, 4, 9
LENGTHS = (4, 6, 1)
"""Tokens of each row, the new one among them."""


def slowly(queries_QD: Tensor, keys_HTD: Tensor, values_HTD: Tensor, scaling: float) -> Tensor:
    """softmax(q k^T s) v for one row, each query by itself; `GROUP` queries share a key head."""
    found: list[Tensor] = []
    for number, query_D in enumerate(queries_QD.double()):
        keys_TD, values_TD = keys_HTD[number // GROUP].double(), values_HTD[number // GROUP].double()
        weights = [math.exp(scaling * float(query_D @ key_D)) for key_D in keys_TD]
        mixed = sum(weight * value_D for weight, value_D in zip(weights, values_TD, strict=True))
        found.append(torch.as_tensor(mixed) / sum(weights))
    return torch.cat(found)


def past(generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    """Keys and values [H, T, D] of each row."""
    return [
        (torch.randn(HEADS, n, WIDTH, generator=generator), torch.randn(HEADS, n, WIDTH, generator=generator))
        for n in LENGTHS
    ]


def empty(kind: type[KeyValues], dtype: torch.dtype) -> KeyValues:
    """The GPU's kind takes room in eights."""
    if kind is KeyValuesOfCPU:
        return KeyValues.empty((ROWS, HEADS, WIDTH, PLACES), dtype=dtype, device=torch.device("cpu"))
    room = torch.zeros(ROWS, HEADS, 16, WIDTH, dtype=dtype)
    return KeyValuesOfGPU(room, room.clone())


def filled(kind: type[KeyValues], rows: list[tuple[Tensor, Tensor]], dtype: torch.dtype) -> KeyValues:
    """What was before comes as padded prompts, the last token of each row by itself."""
    cache = empty(kind, dtype)
    longest = max(LENGTHS) - 1
    padded = torch.full((2, ROWS, HEADS, longest, WIDTH), 50.0)  # what is masked must not be felt
    for row, ((keys, values), length) in enumerate(zip(rows, LENGTHS, strict=True)):
        padded[0, row, :, : length - 1], padded[1, row, :, : length - 1] = keys[:, :-1], values[:, :-1]
    order = [2, 0, 1]
    cache.put_prompts(order, padded[0, order].to(dtype), padded[1, order].to(dtype))
    last_keys, last_values = (torch.stack([one[i][:, -1] for one in rows]).to(dtype) for i in (0, 1))
    cache.put_tokens(torch.arange(ROWS), torch.tensor(LENGTHS) - 1, last_keys, last_values)
    return cache


def unseen(lengths: tuple[int, ...]) -> Tensor:
    """[B, L], True where a row must not look."""
    return torch.arange(max(LENGTHS)) >= torch.tensor(lengths).unsqueeze(1)


@pytest.mark.parametrize("kind", [KeyValuesOfCPU, KeyValuesOfGPU])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_a_token_looks_back_over_its_own_row(kind: type[KeyValues], dtype: torch.dtype, tolerance: float) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = past(generator)
    queries = torch.randn(ROWS, HEADS * GROUP, WIDTH, generator=generator)
    cache = filled(kind, rows, dtype)
    found = cache.attend(queries.to(dtype), cache.mask(unseen(LENGTHS)), 0.7)
    assert found.shape == (ROWS, HEADS * GROUP * WIDTH)
    for row, (keys, values) in enumerate(rows):
        expected = slowly(queries[row], keys, values, 0.7)
        assert torch.allclose(found[row].double(), expected, atol=tolerance), row
    kept = cache.of(torch.tensor([2, 1]))
    assert isinstance(kept, kind)
    again = kept.attend(queries[[2, 1]].to(dtype), kept.mask(unseen((LENGTHS[2], LENGTHS[1]))), 0.7)
    assert torch.allclose(again.double(), found[[2, 1]].double(), atol=tolerance / 10)
    assert cache.places == (PLACES if kind is KeyValuesOfCPU else 16)
