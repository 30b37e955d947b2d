"""Act II: train the judge on whole rankings, K forward passes for the C(K,2) pairs of a prompt."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plaudit.models.fitting import AtATime, micro_batches
from plaudit.models.optimization import Stepper
from plaudit.models.pace import Pace
from plaudit.models.sequences import last_states
from plaudit.progress import Journal
from plaudit.rankings import pair_accuracy, ranks_of
from plaudit.recipe import Reward
from plaudit.reward.likelihood import JudgementModel, Said, said_by
from plaudit.reward.model import RewardModel
from plaudit.reward.probe import Pairs, fit_probe
from plaudit.types import Bundle, InputError, Judgement, TrainingError

ABOUT_PEOPLE = 0.03
"""Learning rate of what is learned beside the judge: log-odds and scores, not weights of a network."""


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """One judgement as the judge takes it: K responses, mostly in one bundle, and what was said of them."""

    bundles: tuple[Bundle, ...]
    said: Said
    weights_E: Tensor
    """How often each member of the judge has drawn the prompt."""

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
) -> dict[str, Any]:
    """Train in place; returns the last losses and accuracies, and what was learned of annotators where the recipe asks
    for it. Judgements of one prompt must be on one side."""
    if not training:
        raise InputError("no rankings are left to train the judge on")
    people = sorted({j.annotator for j in training})
    model = JudgementModel(config.likelihood, objectives=len(judge.objectives), annotators=people)
    model.to(judge.trunk.device)
    rankings = prepare(judge, model, training, draw=seed if config.bootstrap else None)
    testing = prepare(judge, model, held_out)
    steps_per_epoch = math.ceil(len(rankings) / config.batch_size)
    num_steps = steps_per_epoch * config.epochs
    groups = [(judge.parameters(), config.optimizer.learning_rate), (model.trained(), ABOUT_PEOPLE)]
    pace, micro = Pace(judge.trunk), micro_batches(config.tokens_per_microbatch, journal.say)
    if config.likelihood.annotators == "reliability":
        find_annotators(judge, model, rankings, config, micro, seed=seed, journal=journal)
    stepper = Stepper(groups, config.optimizer, num_steps)

    def held_out_figures(where: str) -> dict[str, float]:
        return micro.run(partial(evaluate, judge, model, testing), where=where) if testing else {}

    now: dict[str, float] = {}
    tested: dict[str, float] = {}
    if config.head_start == "probe":
        begin = partial(start_from_probe, judge, rankings, [j.prompt.id for j in training], config, seed=seed)
        now = micro.run(begin, where="Act II, the probe")
        tested = held_out_figures("Act II, behind the probe")
        journal.log(0, now | tested)

    for step in journal.track(range(num_steps), "training the judge", num_steps):
        batch = batch_of(rankings, step, config.batch_size, seed=seed)
        attempt = partial(batch_gradients, judge, model, batch, config, len(rankings))
        pace.begin()
        with pace("train"):
            loss, accuracy, _ = micro.run(attempt, drop=stepper.drop, where=f"Act II, step {step}")
        if not math.isfinite(loss):
            raise TrainingError(
                f"Act II, step {step}: the loss is {loss}; no judge was saved. Lower reward.optimizer.learning_rate"
            )
        rate = stepper.learning_rate
        grad_norm = stepper.step(f"Act II, step {step}")
        stepper.advance()
        now |= {"loss": loss, "accuracy": accuracy}
        metrics = now | {"learning_rate": rate, "grad_norm": grad_norm}
        groups = whole_rankings(batch, micro.count)
        lines = [[len(b) for ranking in group for b in ranking.bundles] for group in groups]
        metrics |= pace.of_training("train", config.adapter, lines)
        if (step + 1) % steps_per_epoch == 0:
            tested = held_out_figures(f"Act II, behind step {step}")
            metrics |= tested
        journal.log(step + 1, metrics)
    # Not the accuracy: that of the last training batch says little.
    now.pop("accuracy", None)
    now |= {"rankings": float(len(rankings)), "steps": float(num_steps)}
    return now | tested | model.figures(training)


def find_annotators(
    judge: RewardModel,
    model: JudgementModel,
    rankings: Sequence[Ranking],
    config: Reward,
    micro: AtATime,
    *,
    seed: int,
    journal: Journal,
) -> None:
    """One epoch in which all are believed alike, to see who contradicts a judge that has not heard him yet; then the
    judge is put back to where it began, since it has learned from everybody."""
    began = [parameter.detach().clone() for parameter in judge.parameters()]
    num_steps = math.ceil(len(rankings) / config.batch_size)
    stepper = Stepper([(judge.parameters(), config.optimizer.learning_rate)], config.optimizer, num_steps)
    fresh: list[tuple[Said, Tensor]] = []
    for step in journal.track(range(num_steps), "finding who errs", num_steps):
        batch = batch_of(rankings, step, config.batch_size, seed=seed)
        attempt = partial(batch_gradients, judge, model, batch, config, len(rankings))
        _, _, heard = micro.run(attempt, drop=stepper.drop, where=f"Act II, finding who errs, step {step}")
        stepper.step(f"Act II, finding who errs, step {step}")
        stepper.advance()
        if step >= num_steps // 2:  # at first the judge knows nothing that could be contradicted
            fresh += heard
    model.find_annotators(*zip(*fresh, strict=True))
    with torch.no_grad():
        for parameter, value in zip(judge.parameters(), began, strict=True):
            parameter.copy_(value)


def batch_of(rankings: Sequence[Ranking], step: int, batch_size: int, *, seed: int) -> list[Ranking]:
    """The rankings of a step: every epoch has an order of its own."""
    epoch, place = divmod(step, math.ceil(len(rankings) / batch_size))
    order = np.random.default_rng([seed, epoch]).permutation(len(rankings))
    return [rankings[i] for i in order[place * batch_size : (place + 1) * batch_size]]


def batch_gradients(
    judge: RewardModel,
    model: JudgementModel,
    batch: Sequence[Ranking],
    config: Reward,
    of_all: int,
    tokens_per_microbatch: int,
) -> tuple[float, float, list[tuple[Said, Tensor]]]:
    """Add up the gradients of a batch of rankings: its mean loss, its pair accuracy, and the scores [K, O] that it was
    given. The anchor counts once for all `of_all` rankings."""
    loss, correct, decided = 0.0, 0.0, 0
    heard: list[tuple[Said, Tensor]] = []
    if judge.members > 1 and config.anchor:
        (config.anchor * judge.head.strayed() / judge.members / of_all).backward()
    for group in whole_rankings(batch, tokens_per_microbatch):
        losses_RE, right, pairs, scores = judge_rankings(judge, model, group)
        heard += zip((ranking.said for ranking in group), scores, strict=True)
        weights_RE = torch.stack([ranking.weights_E for ranking in group]).to(losses_RE)
        micro_loss = (weights_RE * losses_RE).sum() / judge.members / len(batch)
        micro_loss.backward()
        loss, correct, decided = loss + micro_loss.item(), correct + right, decided + pairs
    return loss, correct / max(decided, 1), heard


def prepare(
    judge: RewardModel, model: JudgementModel, judgements: Sequence[Judgement], *, draw: int | None = None
) -> list[Ranking]:
    """Judgements as the judge takes them; with the seed `draw` each of several members has a bootstrap of its own."""
    return [
        Ranking(
            bundles=tuple(judge.bundles([j.prompt] * len(j.responses), [r.text for r in j.responses])),
            said=said_by(
                j,
                ranks_of(j.ranking, len(j.responses)),
                objective=judge.objectives.index(j.objective),
                annotator=model.index_of(j.annotator),
            ),
            weights_E=torch.ones(judge.members) if draw is None else drawn(j.prompt.id, judge.members, seed=draw),
        )
        for j in judgements
    ]


def drawn(prompt: str, members: int, *, seed: int) -> Tensor:
    """How often each member has drawn a prompt in its bootstrap: Poisson of 1, whatever else there is. Who is alone has
    drawn each once."""
    if members == 1:
        return torch.ones(1)
    digest = hashlib.sha256(f"{seed}/{prompt}".encode()).digest()[:8]
    return torch.from_numpy(np.random.default_rng(int.from_bytes(digest)).poisson(1.0, members)).float()


@torch.no_grad()
def start_from_probe(
    judge: RewardModel,
    rankings: Sequence[Ranking],
    prompts: Sequence[str],
    config: Reward,
    tokens_per_batch: int,
    *,
    seed: int,
) -> dict[str, float]:
    """Set each head to the best linear judge on the states of the model as it is.

    `probe_loss/<objective>` is cross-validated (nats per ranking), `probe_ridge/<objective>` the penalty it chose.
    """
    order: list[int] = []
    states: list[Tensor] = []
    places = {id(r): i for i, r in enumerate(rankings)}
    for group in whole_rankings(rankings, tokens_per_batch):
        found_BD = last_states(judge.trunk, [b for r in group for b in r.bundles], part=judge.part).float().cpu()
        states += found_BD.split([len(r.said.ranks_K) for r in group])
        order += [places[id(r)] for r in group]
    figures: dict[str, float] = {}
    for o, objective in enumerate(judge.objectives):
        chosen = [(rankings[i].said, states_KD, prompts[i]) for i, states_KD in zip(order, states, strict=True)]
        chosen = [one for one in chosen if one[0].objective == o]
        if chosen:
            pairs = pairs_for_probe(*zip(*chosen, strict=True), margin=config.likelihood.margin)
            weight_D, ridge, loss = fit_probe(pairs, seed=seed)
            judge.head.weight_EOD[:, o] = weight_D
            figures |= {f"probe_loss/{objective}": loss, f"probe_ridge/{objective}": ridge}
    return figures


def pairs_for_probe(said: Sequence[Said], states: Sequence[Tensor], prompts: Sequence[str], *, margin: float) -> Pairs:
    counts = [len(one.first_M) for one in said]
    return Pairs(
        differences_MD=torch.cat([s[one.first_M] - s[one.second_M] for s, one in zip(states, said, strict=True)]),
        targets_M=torch.cat([one.chance_M for one in said]).double(),
        margins_M=torch.cat([one.shift_M for one in said]).double() * margin,
        weights_M=torch.cat([torch.full((count,), 1 / count) for count in counts]).double(),
        prompts=[p for p, count in zip(prompts, counts, strict=True) for _ in range(count)],
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


def judge_rankings(
    judge: RewardModel, model: JudgementModel, rankings: Sequence[Ranking]
) -> tuple[Tensor, float, int, tuple[Tensor, ...]]:
    """Loss of each ranking to each member [R, E]; pairs in the right order by their mean, pairs that are no ties; and
    the members' mean scores of each ranking [K, O]."""
    said = [ranking.said for ranking in rankings]
    scores_BEO = judge.raw_scores([b for r in rankings for b in r.bundles])
    correct, decided = 0.0, 0
    scores = scores_BEO.detach().mean(dim=1).cpu().split([len(s.ranks_K) for s in said])
    for one, scores_KO in zip(said, scores, strict=True):
        right, pairs = pair_accuracy(scores_KO[:, one.objective], one.ranks_K)
        correct, decided = correct + right, decided + pairs
    losses_RE = torch.stack([model.losses(scores_BO, said) for scores_BO in scores_BEO.unbind(dim=1)], dim=1)
    return losses_RE, correct, decided, scores


@torch.no_grad()
def evaluate(
    judge: RewardModel, model: JudgementModel, rankings: Sequence[Ranking], tokens_per_batch: int
) -> dict[str, float]:
    """Mean loss per ranking (nats, the mean over members) and pair accuracy on rankings that were not trained on."""
    loss, correct, decided = 0.0, 0.0, 0
    for group in whole_rankings(rankings, tokens_per_batch):
        losses_RE, right, pairs, _ = judge_rankings(judge, model, group)
        loss, correct, decided = loss + losses_RE.mean(dim=1).sum().item(), correct + right, decided + pairs
    return {"held_out_loss": loss / len(rankings), "held_out_accuracy": correct / max(decided, 1)}
