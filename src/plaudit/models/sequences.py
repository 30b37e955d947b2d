"""Running ragged sequences through the trunk, and picking the states that something is read from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from plaudit.data.batching import pad_right
from plaudit.models.trunk import Trunk


def run_top(trunk: Trunk, inputs: Sequence[Tensor], *, part: str | None) -> tuple[Tensor, Tensor]:
    """Pad a micro-batch of the top's inputs and run it: (states [B, S, D], mask [B, S])."""
    padded, mask_BS = pad_right(list(inputs), 0)
    return trunk(padded, mask_BS, part=part), mask_BS


def predicting_states(
    trunk: Trunk, inputs: Sequence[Tensor], num_prompts: Sequence[int], *, part: str | None
) -> Tensor:
    """The states [N, D] from which the response tokens are predicted, sequence after sequence.

    The token at position s is predicted at s - 1: a response of R tokens behind P prompt tokens is read at
    P - 1 .. P + R - 2. The value of a token stands at the same place.
    """
    states_BSD, mask_BS = run_top(trunk, inputs, part=part)
    positions = torch.arange(mask_BS.shape[1], device=mask_BS.device)
    first = torch.tensor(num_prompts, device=mask_BS.device).unsqueeze(1) - 1
    last = mask_BS.sum(dim=1, keepdim=True) - 2
    return states_BSD[(positions >= first) & (positions <= last)]


def last_states(trunk: Trunk, inputs: Sequence[Tensor], *, part: str | None) -> Tensor:
    """The states [B, D] at each sequence's last real token, its EOS."""
    states_BSD, mask_BS = run_top(trunk, inputs, part=part)
    rows = torch.arange(len(inputs), device=mask_BS.device)
    return states_BSD[rows, mask_BS.sum(dim=1) - 1]
