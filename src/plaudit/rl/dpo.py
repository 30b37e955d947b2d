"""Act III without a judge: direct preference optimisation (Rafailov et al. 2023, 2305.18290).

The policy is its own judge: beta times the log-ratio to the reference is the score that the ranking loss takes. So the
same rankings, the same loss over the pairs of a prompt and the same reference as in Acts II and III, and no sampling.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from plaudit.data.batching import token_budget_batches
from plaudit.data.chat import Chat
from plaudit.models.fitting import micro_batches
from plaudit.models.optimization import Stepper
from plaudit.models.pace import Pace
from plaudit.models.sequences import bundle, predicting_states, shared_prompts
from plaudit.models.trunk import Trunk
from plaudit.progress import Journal
from plaudit.rankings import pair_accuracy, ranking_loss, ranks_of
from plaudit.recipe import DPO
from plaudit.rl.records import STATE, export_policy, keep_policy
from plaudit.rl.rollout import POLICY
from plaudit.tensors import token_logprobs
from plaudit.types import Bundle, InputError, Judgement, TrainingError


@dataclass(frozen=True, kw_only=True)
class Preference:
    """One ranking as the policy takes it: K responses, mostly in one bundle, each without its last token."""

    bundles: tuple[Bundle, ...]
    tokens_N: Tensor
    """What is predicted: the tokens of every response, EOS included, response after response."""
    lengths: tuple[int, ...]
    ranks_K: Tensor
    unordered: tuple[int, ...]
    margin: float
    weight: float
    """Of its objective; below 0 the ranking is turned round."""
    reference_K: Tensor
    """Log-probs of the responses under the reference, nats."""

    @property
    def num_tokens(self) -> int:
        return sum(len(b) for b in self.bundles)


def dpo(
    trunk: Trunk,
    chat: Chat,
    training: Sequence[Judgement],
    held_out: Sequence[Judgement],
    config: DPO,
    *,
    objective_weights: Mapping[str, float],
    seed: int,
    journal: Journal,
    folder: Path,
) -> dict[str, float]:
    """Train the policy on rankings, and write to `folder`: `model/` (merged), `adapter/` (PEFT), `state.safetensors`.

    It starts as the trunk itself, which is the reference too. Returns the last step's metrics.
    """
    objectives = sorted({one.objective for one in [*training, *held_out]})
    if unknown := sorted(set(objective_weights) - set(objectives)):
        raise InputError(
            f"ppo.objective_weights names {', '.join(unknown)}, but the rankings' objectives are "
            f"{', '.join(objectives)}"
        )
    if not any(objective_weights.get(one.objective, 1.0) for one in training):
        raise InputError("no rankings are left to train the policy on: every objective weighs 0, or there are none")
    trunk.add_part(POLICY, config.adapter.kind, rank=config.adapter.rank, alpha=config.adapter.alpha, seed=seed)
    shown, testing = (prepare(trunk, chat, some, config, objective_weights) for some in (training, held_out))
    pace, micro = Pace(trunk), micro_batches(config.tokens_per_microbatch, journal.say)
    micro.run(partial(add_reference, trunk, [*shown, *testing]), where="Act III, DPO, the reference")
    steps_per_epoch = math.ceil(len(shown) / config.batch_size)
    num_steps = steps_per_epoch * config.epochs
    stepper = Stepper(
        [(list(trunk.part(POLICY).parameters()), config.optimizer.learning_rate)], config.optimizer, num_steps
    )
    journal.rewind(-1)  # stopped half-way, this act begins anew
    metrics: dict[str, float] = {}
    tested: dict[str, float] = {}

    for step in journal.track(range(num_steps), "DPO", num_steps):
        epoch, place = divmod(step, steps_per_epoch)
        order = np.random.default_rng([seed, epoch]).permutation(len(shown))
        batch = [shown[i] for i in order[place * config.batch_size : (place + 1) * config.batch_size]]
        attempt = partial(batch_gradients, trunk, batch, config)
        pace.begin()
        with pace("train"):
            metrics = micro.run(attempt, drop=stepper.drop, where=f"Act III, DPO, step {step}")
        if not math.isfinite(metrics["loss"]):
            raise TrainingError(
                f"Act III, DPO, step {step}: the loss is {metrics['loss']}; no policy was saved. "
                "Lower dpo.optimizer.learning_rate"
            )
        metrics["learning_rate"] = stepper.learning_rate
        metrics["grad_norm"] = stepper.step(f"Act III, DPO, step {step}")
        stepper.advance()
        predicted = sum(len(one.tokens_N) for one in batch)
        groups = token_budget_batches([p.num_tokens for p in batch], micro.count)
        lines = [[len(b) for r in rows for b in batch[r].bundles] for rows in groups]
        speed = pace.of_training("train", config.adapter, lines, predicted=predicted)
        if testing and place + 1 == steps_per_epoch:
            tested = micro.run(partial(evaluate, trunk, testing, config), where=f"Act III, DPO, behind step {step}")
            metrics |= tested
        journal.log(step + 1, metrics | speed)

    keep_policy(trunk, folder / STATE)
    export_policy(trunk, chat, folder)
    return metrics | tested | {"rankings": float(len(shown)), "steps": float(num_steps)}


def batch_gradients(
    trunk: Trunk, batch: Sequence[Preference], config: DPO, tokens_per_microbatch: int
) -> dict[str, float]:
    """Add up the gradients of a batch of rankings; what it cost, and how the policy has moved on it."""
    found: list[dict[str, float]] = []
    for rows in token_budget_batches([p.num_tokens for p in batch], tokens_per_microbatch):
        losses_R, figures = judge_by_policy(trunk, [batch[r] for r in rows], config)
        (losses_R.sum() / len(batch)).backward()
        found += figures
    return means(found)


@torch.no_grad()
def evaluate(trunk: Trunk, preferences: Sequence[Preference], config: DPO, tokens_per_batch: int) -> dict[str, float]:
    """The same figures over rankings that were not trained on."""
    found: list[dict[str, float]] = []
    for rows in token_budget_batches([p.num_tokens for p in preferences], tokens_per_batch):
        found += judge_by_policy(trunk, [preferences[r] for r in rows], config)[1]
    return {f"held_out_{key}": value for key, value in means(found).items()}


def judge_by_policy(trunk: Trunk, some: Sequence[Preference], config: DPO) -> tuple[Tensor, list[dict[str, float]]]:
    """Loss of each ranking [R], and its figures. Of the preferred the log-ratio often falls too (2404.19733): then both
    are forgotten, the worse one faster."""
    losses: list[Tensor] = []
    figures: list[dict[str, float]] = []
    for one, logratio_K in zip(some, response_logratios(trunk, some, part=POLICY), strict=True):
        losses.append(cost(one, logratio_K, config))
        # An objective of negative weight is to be got away from: its order counts the other way round.
        signed_K = math.copysign(1.0, one.weight) * logratio_K.detach().cpu()
        right, pairs = pair_accuracy(signed_K, one.ranks_K)
        figures.append({
            "loss": losses[-1].item(),
            "right": right,
            "pairs": pairs,
            "best_logratio": logratio_K[int(one.ranks_K.argmin())].item(),
            "worst_logratio": logratio_K[int(one.ranks_K.argmax())].item(),
        })  # fmt: skip
    return torch.stack(losses), figures


def means(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of rankings; the accuracy is that of all pairs together."""
    told = ("loss", "best_logratio", "worst_logratio")
    pairs = sum(one["pairs"] for one in figures)
    accuracy = sum(one["right"] for one in figures) / max(pairs, 1)
    return {key: float(np.mean([one[key] for one in figures])) for key in told} | {"accuracy": accuracy}


