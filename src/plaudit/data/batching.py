"""Ragged sequences into batches of about equal cost."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def token_budget_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indices in groups of like length, the longest first, each of at most `budget` tokens once padded.

    A sequence longer than the budget is a group by itself.
    """
    groups: list[list[int]] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if groups and (len(groups[-1]) + 1) * longest <= budget:
            groups[-1].append(index)
        else:
            groups.append([index])
            longest = lengths[index]
    return groups


def pad_right(tensors: Sequence[Tensor], value: float) -> tuple[Tensor, Tensor]:
    """B tensors [S_b, ...] -> (padded [B, S, ...], mask [B, S] bool: True is real), S the longest.

    The mask comes from the lengths, never from the padding's value: that may be a real token (pad = EOS).
    """
    lengths = torch.tensor([len(tensor) for tensor in tensors], device=tensors[0].device)
    padded = torch.nn.utils.rnn.pad_sequence(list(tensors), batch_first=True, padding_value=value)
    mask = torch.arange(padded.shape[1], device=padded.device) < lengths[:, None]
    return padded, mask


def padding_share(groups: Sequence[Sequence[int]]) -> float:
    """Of the places of batches, each with lines of so many tokens, the share that is padding."""
    return 1 - sum(map(sum, groups)) / sum(len(group) * max(group) for group in groups)
