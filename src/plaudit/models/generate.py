"""Sampling from any causal language model of transformers.

The prompt is computed once for all of its samples, finished sequences leave the batch, and each sample draws from
random numbers of its own (keyed by seed, step, prompt and sample), so that the same text comes out whatever the batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel

from plaudit.models.decoding import Decoder
from plaudit.models.fused import decoder_of
from plaudit.tensors import nucleus
from plaudit.types import Sampling

COMPACT_AT = 0.75
"""Finished sequences leave the batch when no more than this share still runs: moving the cache has a price too."""
COMPACT_AT_ON_GPU = 0.5
"""There a step's length hardly depends on its rows, and one with fewer must be recorded anew."""


BLOCK = 256
"""Tokens of the vocabulary that are summed together in a draw."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Generated:
    """One sampled continuation. `tokens` and `logprobs` include what ended it where `finished`: the EOS, or the token
    that completed a stop string."""

    tokens: list[int]
    logprobs: list[float]
    """Under the distribution that was sampled from: temperature and top-p applied."""
    finished: bool
    prompt_states: Tensor | None = None
    """States [P, D] below the decoder's split of the prompt's tokens; the samples of one prompt share the tensor."""
    states: Tensor | None = None
    """The same of the tokens and of the one that closes them: [T + 1, D], or [T, D] where that stands for their end."""


def sample_key(seed: int, step: int, prompt_id: str, sample: int) -> int:
    """The 64-bit key of one sample's random numbers."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{step}/{prompt_id}/{sample}".encode()).digest()[:8])


@torch.no_grad()
def generate(
    decoder: Decoder | PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    keys: Sequence[int] | None,
    sampling: Sampling,
    *,
    eos_ids: Collection[int],
    stopped: Callable[[Sequence[int]], bool] | None = None,
    batch_size: int = 64,
    closing: int | None = None,
    on_progress: Callable[[int], None] | None = None,
    on_token: Callable[[int, int], None] | None = None,
) -> list[Generated]:
    """Continue each prompt; equal neighbours share their prompt's computation. `keys` None: greedy.

    `stopped` is asked after each token that is no EOS whether the response ends with it (`Chat.stopper`). With
    `closing`, the id that ends a response as a judge reads it, boundary states are kept up to that id, where the
    decoder knows a split. `on_token` hears (index of the prompt, token) as they come. Returns one `Generated` per
    prompt, in order. A prompt must leave room for `max_new_tokens` in the context.
    """
    network = decoder_of(decoder) if isinstance(decoder, PreTrainedModel) else decoder
    # Long prompts together: little padding, and stable neighbours for prefix sharing.
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), list(prompts[i])))
    results: dict[int, Generated] = {}
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        uniforms = None if keys is None else np.stack([_uniforms(keys[r], sampling.max_new_tokens) for r in rows])
        some = [prompts[r] for r in rows]
        hear = None if on_token is None else partial(_heard, on_token, rows)
        batch = _generate_batch(network, some, uniforms, sampling, frozenset(eos_ids), closing, stopped, hear)
        results.update(zip(rows, batch, strict=True))
        if on_progress is not None:
            on_progress(len(rows))
    return [results[i] for i in range(len(prompts))]


def _heard(on_token: Callable[[int, int], None], prompts: list[int], row: int, token: int) -> None:
    on_token(prompts[row], token)


def _uniforms(key: int, count: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=key)).random(count)


class _Boundary:
    """Boundary states [B, T, D] of sampled tokens, as they come."""

    def __init__(self, shape_BT: tuple[int, int]) -> None:
        self.shape_BT = shape_BT
        self.states_BTD: Tensor | None = None

    def keep(self, rows: list[int], t: int, states_BD: Tensor | None) -> None:
        assert states_BD is not None, "prompts had boundary states, their tokens have none"
        if self.states_BTD is None:
            self.states_BTD = states_BD.new_empty(*self.shape_BT, states_BD.shape[1])
        self.states_BTD[rows, t] = states_BD

    def states(self, row: int, count: int) -> Tensor:
        """The first `count` states [count, D] of a sequence."""
        assert self.states_BTD is not None, "a sequence is closed, so that there are states"
        return self.states_BTD[row, :count]


