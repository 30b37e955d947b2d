"""Sampling from any causal language model of transformers.

The prompt is computed once for all of its samples, finished sequences leave the batch and others take their places, and
each sample draws from random numbers of its own (keyed by seed, step, prompt and sample), so that the same text comes
out whatever the batch.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from plaudit.models.decoding import Decoder, Running, Start
from plaudit.models.drawing import Chooser, Fetched
from plaudit.models.fused import decoder_of
from plaudit.types import Sampling

COMPACT_AT = 0.75
"""Finished sequences leave the batch when no more than this share still runs: moving the cache has a price too."""
COMPACT_AT_ON_GPU = 0.5
"""There a step's length hardly depends on its rows, and one with fewer must be recorded anew."""
REFILL_AT = 0.875
"""While others wait, they take the places of finished sequences when no more than this share still runs: several
prompts are read at the price per token that many have."""
REFILL_AT_ON_GPU = 0.75
"""There reading starts some ten steps' worth of operations, however few the prompts."""


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
    # The longest first: what is allocated for them has room for whoever comes later. Equal ones stand side by side.
    waiting = deque(sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), list(prompts[i]))))
    said = _Said(len(prompts), sampling.max_new_tokens, stopped, on_token)
    call = _Call(network, prompts, keys, sampling, frozenset(eos_ids), closing)
    while waiting:
        _speak(call, said, waiting, batch_size, on_progress)
    return said.results(call)


def _uniforms(key: int, count: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=key)).random(count)


class _Said:
    """What each sequence has said so far, and the boundary states of it."""

    def __init__(
        self,
        count: int,
        limit: int,
        stopped: Callable[[Sequence[int]], bool] | None,
        hear: Callable[[int, int], None] | None,
    ) -> None:
        self.limit, self.stopped, self.hear = limit, stopped, hear
        self.tokens: list[list[int]] = [[] for _ in range(count)]
        self.logprobs: list[list[float]] = [[] for _ in range(count)]
        self.finished = [False] * count
        self.states_NTD: Tensor | None = None

    def add(self, sequence: int, token: int, logprob: float, *, ended: bool) -> bool:
        """One more token of an unfinished sequence; True where a stop string is what it ends with."""
        tokens = self.tokens[sequence]
        tokens.append(token)
        self.logprobs[sequence].append(logprob)
        stops = not ended and self.stopped is not None and self.stopped(tokens)
        self.finished[sequence] = ended or stops
        if self.hear is not None:
            self.hear(sequence, token)
        return stops

    def keep(self, sequences_B: Tensor, places_B: Tensor, states_BD: Tensor | None) -> None:
        """Boundary states of one token a sequence. What stands behind the last that is wanted is never read."""
        assert states_BD is not None, "prompts had boundary states, their tokens have none"
        if self.states_NTD is None:
            # Room for the tokens, for the one that closes, and for whatever a row does that has said all.
            self.states_NTD = states_BD.new_empty(len(self.tokens), self.limit + 2, states_BD.shape[1])
        self.states_NTD.index_put_((sequences_B, places_B.clamp(max=self.limit + 1)), states_BD)

    def results(self, call: _Call) -> list[Generated]:
        made: list[Generated] = []
        for i, (tokens, logprobs, finished) in enumerate(zip(self.tokens, self.logprobs, self.finished, strict=True)):
            states: dict[str, Tensor] = {}
            if call.closing is not None:
                assert self.states_NTD is not None, "a sequence is closed, so that there are states"
                upto = len(tokens) if finished else len(tokens) + 1
                states = {"prompt_states": call.prompt_states[i], "states": self.states_NTD[i, :upto]}
            made.append(Generated(tokens=tokens, logprobs=logprobs, finished=finished, **states))
        return made