def cost(one: Preference, logratio_K: Tensor, config: DPO) -> Tensor:
    """Nats per pair: the ranking loss of the scores beta log(policy / reference)."""
    scores_K = math.copysign(1.0, one.weight) * config.beta * logratio_K
    loss = ranking_loss(scores_K, one.ranks_K, unordered=one.unordered, margin=one.margin, smoothing=config.smoothing)
    return abs(one.weight) * loss


def response_logratios(trunk: Trunk, some: Sequence[Preference], *, part: str | None) -> list[Tensor]:
    """log(policy / reference) of each response [K], nats, per ranking."""
    logprobs = response_logprobs(trunk, some, part=part)
    return [own_K - one.reference_K.to(own_K) for own_K, one in zip(logprobs, some, strict=True)]


def response_logprobs(trunk: Trunk, some: Sequence[Preference], *, part: str | None) -> list[Tensor]:
    """Log-prob of each response as a whole [K], nats, per ranking."""
    states_ND = predicting_states(trunk, [b for one in some for b in one.bundles], part=part)
    tokens_N = torch.cat([one.tokens_N for one in some]).to(trunk.device)
    logprobs_N, _ = token_logprobs(states_ND, tokens_N, trunk.head(part))
    lengths = [length for one in some for length in one.lengths]
    sums_B = torch.stack([piece.sum() for piece in logprobs_N.split(lengths)])
    return list(sums_B.split([len(one.lengths) for one in some]))


def prepare(
    trunk: Trunk,
    chat: Chat,
    judgements: Sequence[Judgement],
    config: DPO,
    objective_weights: Mapping[str, float],
) -> list[Preference]:
    """Rankings, still without the reference's log-probs. Objectives that weigh nothing are left out."""
    found: list[Preference] = []
    for one in judgements:
        weight = objective_weights.get(one.objective, 1.0)
        if weight == 0:
            continue
        encoded = [chat.encode(one.prompt, response.text) for response in one.responses]
        prompts = [torch.tensor(e.tokens[: e.num_prompt]) for e in encoded]
        said = [torch.tensor(e.tokens[e.num_prompt :]) for e in encoded]
        groups = shared_prompts(trunk, prompts, [len(s) - 1 for s in said])
        found.append(
            Preference(
                bundles=tuple(bundle(prompts[rows[0]], [said[r][:-1] for r in rows]) for rows in groups),
                tokens_N=torch.cat(said),
                lengths=tuple(len(s) for s in said),
                ranks_K=ranks_of(one.ranking, len(one.responses)),
                unordered=one.unordered,
                margin=config.margin * (one.strength or 0.0),
                weight=weight,
                reference_K=torch.zeros(len(said)),
            )
        )
    return found


@torch.no_grad()
def add_reference(trunk: Trunk, some: Sequence[Preference], tokens_per_batch: int) -> None:
    """Fill in the reference's log-probs, which stay as they are."""
    for rows in token_budget_batches([p.num_tokens for p in some], tokens_per_batch):
        for r, reference_K in zip(rows, response_logprobs(trunk, [some[r] for r in rows], part=None), strict=True):
            some[r].reference_K.copy_(reference_K)
