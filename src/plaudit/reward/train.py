"""Act II: train the judge on whole rankings, K forward passes for the C(K,2) pairs of a prompt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from plaudit.models.optimization import MicroBatches, Stepper
from plaudit.models.sequences import last_states
from plaudit.progress import Journal
from plaudit.recipe import Reward
from plaudit.reward.loss import pair_accuracy, pairs_of, ranking_loss, ranks_of
from plaudit.reward.model import RewardModel
from plaudit.reward.probe import Pairs, fit_probe
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
    micro = MicroBatches(config.tokens_per_microbatch)
    now: dict[str, float] = {}
    tested: dict[str, float] = {}
    if config.head_start == "probe":
        now = start_from_probe(judge, rankings, [j.prompt.id for j in training], config, seed=seed)
        tested = evaluate(judge, testing, config) if testing else {}
        journal.log(0, now | tested)

    for step in journal.track(range(num_steps), "training the judge", num_steps):
        epoch, place = divmod(step, steps_per_epoch)
        order = np.random.default_rng([seed, epoch]).permutation(len(rankings))
        batch = [rankings[i] for i in order[place * config.batch_size : (place + 1) * config.batch_size]]
        attempt = partial(batch_gradients, judge, batch)
        loss, accuracy = micro.run(attempt, drop=stepper.drop, where=f"Act II, step {step}")
        if not math.isfinite(loss):
            raise TrainingError(
                f"Act II, step {step}: the loss is {loss}; no judge was saved. Lower reward.optimizer.learning_rate"
            )
        rate = stepper.learning_rate
        grad_norm = stepper.step(f"Act II, step {step}")
        stepper.advance()
        now |= {"loss": loss, "accuracy": accuracy}
        metrics = now | {"learning_rate": rate, "grad_norm": grad_norm}
        if testing and place + 1 == steps_per_epoch:
            tested = evaluate(judge, testing, config)
            metrics |= tested
        journal.log(step + 1, metrics)
    # Not the accuracy: that of the last training batch says little.
    now.pop("accuracy", None)
    return now | tested | {"rankings": float(len(rankings)), "steps": float(num_steps)}


def batch_gradients(judge: RewardModel, batch: Sequence[Ranking], tokens_per_microbatch: int) -> tuple[float, float]:
    """Add up the gradients of a batch of rankings: its mean loss, and its pair accuracy."""
    loss, correct, decided = 0.0, 0.0, 0
    for group in whole_rankings(batch, tokens_per_microbatch):
        losses, right, pairs = judge_rankings(judge, group)
        micro_loss = losses.sum() / len(batch)
        micro_loss.backward()
        loss, correct, decided = loss + micro_loss.item(), correct + right, decided + pairs
    return loss, correct / max(decided, 1)


def prepare(judge: RewardModel, judgements: Sequence[Judgement]) -> list[Ranking]:
    return [
        Ranking(
            bundles=tuple(judge.bundles([j.prompt] * len(j.responses), [r.text for r in j.responses])),
            ranks_K=ranks_of(j.ranking, len(j.responses)),
            objective=judge.objectives.index(j.objective),
            margin=j.strength or 0.0,
        )
        for j in judgements
    ]


@torch.no_grad()
def start_from_probe(
    judge: RewardModel, rankings: Sequence[Ranking], prompts: Sequence[str], config: Reward, *, seed: int
) -> dict[str, float]:
    """Set each head to the best linear judge on the states of the model as it is.

    `probe_loss/<objective>` is cross-validated (nats per ranking), `probe_ridge/<objective>` the penalty it chose.
    """
    order: list[int] = []
    states: list[Tensor] = []
    places = {id(r): i for i, r in enumerate(rankings)}
    for group in whole_rankings(rankings, config.tokens_per_microbatch):
        found_BD = last_states(judge.trunk, [b for r in group for b in r.bundles], part=judge.part).float().cpu()
        states += found_BD.split([len(r.ranks_K) for r in group])
        order += [places[id(r)] for r in group]
    figures: dict[str, float] = {}
    for o, objective in enumerate(judge.objectives):
        chosen = [(rankings[i], states_KD, prompts[i]) for i, states_KD in zip(order, states, strict=True)]
        chosen = [one for one in chosen if one[0].objective == o]
        if chosen:
            weight_D, ridge, loss = fit_probe(pairs_for_probe(*zip(*chosen, strict=True)), seed=seed)
            judge.head.weight[o] = weight_D
            figures |= {f"probe_loss/{objective}": loss, f"probe_ridge/{objective}": ridge}
    return figures


def pairs_for_probe(rankings: Sequence[Ranking], states: Sequence[Tensor], prompts: Sequence[str]) -> Pairs:
    made = [pairs_of(r.ranks_K, margin=r.margin) for r in rankings]
    return Pairs(
        differences_MD=torch.cat([s[first] - s[second] for s, (first, second, _, _) in zip(states, made, strict=True)]),
        targets_M=torch.cat([targets for _, _, targets, _ in made]).double(),
        margins_M=torch.cat([shift for _, _, _, shift in made]).double(),
        weights_M=torch.cat([torch.full((len(t),), 1 / len(t)) for _, _, t, _ in made]).double(),
        prompts=[p for p, (_, _, t, _) in zip(prompts, made, strict=True) for _ in range(len(t))],
    )


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