def _generate_batch(
    decoder: Decoder,
    prompts: list[Sequence[int]],
    uniforms_BT: np.ndarray | None,
    sampling: Sampling,
    eos_ids: frozenset[int],
    closing: int | None,
    stopped: Callable[[Sequence[int]], bool] | None,
    hear: Callable[[int, int], None] | None,
) -> list[Generated]:
    distinct: dict[tuple[int, ...], int] = {}
    copies = [distinct.setdefault(tuple(p), len(distinct)) for p in prompts]
    start = decoder.start(list(distinct), copies, sampling.max_new_tokens + (closing is not None))
    logits, running = start.logits_BV, start.running
    if start.prompt_states is None:
        closing = None  # nothing would be kept of it
    device = logits.device
    compact_at = COMPACT_AT if device.type == "cpu" else COMPACT_AT_ON_GPU
    eos = torch.tensor(sorted(eos_ids), device=device)
    draws = None if uniforms_BT is None else torch.from_numpy(uniforms_BT).to(device)
    tokens: list[list[int]] = [[] for _ in prompts]
    logprobs: list[list[float]] = [[] for _ in prompts]
    finished = [False] * len(prompts)
    boundary = _Boundary((len(prompts), sampling.max_new_tokens + 1))
    rows = list(range(len(prompts)))  # which sequence each row of the running batch is
    for t in range(sampling.max_new_tokens):
        chosen, chosen_logprobs = _choose(logits, None if draws is None else draws[:, t], sampling)
        ended = torch.isin(chosen, eos)
        going: list[int] = []
        # Fetched together: a GPU is waited for once.
        fetched = torch.stack([chosen.double(), chosen_logprobs.double(), ended.double()]).tolist()
        for i, row in enumerate(rows):
            if finished[row]:
                continue
            token, logprob, end = int(fetched[0][i]), fetched[1][i], bool(fetched[2][i])
            tokens[row].append(token)
            logprobs[row].append(logprob)
            if not end and stopped is not None and stopped(tokens[row]):
                end = True
                ended[i] = True  # what a judge reads is closed here too
            finished[row] = end
            if hear is not None:
                hear(row, token)
            if not end or closing is not None:
                going.append(i)
        if closing is not None:
            chosen = chosen.masked_fill(ended, closing)
        if t + 1 == sampling.max_new_tokens:
            if closing is not None:
                boundary.keep(rows, t, running.step_lower(chosen))
                boundary.keep(rows, t + 1, running.step_lower(torch.full_like(chosen, closing)))
            break
        if not going:
            break
        if len(going) <= compact_at * len(rows):
            keep = torch.tensor(going, device=device)
            running.keep(keep)
            chosen = chosen[keep]
            draws = None if draws is None else draws[keep]
            rows = [rows[i] for i in going]
        logits = running.step(chosen)
        if closing is not None:
            boundary.keep(rows, t, running.boundary())
    said = zip(tokens, logprobs, finished, strict=True)
    if start.prompt_states is None or closing is None:
        return [Generated(tokens=a, logprobs=b, finished=c) for a, b, c in said]
    before = [start.prompt_states[copy] for copy in copies]
    return [
        Generated(
            tokens=a,
            logprobs=b,
            finished=c,
            prompt_states=before[row],
            states=boundary.states(row, len(a) if c else len(a) + 1),
        )
        for row, (a, b, c) in enumerate(said)
    ]


def _choose(logits: Tensor, uniforms_B: Tensor | None, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Tokens [B] and their log-probs [B]: the largest logit, or a draw."""
    chances_BV = nucleus(logits.float() / sampling.temperature, sampling.top_p).softmax(dim=-1)
    chosen_B = logits.argmax(dim=-1) if uniforms_B is None else draw(chances_BV, uniforms_B)
    return chosen_B, chances_BV.gather(-1, chosen_B.unsqueeze(1)).squeeze(1).log()


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