class _Call:
    """What is asked of a decoder: prompts to continue, each by random numbers of its own."""

    def __init__(
        self,
        decoder: Decoder,
        prompts: Sequence[Sequence[int]],
        keys: Sequence[int] | None,
        sampling: Sampling,
        eos_ids: frozenset[int],
        closing: int | None,
    ) -> None:
        self.decoder, self.prompts, self.keys, self.sampling = decoder, prompts, keys, sampling
        self.eos_ids, self.closing = eos_ids, closing
        self.prompt_states: dict[int, Tensor] = {}

    def read(self, sequences: list[int], running: Running | None = None, rows: list[int] | None = None) -> Start:
        """The prompts of these sequences, each distinct one once: in a new batch, or in `rows` of one that runs."""
        distinct: dict[tuple[int, ...], int] = {}
        copies = [distinct.setdefault(tuple(self.prompts[i]), len(distinct)) for i in sequences]
        if running is None or rows is None:
            room = self.sampling.max_new_tokens + (self.closing is not None)
            start = self.decoder.start(list(distinct), copies, room)
        else:
            start = running.join(rows, list(distinct), copies)
        if start.prompt_states is None:
            self.closing = None  # nothing would be kept of it
        else:
            self.prompt_states |= {i: start.prompt_states[copy] for i, copy in zip(sequences, copies, strict=True)}
        return start

    def draws(self, sequences: list[int]) -> Tensor:
        """The random numbers [B, T] of these, in [0, 1)."""
        limit = self.sampling.max_new_tokens
        if self.keys is None:
            return torch.zeros(len(sequences), limit, dtype=torch.float64)
        return torch.from_numpy(np.stack([_uniforms(self.keys[i], limit) for i in sequences]))


@dataclass
class _Row:
    """Of the running batch."""

    sequence: int | None
    """Who speaks in it; None: nobody, any more."""
    owed: int = 0
    """Tokens that are yet to be read for their boundary states alone: all is said."""

    @property
    def speaks(self) -> bool:
        return self.sequence is not None and not self.owed


