"""Act I: supervised fine-tuning on demonstrations, the loss on the completion alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from plaudit.data.batching import token_budget_batches
from plaudit.data.chat import Chat, Encoded
from plaudit.data.split import split_by_prompt
from plaudit.models.checkpoints import save_peft, save_tensors
from plaudit.models.fitting import micro_batches
from plaudit.models.loading import save_causal_lm
from plaudit.models.optimization import Stepper
from plaudit.models.pace import Pace
from plaudit.models.sequences import bundle, predicting_states
from plaudit.models.trunk import Trunk
from plaudit.progress import Journal
from plaudit.recipe import SFT
from plaudit.tensors import token_logprobs
from plaudit.types import Bundle, Demonstration, InputError, TrainingError

PART = "sft"


@dataclass(frozen=True, kw_only=True)
class Example:
    """One demonstration as the trunk takes it: nothing is read from the last token, so that it is left out."""

    bundle: Bundle
    completion: Tensor


def completion_loss(trunk: Trunk, examples: Sequence[Example]) -> Tensor:
    """Summed negative log-likelihood (nats) of the completions' tokens, EOS included; the prompt costs nothing."""
    states_ND = predicting_states(trunk, [e.bundle for e in examples], part=PART)
    tokens_N = torch.cat([e.completion for e in examples])
    return -token_logprobs(states_ND, tokens_N, trunk.head(PART))[0].sum()


def train_sft(
    trunk: Trunk,
    chat: Chat,
    demonstrations: Sequence[Demonstration],
    config: SFT,
    *,
    seed: int,
    journal: Journal,
    folder: Path,
) -> dict[str, float]:
    """Fine-tune, and write to `folder`: `model/` (merged, a Hugging Face folder) and `adapter/` (PEFT).

    Returns the final held-out loss and what led to it.
    """
    kept, held_out = split_by_prompt(demonstrations, config.held_out, seed, lambda d: d.prompt)
    if not kept:
        raise InputError("no demonstrations are left to train on (data.demonstrations, sft.held_out)")
    trunk.add_part(PART, config.adapter.kind, rank=config.adapter.rank, alpha=config.adapter.alpha, seed=seed)
    training, testing = (prepare(trunk, [chat.encode(d.prompt, d.response) for d in part]) for part in (kept, held_out))
    steps_per_epoch = math.ceil(len(training) / config.batch_size)
    num_steps = steps_per_epoch * config.epochs
    stepper = Stepper(
        [(list(trunk.part(PART).parameters()), config.optimizer.learning_rate)], config.optimizer, num_steps
    )
    pace, micro = Pace(trunk), micro_batches(config.tokens_per_microbatch, journal.say)

    def tested(where: str) -> dict[str, float]:
        return {"held_out_loss": micro.run(partial(evaluate, trunk, testing), where=where)} if testing else {}

    last = tested("Act I, before it")
    journal.rewind(-1)  # stopped half-way, this act begins anew
    journal.log(0, last)
    metrics: dict[str, float] = {}

    for step in journal.track(range(num_steps), "fine-tuning", num_steps):
        epoch, place = divmod(step, steps_per_epoch)
        order = np.random.default_rng([seed, epoch]).permutation(len(training))
        batch = [training[i] for i in order[place * config.batch_size : (place + 1) * config.batch_size]]
        num_tokens = sum(len(e.completion) for e in batch)
        pace.begin()
        with pace("train"):
            loss = micro.run(partial(batch_gradients, trunk, batch), drop=stepper.drop, where=f"Act I, step {step}")
        if not math.isfinite(loss):
            raise TrainingError(
                f"Act I, step {step}: the loss is {loss}; the model before this act is unchanged. "
                "Lower sft.optimizer.learning_rate"
            )
        rate = stepper.learning_rate
        grad_norm = stepper.step(f"Act I, step {step}")
        stepper.advance()
        metrics = {"loss": loss, "learning_rate": rate, "grad_norm": grad_norm, "tokens": float(num_tokens)}
        lines = [[len(batch[r].bundle) for r in rows] for rows in micro_batches_of(batch, micro.count)]
        metrics |= pace.of_training("train", config.adapter, lines, predicted=num_tokens)
        if place + 1 == steps_per_epoch:
            last = tested(f"Act I, behind step {step}")
            metrics |= last
        journal.log(step + 1, metrics)

    save(trunk, chat, folder)
    return {"loss": metrics["loss"], "examples": float(len(training)), "steps": float(num_steps)} | last


def batch_gradients(trunk: Trunk, batch: Sequence[Example], tokens_per_microbatch: int) -> float:
    """Add up the gradients of a batch; its loss per completion token."""
    num_tokens, loss = sum(len(e.completion) for e in batch), 0.0
    for rows in micro_batches_of(batch, tokens_per_microbatch):
        micro_loss = completion_loss(trunk, [batch[r] for r in rows]) / num_tokens
        micro_loss.backward()
        loss += micro_loss.item()
    return loss


def micro_batches_of(examples: Sequence[Example], tokens: int) -> list[list[int]]:
    """Which are padded together."""
    return token_budget_batches([len(e.bundle) for e in examples], tokens)


def prepare(trunk: Trunk, encoded: Sequence[Encoded]) -> list[Example]:
    tokens = [torch.tensor(e.tokens) for e in encoded]
    return [
        Example(bundle=bundle(t[:n], [t[n:-1]]), completion=t[n:].to(trunk.device))
        for t, n in zip(tokens, (e.num_prompt for e in encoded), strict=True)
    ]


@torch.no_grad()
def evaluate(trunk: Trunk, examples: Sequence[Example], tokens_per_batch: int) -> float:
    """Mean loss per completion token (nats)."""
    batches = micro_batches_of(examples, tokens_per_batch)
    total = sum(completion_loss(trunk, [examples[r] for r in rows]).item() for rows in batches)
    return total / sum(len(e.completion) for e in examples)


def save(trunk: Trunk, chat: Chat, folder: Path) -> None:
    save_tensors(folder / "part.safetensors", trunk.part(PART).state_dict(), {"trunk": trunk.hash()})
    save_peft(trunk, PART, folder / "adapter")
    save_causal_lm(trunk.decoding_copy(PART), folder / "model", eos_ids=chat.eos_ids, pad_id=chat.pad_id)
    chat.save(folder / "model")
