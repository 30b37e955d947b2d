"""What follows from logits: the tokens that are drawn, and how the host hears of them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from plaudit.models.replay import Replay
from plaudit.tensors import nucleus
from plaudit.types import Sampling

BLOCK = 256
"""Tokens of the vocabulary that are summed together in a draw."""


class Chooser:
    """What follows from logits: a token for each row, and what is told of it."""

    def __init__(
        self, sampling: Sampling, eos_ids: frozenset[int], closing: int | None, *, greedy: bool, like: Tensor
    ) -> None:
        self.sampling, self.greedy, self.closing = sampling, greedy, closing
        self.ends_V = torch.zeros(like.shape[-1], dtype=torch.bool, device=like.device)
        self.ends_V[[i for i in eos_ids if i < like.shape[-1]]] = True
        self.replay = Replay[tuple[Tensor, Tensor]]()

    def forget(self) -> None:
        """There are other rows from now on."""
        self.replay = Replay[tuple[Tensor, Tensor]]()

    def __call__(self, logits_BV: Tensor, uniforms_B: Tensor, spent_B: Tensor) -> tuple[Tensor, Tensor]:
        """(tokens that go on [B], where `closing` stands for one that ends, and in rows that have said all; [3, B] in
        float64: token, log-prob, 1 where it ends its row)."""
        return self.replay(self._choose, logits_BV, uniforms_B, spent_B)

    def _choose(self, logits_BV: Tensor, uniforms_B: Tensor, spent_B: Tensor) -> tuple[Tensor, Tensor]:
        logits_BV = nucleus(logits_BV.float() / self.sampling.temperature, self.sampling.top_p)
        chances_BV = logits_BV.softmax(dim=-1)
        chosen_B = logits_BV.argmax(dim=-1) if self.greedy else draw(chances_BV, uniforms_B)
        logprobs_B = chances_BV.gather(-1, chosen_B.unsqueeze(1)).squeeze(1).log()
        ended_B = self.ends_V[chosen_B]
        told_3B = torch.stack([chosen_B.double(), logprobs_B.double(), ended_B.double()])
        return chosen_B if self.closing is None else chosen_B.masked_fill(ended_B | spent_B, self.closing), told_3B


class Fetched:
    """A small tensor on its way to the host; it need not wait for what is asked of the device later."""

    def __init__(self, values: Tensor) -> None:
        self.arrived: torch.cuda.Event | None = None
        self.values = values
        if values.is_cuda:
            self.values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self.values.copy_(values, non_blocking=True)
            self.arrived = torch.cuda.Event()
            self.arrived.record()

    def read(self) -> list[list[float]]:
        if self.arrived is not None:
            self.arrived.synchronize()
        return self.values.tolist()


def draw(chances_BV: Tensor, uniforms_B: Tensor) -> Tensor:
    """Tokens [B] by the inverse of the cumulative distribution, at `uniforms_B` in [0, 1), float64.

    First the block of tokens, then the token in it: sums over a whole vocabulary are summed in float64, since rounding
    in float32 would leave its tail unreachable, and are short this way.
    """
    blocks_BNW = pad(chances_BV, (0, -chances_BV.shape[1] % BLOCK)).unflatten(1, (-1, BLOCK))
    upto_BN = blocks_BNW.sum(dim=-1).cumsum(dim=-1, dtype=torch.float64)
    target_B1 = uniforms_B.unsqueeze(1) * upto_BN[:, -1:]
    block_B1 = torch.searchsorted(upto_BN, target_B1, right=True).clamp(max=upto_BN.shape[1] - 1)
    end_B1 = upto_BN.gather(1, block_B1)
    start_B1 = upto_BN.gather(1, (block_B1 - 1).clamp(min=0)).masked_fill(block_B1 == 0, 0.0)
    rows = torch.arange(len(chances_BV), device=chances_BV.device)
    within_BW = blocks_BNW[rows, block_B1.squeeze(1)].cumsum(dim=-1, dtype=torch.float64)
    # As a share of the block, whose own sum is rounded otherwise.
    share_B1 = (target_B1 - start_B1) / (end_B1 - start_B1)
    token_B1 = torch.searchsorted(within_BW, share_B1 * within_BW[:, -1:], right=True).clamp(max=BLOCK - 1)
    return (block_B1 * BLOCK + token_B1).squeeze(1)