class _Batch:
    """The rows that speak side by side."""

    def __init__(self, call: _Call, said: _Said, start: Start, sequences: list[int]) -> None:
        self.call, self.said, self.running = call, said, start.running
        device = start.logits_BV.device
        self.rows = [_Row(one) for one in sequences]
        self.draws_BT = call.draws(sequences).to(device)
        self.sequences_B = torch.tensor(sequences, device=device)
        self.at_B = torch.zeros_like(self.sequences_B)
        """How many tokens each row was given since its prompt."""
        greedy = call.keys is None
        self.choose = Chooser(call.sampling, call.eos_ids, call.closing, greedy=greedy, like=start.logits_BV)

    @property
    def busy(self) -> list[int]:
        return [i for i, row in enumerate(self.rows) if row.sequence is not None]

    @property
    def speaks(self) -> bool:
        return any(row.speaks for row in self.rows)

    @property
    def goes_on(self) -> bool:
        """Whether a row has more than one token left to say."""
        spoken = [len(self.said.tokens[row.sequence]) for row in self.rows if row.sequence is not None and row.speaks]
        return any(count + 1 < self.said.limit for count in spoken)

    def next(self, logits_BV: Tensor) -> tuple[Tensor, Tensor]:
        """As `Chooser` tells it."""
        limit = self.said.limit
        uniforms_B = self.draws_BT.gather(1, self.at_B.clamp(max=limit - 1).unsqueeze(1)).squeeze(1)
        return self.choose(logits_BV, uniforms_B, self.at_B >= limit)

    def listen(self, told_3B: list[list[float]], chosen_B: Tensor) -> int:
        """Take down what was chosen. Returns how many rows were done with it."""
        closing, done = self.call.closing, 0
        for i, (row, token, logprob, ended) in enumerate(zip(self.rows, *told_3B, strict=True)):
            if row.sequence is None or row.owed:
                continue
            stops = self.said.add(row.sequence, int(token), logprob, ended=bool(ended))
            finished = self.said.finished[row.sequence]
            if not finished and len(self.said.tokens[row.sequence]) < self.said.limit:
                continue
            if closing is None:
                row.sequence, done = None, done + 1
                continue
            # An end is closed by what a judge reads there; what was cut off is read to its last token, then closed.
            row.owed = 1 if finished else 2
            if stops:
                chosen_B[i] = closing
        return done

    def step(self, chosen_B: Tensor) -> Tensor:
        logits_BV = self.running.step(chosen_B)
        self._keep(self.running.boundary())
        return logits_BV

    def step_lower(self, chosen_B: Tensor) -> None:
        """For boundary states alone."""
        self._keep(self.running.step_lower(chosen_B))

    def _keep(self, states_BD: Tensor | None) -> None:
        if self.call.closing is not None:
            self.said.keep(self.sequences_B, self.at_B, states_BD)
        self.at_B += 1

    def settle(self) -> int:
        """A token was read in each row. Returns how many rows were done with it."""
        done = 0
        for row in self.rows:
            if row.owed:
                row.owed -= 1
                if not row.owed:
                    row.sequence, done = None, done + 1
        return done

    def leave(self, of_rows: Tensor) -> Tensor:
        """Rows in which nobody speaks leave, where that is worth it: what is left of `of_rows`."""
        busy, share = self.busy, COMPACT_AT_ON_GPU if self.at_B.is_cuda else COMPACT_AT
        if not busy or len(busy) > share * len(self.rows):
            return of_rows
        keep_B = torch.tensor(busy, device=self.at_B.device)
        self.running.keep(keep_B)
        self.choose.forget()
        self.rows = [self.rows[i] for i in busy]
        self.draws_BT, self.sequences_B, self.at_B = (
            one[keep_B] for one in (self.draws_BT, self.sequences_B, self.at_B)
        )
        return of_rows[keep_B]

    def refill(self, logits_BV: Tensor, waiting: deque[int]) -> Tensor:
        """Who waits takes the rows in which nobody speaks, where that is worth it: the logits, theirs among them."""
        free = [i for i, row in enumerate(self.rows) if row.sequence is None]
        share = REFILL_AT_ON_GPU if self.at_B.is_cuda else REFILL_AT
        if not waiting or not free or len(self.rows) - len(free) > share * len(self.rows):
            return logits_BV
        free = free[: len(waiting)]
        coming = [waiting.popleft() for _ in free]
        start = self.call.read(coming, self.running, free)
        for i, sequence in zip(free, coming, strict=True):
            self.rows[i] = _Row(sequence)
        at = torch.tensor(free, device=self.at_B.device)
        self.draws_BT[at] = self.call.draws(coming).to(self.draws_BT)
        self.sequences_B[at] = torch.tensor(coming, device=at.device)
        self.at_B[at] = 0
        return logits_BV.index_copy(0, at, start.logits_BV)


def _runs_ahead(logits: Tensor) -> bool:
    """Whether the next step is asked for before the last one's tokens are read: a GPU then never waits for us."""
    return logits.is_cuda


def _speak(call: _Call, said: _Said, waiting: deque[int], size: int, on_progress: Callable[[int], None] | None) -> None:
    """As many as fit speak, and whoever waits behind them, where the decoder takes others in."""
    first = [waiting.popleft() for _ in range(min(size, len(waiting)))]
    start = call.read(first)
    batch, logits = _Batch(call, said, start, first), start.logits_BV
    if not batch.running.joins:
        waiting = deque()
    while batch.busy:
        if not batch.speaks and not waiting:  # what was cut off is closed
            batch.step_lower(torch.full_like(batch.at_B, call.closing or 0))
            done = batch.settle()
        else:
            chosen, told = batch.next(logits)
            fetched = Fetched(told)
            asks_ahead = _runs_ahead(logits) and said.stopped is None and (batch.goes_on or bool(waiting))
            ahead = batch.step(chosen) if asks_ahead else None
            done = batch.listen(fetched.read(), chosen)
            if ahead is not None:
                logits = ahead if waiting else batch.leave(ahead)
            elif batch.speaks or waiting:
                logits = batch.step(chosen if waiting else batch.leave(chosen))
            elif batch.busy:
                batch.step_lower(chosen)
            done += batch.settle()
            logits = batch.refill(logits, waiting)
        if on_progress is not None:
            on_progress(done)
