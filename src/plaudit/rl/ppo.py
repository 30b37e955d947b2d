"""Act III: PPO against a reward, held near its start by a KL leash.

One step: rollout, score, shape, advantages, update, log. See docs/details.md for where each detail comes from.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from plaudit.data.batching import padding_share, token_budget_batches
from plaudit.data.chat import Chat
from plaudit.models.fitting import unsaid
from plaudit.models.heads import ValueHead, ValueStart
from plaudit.models.optimization import Stepper
from plaudit.models.pace import Pace
from plaudit.models.sequences import predicting_states
from plaudit.models.trunk import Trunk
from plaudit.progress import Journal
from plaudit.recipe import PPO
from plaudit.rl.advantages import gae
from plaudit.rl.controllers import KLController
from plaudit.rl.costs import ppo_flops
from plaudit.rl.doubtful import note_doubtful
from plaudit.rl.loss import approximate_kl, policy_loss, sampler_weights, value_loss
from plaudit.rl.records import (
    POLICIES,
    dump_rollout,
    export_policy,
    keep_policy,
    load_policy,
    resume_state,
    rewind,
    save_state,
    show_samples,
)
from plaudit.rl.rollout import POLICY, VALUE, Limits, collect, recomputes, rows_of, sampling_of
from plaudit.rl.shaping import (
    bend_scores,
    combine_objectives,
    kl_estimate,
    leave_one_out,
    shape_rewards,
)
from plaudit.tensors import masked_mean, masked_variance, token_logprobs, whiten
from plaudit.types import Prompt, RewardFunction, Rollout, TrainingError


class Learner:
    """What is trained: the policy's part, the value's part and head, an optimiser for each, and the leash.

    Two optimisers, so that neither's gradient norm eats the other's clip, and no coefficient has to weigh them.
    """

    def __init__(
        self,
        trunk: Trunk,
        config: PPO,
        *,
        seed: int,
        value_start: ValueStart | None,
        say: Callable[[str], None] = unsaid,
    ) -> None:
        self.trunk, self.config, self.seed = trunk, config, seed
        policy, value = config.adapter, config.value_adapter
        trunk.add_part(POLICY, policy.kind, rank=policy.rank, alpha=policy.alpha, seed=seed)
        if value is not None:
            trunk.add_part(VALUE, value.kind, rank=value.rank, alpha=value.alpha, seed=seed)
        self.parts = (POLICY,) if value is None else (POLICY, VALUE)
        self.value_head = ValueHead(trunk.width).to(trunk.device)
        if value_start is not None:
            trunk.part(VALUE).load_state_dict(trunk.part(value_start.part).state_dict())
            self.value_head.weight.data.copy_(value_start.weight_D)
            self.value_head.bias.data.fill_(value_start.bias)
        value_parameters = [p for part in self.parts[1:] for p in trunk.part(part).parameters()]
        value_parameters += self.value_head.parameters()
        rate = config.optimizer.learning_rate
        self.policy_stepper = Stepper([(list(trunk.part(POLICY).parameters()), rate)], config.optimizer, config.steps)
        self.value_stepper = Stepper(
            [(value_parameters, config.value_learning_rate or rate)], config.optimizer, config.steps
        )
        self.limits = Limits.of(config, say)
        self.pace = Pace(trunk)
        self.controller = KLController(config.kl)

    def drop(self) -> None:
        """Forget the gradients."""
        self.policy_stepper.drop()
        self.value_stepper.drop()


def ppo(
    trunk: Trunk,
    chat: Chat,
    reward: RewardFunction,
    prompts: Sequence[Prompt],
    config: PPO,
    *,
    seed: int,
    journal: Journal,
    folder: Path,
    value_start: ValueStart | None = None,
    start_from: Path | None = None,
) -> dict[str, float]:
    """Train the policy, and write to `folder`: `model/` (merged), `adapter/` (PEFT), `state.safetensors`.

    The policy starts as the trunk itself, or as that of an earlier round (`start_from`, its folder); the reference is
    the trunk in any case. Goes on from `state.safetensors` where a run was stopped. Returns the last step's metrics.
    """
    learner = Learner(trunk, config, seed=seed, value_start=value_start, say=journal.say)
    if start_from is not None:
        load_policy(learner, start_from)
    start = resume_state(learner, folder)
    journal.rewind(start)
    rewind(folder, start)
    decoder = trunk.decoder(POLICY)
    metrics = journal.logged(start)  # where the run was stopped behind its last step, what it returns

    for step in journal.track(range(start, config.steps), "PPO", config.steps - start):
        with trunk.memory.kept():
            began = time.perf_counter()
            phases = learner.pace
            phases.begin()
            with phases("generate"):
                trunk.refresh(decoder, POLICY)
            chosen = draw_prompts(prompts, config.prompts_per_step, seed=seed, step=step)
            rollout = collect(
                trunk,
                learner.value_head,
                decoder,
                chat,
                reward,
                chosen,
                config,
                seed=seed,
                step=step,
                phases=phases,
                limits=learner.limits,
            )

            score_B = combine_objectives(rollout.scores_BO, reward.objectives, config.objective_weights)
            score_B = bend_scores(score_B, config.score_bend, limit=config.score_limit)
            score_B = score_B - config.missing_eos_penalty * ~rollout.finished_B
            score_B = (score_B - config.unfamiliar_penalty * rollout.unfamiliar_B).to(trunk.device)
            kl_BT = kl_estimate(rollout.logprobs_BT, rollout.ref_logprobs_BT, config.kl.estimator)
            coefficient = learner.controller.coefficient
            relative_B = (
                leave_one_out(score_B, config.responses_per_prompt) if config.baseline == "leave_one_out" else score_B
            )
            rewards_BT = shape_rewards(relative_B, kl_BT, rollout.response_mask_BT, coefficient=coefficient)

            advantages_BT, returns_BT = gae(
                rewards_BT, rollout.values_BT, rollout.response_mask_BT, gamma=config.gamma, lam=config.lam
            )
            if config.whiten_advantages:
                advantages_BT = whiten(advantages_BT, rollout.response_mask_BT)

            with phases("train"):
                metrics = update(learner, rollout, advantages_BT, returns_BT, step=step)

            kl_B = (rollout.logprobs_BT - rollout.ref_logprobs_BT).where(rollout.response_mask_BT, 0.0).sum(dim=1)
            learner.controller.update(float(kl_B.mean()), len(kl_B))
            metrics |= describe(rollout, rewards_BT, score_B, kl_B, returns_BT, objectives=reward.objectives)
            if recomputes(trunk, config):
                metrics |= sampler_mismatch(rollout)
            seconds = time.perf_counter() - began
            metrics |= {"kl_coefficient": coefficient, "seconds": seconds}
            metrics |= speed(learner, rollout, seconds, minibatches=int(metrics["minibatches_done"]))
            journal.log(step + 1, metrics)
            if step % config.samples_every == 0 or step + 1 == config.steps:
                show_samples(rollout, score_B, kl_B, step=step, journal=journal, folder=folder)
            note_doubtful(rollout, score_B, sampling_of(config, seed), step=step, folder=folder)
            if config.dump_rollouts:
                dump_rollout(rollout, rewards_BT, advantages_BT, step=step, folder=folder)
            if config.keep_policy_every is not None and (step + 1) % config.keep_policy_every == 0:
                keep_policy(trunk, folder / POLICIES / f"step_{step + 1:05d}.safetensors")
            if (step + 1) % config.checkpoint_every == 0 and step + 1 < config.steps:
                save_state(learner, folder, step=step + 1)
            del rollout  # its states are not held beside those of the next one

    save_state(learner, folder, step=config.steps)
    export_policy(trunk, chat, folder)
    return metrics


def speed(learner: Learner, rollout: Rollout, seconds: float, *, minibatches: int) -> dict[str, float]:
    """Where a step's time went, and what share of the device's matrix-product rate each phase reached."""
    trunk, config, pace = learner.trunk, learner.config, learner.pace
    said, bundles = float(rollout.response_mask_BT.sum()), len(rollout.bundles)
    flops = ppo_flops(
        pace.network,
        config,
        trunk.split_depth,
        tokens=sum(map(len, rollout.bundles)),
        said=said,
        checkpointing=trunk.activation_checkpointing,
        recomputed=recomputes(trunk, config),
    )
    flops["train"] *= minibatches / (config.epochs * min(config.minibatches, bundles))  # epochs may end early
    for phase in ("score", "train"):
        flops[phase] += pace.lower_flops(phase)
    if judged := pace.forward_flops("reward"):  # by a judge on this trunk
        flops["reward"] = judged
    return (
        {f"seconds/{phase}": taken for phase, taken in pace.seconds.items()}
        | {f"tokens_per_second/{phase}": said / taken for phase, taken in pace.seconds.items()}
        | {f"utilisation/{phase}": pace.utilisation(phase, done) for phase, done in flops.items()}
        | {"tokens_per_second": said / seconds}
    )


def draw_prompts(prompts: Sequence[Prompt], count: int, *, seed: int, step: int) -> list[Prompt]:
    """The prompts of a step: pass after pass over all of them, each pass in an order of its own."""
    drawn: list[Prompt] = []
    for position in range(step * count, (step + 1) * count):
        turn, place = divmod(position, len(prompts))
        drawn.append(prompts[np.random.default_rng([seed, turn]).permutation(len(prompts))[place]])
    return drawn


def update(
    learner: Learner, rollout: Rollout, advantages_BT: Tensor, returns_BT: Tensor, *, step: int
) -> dict[str, float]:
    """Some epochs over one rollout, in minibatches; they end early when the policy has moved too far from it.

    Returns the means over the minibatches. `first_ratio_error` is the largest |ratio - 1| before anything moved:
    far from 0 it means that sampling and training do not see the same model.
    """
    config, num_bundles = learner.config, len(rollout.bundles)
    seen: list[dict[str, float]] = []
    stopped = False
    for epoch in range(config.epochs):
        order = np.random.default_rng([learner.seed, step, epoch]).permutation(num_bundles)
        for chosen in np.array_split(order, min(config.minibatches, num_bundles)):
            where = f"Act III, step {step}, epoch {epoch}"
            attempt = partial(minibatch_gradients, learner, rollout, advantages_BT, returns_BT, chosen.tolist())
            stats = learner.limits.tokens.run(attempt, drop=learner.drop, where=where)
            for name in ("policy_loss", "value_loss"):
                if not math.isfinite(stats[name]):
                    raise TrainingError(
                        f"{where}: the {name} is {stats[name]}; the last checkpoint is kept. "
                        "Lower ppo.optimizer.learning_rate"
                    )
            stopped = (
                bool(seen) and config.stop_epochs_at_kl is not None and stats["approx_kl"] > config.stop_epochs_at_kl
            )
            if stopped:
                break
            lengths = [len(rollout.bundles[c]) for c in chosen]
            groups = token_budget_batches(lengths, learner.limits.tokens.count)
            stats["padding"] = padding_share([[lengths[i] for i in group] for group in groups])
            stats["grad_norm"] = learner.policy_stepper.step(f"{where}, policy")
            stats["value_grad_norm"] = learner.value_stepper.step(f"{where}, value")
            seen.append(stats)
        if stopped:
            break
    rate = learner.policy_stepper.learning_rate
    learner.drop()
    for stepper in (learner.policy_stepper, learner.value_stepper):
        stepper.advance()
    means = {name: float(np.mean([stats[name] for stats in seen])) for name in seen[0]}
    return means | {
        "first_ratio_error": seen[0]["ratio_error"],
        "minibatches_done": float(len(seen)),
        "learning_rate": rate,
    }


def minibatch_gradients(
    learner: Learner,
    rollout: Rollout,
    advantages_BT: Tensor,
    returns_BT: Tensor,
    chosen: Sequence[int],
    tokens_per_microbatch: int,
) -> dict[str, float]:
    """Add up the gradients of a minibatch of bundles, micro-batch by micro-batch. Every mean is over the real tokens of
    the whole minibatch, so that the size of the micro-batches changes nothing."""
    config, trunk = learner.config, learner.trunk
    places = rows_of(rollout.bundles)
    num_tokens = int(rollout.response_mask_BT[[r for c in chosen for r in places[c]]].sum())
    seen: list[dict[str, Tensor]] = []
    for micro in token_budget_batches([len(rollout.bundles[c]) for c in chosen], tokens_per_microbatch):
        bundles = [rollout.bundles[chosen[m]] for m in micro]
        rows = [r for m in micro for r in places[chosen[m]]]
        mask_BT = rollout.response_mask_BT[rows]

        def real(grid_BT: Tensor, rows: list[int] = rows, mask_BT: Tensor = mask_BT) -> Tensor:
            return grid_BT[rows][mask_BT]

        old_logprobs_N = real(rollout.logprobs_BT)
        states_ND = predicting_states(trunk, bundles, part=POLICY)
        logprobs_N, entropy_N = token_logprobs(
            states_ND,
            real(rollout.response_tokens_BT),
            trunk.head(POLICY),
            temperature=config.temperature,
            top_p=config.top_p,
        )
        policy_losses_N = policy_loss(logprobs_N, old_logprobs_N, real(advantages_BT), clip=config.clip)
        weights_N = sampler_weights(old_logprobs_N, real(rollout.sampler_logprobs_BT), cap=config.sampler_weight_cap)
        policy_losses_N = weights_N * policy_losses_N
        (policy_losses_N.sum() / num_tokens).backward()

        if config.value_adapter is None:
            value_states_ND = states_ND.detach()  # the policy's states are not shaped by the value's errors
        else:
            value_states_ND = predicting_states(trunk, bundles, part=VALUE)
        values_N = learner.value_head(value_states_ND)
        value_losses_N = value_loss(values_N, real(rollout.values_BT), real(returns_BT), clip=config.value_clip)
        (value_losses_N.sum() / num_tokens).backward()

        with torch.no_grad():
            ratio_N = (logprobs_N - old_logprobs_N).exp()
            seen.append(
                {
                    "policy_loss": policy_losses_N.sum(),
                    "value_loss": value_losses_N.sum(),
                    "approx_kl": approximate_kl(logprobs_N, old_logprobs_N).sum(),
                    "clip_fraction": ((ratio_N - 1).abs() > config.clip).sum(),
                    "entropy": entropy_N.sum(),
                    "ratio_error": (ratio_N - 1).abs().max(),
                }
            )
    # Fetched at the end alone: until then a GPU need not be waited for.
    largest = max(float(one.pop("ratio_error")) for one in seen)
    return {name: sum(float(one[name]) for one in seen) / num_tokens for name in seen[0]} | {"ratio_error": largest}


def describe(
    rollout: Rollout,
    rewards_BT: Tensor,
    score_B: Tensor,
    kl_B: Tensor,
    returns_BT: Tensor,
    *,
    objectives: Sequence[str],
) -> dict[str, float]:
    """What the step saw, over real tokens alone."""
    mask_BT = rollout.response_mask_BT
    unexplained = masked_variance(returns_BT - rollout.values_BT, mask_BT)
    spread = masked_variance(returns_BT, mask_BT)
    return {
        "reward": float(rewards_BT.sum(dim=1).mean()),
        "score": float(score_B.mean()),
        "score_spread": float(rollout.spread_BO.mean()),
        "unfamiliar_share": float(rollout.unfamiliar_B.float().mean()),
        "kl": float(kl_B.mean()),
        "response_length": float(mask_BT.sum(dim=1).float().mean()),
        "finished_share": float(rollout.finished_B.float().mean()),
        "value": float(masked_mean(rollout.values_BT, mask_BT)),
        "explained_variance": float(1 - unexplained / spread.clamp(min=1e-8)),
    } | {f"score/{name}": float(rollout.scores_BO[:, o].mean()) for o, name in enumerate(objectives)}


def sampler_mismatch(rollout: Rollout) -> dict[str, float]:
    """How far the distribution that was sampled from is from the trunk's, over real tokens alone."""
    mask_BT = rollout.response_mask_BT
    logprobs_N, sampler_logprobs_N = rollout.logprobs_BT[mask_BT], rollout.sampler_logprobs_BT[mask_BT]
    return {
        "sampler_mismatch/kl": float(approximate_kl(logprobs_N, sampler_logprobs_N).mean()),
        "sampler_mismatch/largest": float((logprobs_N - sampler_logprobs_N).abs().max()),
    }
