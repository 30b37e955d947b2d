"""Act II: train the judge on whole rankings, K forward passes for the C(K,2) pairs of a prompt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from plaudit.models.optimization import Stepper
from plaudit.models.sequences import run_lower
from plaudit.progress import Journal
from plaudit.recipe import Reward
from plaudit.reward.loss import pair_accuracy, ranking_loss, ranks_of
from plaudit.reward.model import RewardModel
from plaudit.types import Bundle, InputError, Judgement, TrainingError


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """One judgement as the judge takes it: K responses, mostly in one bundle, and their ranks."""

    bundles: tuple[Bundle, ...]
    ranks_K: Tensor
    objective: int
    margin: float

    @property
    def num_tokens(self) -> int:
        return sum(len(b) for b in self.bundles)


def train_judge(
    judge: RewardModel,
    training: Sequence[Judgement],
    held_out: Sequence[Judgement],
    config: Reward,
    *,
    seed: int,
    journal: Journal,
) -> dict[str, float]:
    """Train in place; returns the last losses and accuracies. Judgements of one prompt must be on one side."""
    if not training:
        raise InputError("no rankings are left to train the judge on")
    rankings, testing = prepare(judge, training), prepare(judge, held_out)
    steps_per_epoch = math.ceil(len(rankings) / config.batch_size)
    num_steps = steps_per_epoch * config.epochs
    stepper = Stepper([(judge.parameters(), config.optimizer.learning_rate)], config.optimizer, num_steps)
    now: dict[str, float] = {}
    tested: dict[str, float] = {}

    for step in journal.track(range(num_steps), "training the judge", num_steps):
        epoch, place = divmod(step, steps_per_epoch)
        order = np.random.default_rng([seed, epoch]).permutation(len(rankings))
        batch = [rankings[i] for i in order[place * config.batch_size : (place + 1) * config.batch_size]]
        loss, correct, decided = 0.0, 0.0, 0
        for group in whole_rankings(batch, config.tokens_per_microbatch):
            losses, right, pairs = judge_rankings(judge, group)
            micro_loss = losses.sum() / len(batch)
            micro_loss.backward()
            loss, correct, decided = loss + micro_loss.item(), correct + right, decided + pairs
        if not math.isfinite(loss):
            raise TrainingError(
                f"Act II, step {step}: the loss is {loss}; no judge was saved. Lower reward.optimizer.learning_rate"
            )
        rate = stepper.learning_rate
        grad_norm = stepper.step(f"Act II, step {step}")
        stepper.advance()
        now = {"loss": loss, "accuracy": correct / max(decided, 1)}
        metrics = now | {"learning_rate": rate, "grad_norm": grad_norm}
        if testing and place + 1 == steps_per_epoch:
            tested = evaluate(judge, testing, config)
            metrics |= tested
        journal.log(step + 1, metrics)
    # Not the accuracy: that of the last training batch says little.
    return {"loss": now["loss"]} | tested | {"rankings": float(len(rankings)), "steps": float(num_steps)}


def prepare(judge: RewardModel, judgements: Sequence[Judgement]) -> list[Ranking]:
    """Encode, and run the frozen lower trunk once for all epochs."""
    bundles = [judge.bundles([j.prompt] * len(j.responses), [r.text for r in j.responses]) for j in judgements]
    run = iter(run_lower(judge.trunk, [one for several in bundles for one in several]))
    return [
        Ranking(
            bundles=tuple(next(run) for _ in several),
            ranks_K=ranks_of(j.ranking, len(j.responses)),
            objective=judge.objectives.index(j.objective),
            margin=j.strength or 0.0,
        )
        for j, several in zip(judgements, bundles, strict=True)
    ]


def whole_rankings(batch: Sequence[Ranking], budget: int) -> list[list[Ranking]]:
    """Micro-batches of about `budget` tokens that never part a ranking."""
    groups: list[list[Ranking]] = []
    room = 0
    for ranking in sorted(batch, key=lambda r: r.num_tokens):
        if not groups or ranking.num_tokens > room:
            groups.append([])
            room = budget
        groups[-1].append(ranking)
        room -= ranking.num_tokens
    return groups


def judge_rankings(judge: RewardModel, rankings: Sequence[Ranking]) -> tuple[Tensor, float, int]:
    """Loss of each ranking [R], pairs in the right order, pairs that are no ties."""
    scores_BO = judge.raw_scores([b for r in rankings for b in r.bundles])
    losses: list[Tensor] = []
    correct, decided = 0.0, 0
    start = 0
    for ranking in rankings:
        scores_K = scores_BO[start : start + len(ranking.ranks_K), ranking.objective]
        start += len(ranking.ranks_K)
        losses.append(ranking_loss(scores_K, ranking.ranks_K, margin=ranking.margin))
        right, pairs = pair_accuracy(scores_K.detach().cpu(), ranking.ranks_K)
        correct, decided = correct + right, decided + pairs
    return torch.stack(losses), correct, decided


@torch.no_grad()
def evaluate(judge: RewardModel, rankings: Sequence[Ranking], config: Reward) -> dict[str, float]:
    """Mean loss per ranking (nats) and pair accuracy on rankings that were not trained on."""
    loss, correct, decided = 0.0, 0.0, 0
    for group in whole_rankings(rankings, config.tokens_per_microbatch):
        losses, right, pairs = judge_rankings(judge, group)
        loss, correct, decided = loss + losses.sum().item(), correct + right, decided + pairs
    return {"held_out_loss": loss / len(rankings), "held_out_accuracy": correct / max(decided, 1)}
