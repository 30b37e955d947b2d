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
from plaudit.models.replay import Replay
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
    """Boundary states [T, B, D] of sampled tokens, as they come."""

    def __init__(self, shape_TB: tuple[int, int]) -> None:
        self.shape_TB = shape_TB
        self.states_TBD: Tensor | None = None

    def keep(self, t: int, rows: Tensor, states_BD: Tensor | None) -> None:
        assert states_BD is not None, "prompts had boundary states, their tokens have none"
        if self.states_TBD is None:
            self.states_TBD = states_BD.new_empty(*self.shape_TB, states_BD.shape[1])
        self.states_TBD[t].index_copy_(0, rows, states_BD)

    def states(self, row: int, count: int) -> Tensor:
        """The first `count` states [count, D] of a sequence."""
        assert self.states_TBD is not None, "a sequence is closed, so that there are states"
        return self.states_TBD[:count, row]


class _Fetched:
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


class _Chooser:
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

    def __call__(self, logits_BV: Tensor, uniforms_B: Tensor) -> tuple[Tensor, Tensor]:
        """(tokens that go on [B], where `closing` stands for one that ends; [3, B] in float64: token, log-prob, 1 where
        it ends its row)."""
        return self.replay(self._choose, logits_BV, uniforms_B)

    def _choose(self, logits_BV: Tensor, uniforms_B: Tensor) -> tuple[Tensor, Tensor]:
        logits_BV = nucleus(logits_BV.float() / self.sampling.temperature, self.sampling.top_p)
        chances_BV = logits_BV.softmax(dim=-1)
        chosen_B = logits_BV.argmax(dim=-1) if self.greedy else draw(chances_BV, uniforms_B)
        logprobs_B = chances_BV.gather(-1, chosen_B.unsqueeze(1)).squeeze(1).log()
        ended_B = self.ends_V[chosen_B]
        told_3B = torch.stack([chosen_B.double(), logprobs_B.double(), ended_B.double()])
        return chosen_B if self.closing is None else chosen_B.masked_fill(ended_B, self.closing), told_3B


class _Said:
    """What each sequence of a batch has said so far."""

    def __init__(
        self,
        count: int,
        stopped: Callable[[Sequence[int]], bool] | None,
        hear: Callable[[int, int], None] | None,
    ) -> None:
        self.stopped, self.hear = stopped, hear
        self.tokens: list[list[int]] = [[] for _ in range(count)]
        self.logprobs: list[list[float]] = [[] for _ in range(count)]
        self.finished = [False] * count

    def add(self, row: int, token: int, logprob: float, *, ended: bool) -> bool:
        """One more token of an unfinished sequence; True where a stop string is what it ends with."""
        self.tokens[row].append(token)
        self.logprobs[row].append(logprob)
        stops = not ended and self.stopped is not None and self.stopped(self.tokens[row])
        self.finished[row] = ended or stops
        if self.hear is not None:
            self.hear(row, token)
        return stops

    def results(self, boundary: _Boundary, prompt_states: Sequence[Tensor] | None) -> list[Generated]:
        """`prompt_states` are those of each sequence's prompt; None: no states were kept."""
        made: list[Generated] = []
        for row, (tokens, logprobs, finished) in enumerate(zip(self.tokens, self.logprobs, self.finished, strict=True)):
            states: dict[str, Tensor] = {}
            if prompt_states is not None:
                upto = len(tokens) if finished else len(tokens) + 1
                states = {"prompt_states": prompt_states[row], "states": boundary.states(row, upto)}
            made.append(Generated(tokens=tokens, logprobs=logprobs, finished=finished, **states))
        return made


def _runs_ahead(logits: Tensor) -> bool:
    """Whether the next step is asked for before the last one's tokens are read: a GPU then never waits for us."""
    return logits.is_cuda


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
    logits, running, device = start.logits_BV, start.running, start.logits_BV.device
    if start.prompt_states is None:
        closing = None  # nothing would be kept of it
    greedy, limit = uniforms_BT is None, sampling.max_new_tokens
    choose = _Chooser(sampling, eos_ids, closing, greedy=greedy, like=logits)
    draws = (torch.zeros(len(prompts), limit) if greedy else torch.from_numpy(uniforms_BT)).to(device)
    said, boundary = _Said(len(prompts), stopped, hear), _Boundary((limit + 1, len(prompts)))
    rows = list(range(len(prompts)))  # which sequence each row of the running batch is
    rows_B = torch.arange(len(prompts), device=device)

    def step(chosen: Tensor, t: int) -> Tensor:
        logits = running.step(chosen)
        if closing is not None:
            boundary.keep(t, rows_B, running.boundary())
        return logits

    for t in range(limit):
        chosen, told = choose(logits, draws[:, t])
        fetched, last = _Fetched(told), t + 1 == limit
        ahead = step(chosen, t) if stopped is None and not last and _runs_ahead(logits) else None
        going: list[int] = []
        for i, (row, token, logprob, ended) in enumerate(zip(rows, *fetched.read(), strict=True)):
            if said.finished[row]:
                continue
            if said.add(row, int(token), logprob, ended=bool(ended)) and closing is not None:
                chosen[i] = closing  # what a judge reads is closed here too
            if not said.finished[row] or closing is not None:
                going.append(i)
        if last and closing is not None:
            boundary.keep(t, rows_B, running.step_lower(chosen))
            boundary.keep(t + 1, rows_B, running.step_lower(torch.full_like(chosen, closing)))
        if last or not going:
            break
        if len(going) <= (COMPACT_AT if device.type == "cpu" else COMPACT_AT_ON_GPU) * len(rows):
            keep = torch.tensor(going, device=device)
            running.keep(keep)
            choose.forget()
            chosen, draws, rows_B = chosen[keep], draws[keep], rows_B[keep]
            ahead = None if ahead is None else ahead[keep]
            rows = [rows[i] for i in going]
        logits = step(chosen, t) if ahead is None else ahead
    kept = start.prompt_states
    return said.results(boundary, None if kept is None or closing is None else [kept[copy] for copy in copies])


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
