"""The gradients of a PPO step, which no batching, cache or recomputation changes, and when its epochs end."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny
from plaudit.models.fitting import micro_batches
from plaudit.models.generate import Generated, generate
from plaudit.models.sequences import bundle, predicting_states, run_lower
from plaudit.models.trunk import Trunk
from plaudit.recipe import Adapter, Optimizer
from plaudit.reward.model import RewardModel
from plaudit.rl.loss import value_loss
from plaudit.rl.ppo import minibatch_gradients, sampler_mismatch, update
from plaudit.rl.rollout import POLICY, VALUE, Limits, rows_of
from plaudit.types import Bundle, Rollout, TrainingError
from steps import FULL, LORA, advantages_like, config, gradients_of, littered, ready, rolled_out, sequences_of


@pytest.mark.parametrize(("kind", "depth", "adapter"), [("llama", 1, LORA), ("llama", 0, FULL), ("gpt2", 0, LORA)])
def test_any_microbatch_gives_the_same_gradients(kind: str, depth: int, adapter: Adapter) -> None:
    settings = config(adapter=adapter, value_adapter=adapter)
    learner, made = ready(settings, kind, split_depth=depth)
    rollout = rolled_out(learner, made, settings)
    targets = advantages_like(rollout)
    bundles = [3, 0, 5, 4]
    results: dict[int, tuple[dict[str, float], list[Tensor]]] = {}
    for budget in (1, 30, 10_000):
        figures = minibatch_gradients(learner, rollout, *targets, bundles, budget)
        results[budget] = figures, gradients_of(learner)
    figures, expected = results[1]
    for budget in (30, 10_000):
        for one, other in zip(results[budget][1], expected, strict=True):
            assert (one - other).norm() <= 1e-5 * other.norm() + 1e-8
        for name, value in figures.items():
            assert results[budget][0][name] == pytest.approx(value, abs=2e-6), name


def test_the_largest_ratio_is_that_of_all_micro_batches() -> None:
    """The policy has moved since: rows differ in how far, and one micro-batch holds them all or each one."""
    settings = config()
    learner, made = ready(settings)
    rollout = rolled_out(learner, made, settings)
    tiny.move(made, POLICY, by=0.02)
    targets = advantages_like(rollout)
    rows = list(range(len(rollout.bundles)))
    alone = [minibatch_gradients(learner, rollout, *targets, [row], 10_000)["ratio_error"] for row in rows]
    assert max(alone) > 1.5 * min(alone) > 0.0
    for budget in (1, 30, 10_000):
        seen = minibatch_gradients(learner, rollout, *targets, rows, budget)
        assert seen["ratio_error"] == pytest.approx(max(alone), rel=1e-3)


def test_a_step_that_ran_out_of_memory_is_the_same_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory runs out in the backward pass of the value, when the policy's gradient is there already."""
    settings = config()
    parts: list[list[Tensor]] = []
    for most in (4096, 40):
        learner, made = ready(settings)
        rollout = rolled_out(learner, made, settings)
        sizes: list[int] = []

        def tight(values: Tensor, *rest: Tensor, clip: float, most: int = most, sizes: list[int] = sizes) -> Tensor:
            sizes.append(len(values))
            if len(values) > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return value_loss(values, *rest, clip=clip)

        monkeypatch.setattr("plaudit.rl.ppo.value_loss", tight)
        update(learner, rollout, *advantages_like(rollout), step=0)
        parts.append([p.detach().clone() for name in (POLICY, VALUE) for p in made.part(name).parameters()])
        assert max(sizes) > 40
        assert (learner.limits.tokens.count < 4096) == (most == 40)
    for one, other in zip(*parts, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


def test_memory_that_runs_out_before_the_update_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """While sampling fewer rows speak side by side, while scoring fewer tokens are read in one pass, and the person is
    told so once each: the same text, log-probs and values."""
    settings = config(responses_per_prompt=2, prompts_per_step=6)
    rollouts: list[Rollout] = []
    for tight in (False, True):
        learner, made = ready(settings)
        told: list[str] = []
        learner.limits = Limits.of(settings, told.append)
        asked: list[int] = []

        def sampled(*args: Any, batch_size: int, most: int = 5 if tight else 99, **named: Any) -> list[Generated]:
            if batch_size > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return generate(*args, batch_size=batch_size, **named)

        def read(
            made: Trunk,
            some: Sequence[Bundle],
            *,
            part: str | None,
            most: int = 60 if tight else 9999,
            asked: list[int] = asked,
        ) -> Tensor:
            asked.append(sum(map(len, some)))
            if asked[-1] > most and len(some) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return predicting_states(made, some, part=part)

        monkeypatch.setattr("plaudit.rl.rollout.generate", sampled)
        monkeypatch.setattr("plaudit.rl.rollout.predicting_states", read)
        rollouts += [rolled_out(learner, made, settings, step=7), rolled_out(learner, made, settings, step=7)]
        assert max(asked) > 60
        if tight:
            assert (learner.limits.rows.count, 16 <= learner.limits.tokens.count < 128) == (3, True)
            assert told[:2] == [
                f"Act III, step 7, sampling: memory has run out; from here on {rows} responses at a time"
                for rows in (6, 3)
            ]
            assert all("Act III, step 7, scoring" in one for one in told[2:])
            assert len(told) == len(set(told)) > 2
        else:
            assert told == []
    for one in rollouts[1:]:
        assert one.texts == rollouts[0].texts
        for name in ("logprobs_BT", "ref_logprobs_BT", "values_BT"):
            torch.testing.assert_close(getattr(one, name), getattr(rollouts[0], name), atol=2e-5, rtol=0)


def test_memory_that_holds_not_even_one_row_is_an_error() -> None:
    def never(tokens: int) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")

    dropped: list[int] = []
    with pytest.raises(TrainingError, match="Act III, step 2: memory does not suffice even for 12 tokens at a time"):
        micro_batches(100).run(never, drop=lambda: dropped.append(1), where="Act III, step 2")
    assert len(dropped) == 4  # 100, 50, 25, 12


@pytest.mark.parametrize(("kind", "depth"), [("llama", 1), ("qwen2", 0), ("gpt2", 0), ("gpt_neox", 1)])
def test_a_shared_prompt_gives_the_same_step(kind: str, depth: int) -> None:
    """Responses that stand behind one copy of their prompt, and each behind its own: the same sampled text, log-probs,
    values and gradients."""
    settings = config(responses_per_prompt=3, prompts_per_step=4, old_logprobs="recomputed")
    seen: list[tuple[Rollout, dict[str, float], list[Tensor]]] = []
    for shares in (True, False):
        learner, made = ready(settings, kind, split_depth=depth)
        assert made.shares_prompts
        made.shares_prompts = shares
        rollout = rolled_out(learner, made, settings)
        every = list(range(len(rollout.bundles)))
        figures = minibatch_gradients(learner, rollout, *advantages_like(rollout), every, 4096)
        seen.append((rollout, figures, gradients_of(learner)))
    (shared, figures, gradients), (single, expected, wanted) = seen
    assert (len(shared.bundles), len(single.bundles)) == (4, 12)
    assert sum(len(b) for b in shared.bundles) < sum(len(b) for b in single.bundles)
    assert shared.texts == single.texts
    for name in ("logprobs_BT", "ref_logprobs_BT", "values_BT"):
        torch.testing.assert_close(getattr(shared, name), getattr(single, name), atol=2e-5, rtol=0)
    for name, value in figures.items():
        assert value == pytest.approx(expected[name], abs=2e-5), name
    for one, other in zip(gradients, wanted, strict=True):
        assert (one - other).norm() <= 1e-5 * other.norm() + 1e-8


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gpt_neox"])
def test_states_that_are_kept_give_the_same_gradients(kind: str) -> None:
    """As generation left them, or computed by each part anew because memory has no room."""
    settings = config(responses_per_prompt=3, prompts_per_step=4)
    seen: list[tuple[Rollout, list[Tensor]]] = []
    for gigabytes in (1.0, 0.0):
        learner, made = ready(settings, kind, split_depth=1)
        made.memory.gigabytes = gigabytes
        rollout = rolled_out(learner, made, settings)
        assert all(one.inputs.dim() == (2 if gigabytes else 1) for one in rollout.bundles)
        every = list(range(len(rollout.bundles)))
        minibatch_gradients(learner, rollout, *advantages_like(rollout), every, 60)
        seen.append((rollout, gradients_of(learner)))
    (kept, gradients), (anew, wanted) = seen
    assert kept.texts == anew.texts
    for one, other in zip(gradients, wanted, strict=True):
        assert (one - other).norm() <= 1e-5 * other.norm() + 1e-8


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_the_states_that_generation_leaves_are_those_that_are_computed(kind: str) -> None:
    settings = config(responses_per_prompt=3, prompts_per_step=4)
    learner, made = ready(settings, kind, split_depth=1)
    rollout = rolled_out(learner, made, settings)
    assert len({n for b in rollout.bundles for n in b.lengths}) > 2
    ids = [
        bundle(torch.tensor(tiny.chat().prompt_ids(rollout.prompts[rows[0]])), [said[r] for r in rows])
        for said in [[t[m][:-1] for t, m in zip(rollout.response_tokens_BT, rollout.response_mask_BT, strict=True)]]
        for rows in rows_of(rollout.bundles)
    ]
    for found, expected in zip(rollout.bundles, run_lower(made, ids), strict=True):
        assert (found.num_prompt, found.lengths) == (expected.num_prompt, expected.lengths)
        torch.testing.assert_close(found.inputs, expected.inputs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("kind", "stop"), [("llama", ()), ("gpt_neox", ()), ("llama", ("dog", "why who"))])
def test_a_judge_on_the_trunk_finds_the_states_of_generation(kind: str, stop: tuple[str, ...]) -> None:
    """Every response that reads as it was drawn is scored without the layers below the split; one that does not (a
    special token leaves no text) is computed from its own ids. A memory without room gives the same rollout; where the
    disk has room the judge's states are those that log-probs and values are read from."""
    settings = config(responses_per_prompt=3, prompts_per_step=4, stop=stop)
    seen: list[tuple[Rollout, int]] = []
    for gigabytes, on_disk in ((1.0, 0.0), (0.0, 0.0), (0.0, 1.0)):
        learner, made = ready(settings, kind, split_depth=1)
        made.memory.gigabytes, made.memory.gigabytes_on_disk = gigabytes, on_disk
        judge = RewardModel(made, tiny.chat(), ["overall"], part="reward", adapter=LORA, seed=0)
        computed: list[int] = []

        def count(
            _module: Any, inputs: tuple[Tensor, Tensor], named: dict[str, Any], _out: Tensor, to: list[int] = computed
        ) -> None:
            if named["mode"] == "lower":
                to.append(int(inputs[1].sum()))

        made.register_forward_hook(count, with_kwargs=True)
        seen.append((rolled_out(learner, made, settings, reward=judge), sum(computed)))
        made.memory.forget()
    (kept, some), (bare, every), (filed, once) = seen
    assert kept.texts == bare.texts == filed.texts
    assert len(set(kept.finished_B.tolist())) == 2  # some are closed in place of their end, some behind the limit
    if stop:
        last = [t[m][-1].item() for t, m in zip(kept.response_tokens_BT, kept.response_mask_BT, strict=True)]
        assert tiny.ID["dog"] in last
    for name in ("scores_BO", "logprobs_BT", "ref_logprobs_BT", "values_BT"):
        torch.testing.assert_close(getattr(kept, name), getattr(bare, name), atol=2e-5, rtol=0)
        torch.testing.assert_close(getattr(filed, name), getattr(bare, name), atol=2e-5, rtol=0)
    assert some < every
    assert once < every
    if kind == "llama":
        chat, expected, by_judge, anew = tiny.chat(), 0, 0, 0
        for rows in rows_of(kept.bundles):
            prompt, drawn = (
                kept.prompts[rows[0]],
                [kept.response_tokens_BT[r][kept.response_mask_BT[r]].tolist() for r in rows],
            )
            closed = [[*(t[:-1] if kept.finished_B[r] else t), tiny.END] for r, t in zip(rows, drawn, strict=True)]
            read = [list(chat.encode(prompt, kept.texts[r]).tokens) for r in rows]
            before = chat.prompt_ids(prompt)
            others = [r for r, c in zip(read, closed, strict=True) if r != before + c]
            expected += sum(len(o) - len(before) for o in others) + len(before) * bool(others)
            by_judge += sum(len(one) - len(before) for one in read) + len(before)
            strange = [t for t, r, c in zip(drawn, read, closed, strict=True) if r != before + c]
            anew += sum(len(t) - 1 for t in strange) + len(before) * bool(strange)
        assert some == expected < every / 2
        assert once == by_judge + anew


def test_the_gradient_is_a_mean_over_the_tokens_of_the_minibatch() -> None:
    """Written out: every token's loss over their number, the rows outside the minibatch not seen at all."""
    settings = config()
    learner, made = ready(settings)
    rollout = rolled_out(learner, made, settings)
    advantages, returns = advantages_like(rollout)
    bundles = [1, 2, 5]
    figures = minibatch_gradients(learner, rollout, advantages, returns, bundles, 4096)
    found = gradients_of(learner)

    policy_total, value_total, entropy_total, count = torch.zeros(()), torch.zeros(()), 0.0, 0
    for b in (row for one in bundles for row in rows_of(rollout.bundles)[one]):
        prompt, tokens, mask = sequences_of(rollout)[b]
        whole = torch.cat([prompt, tokens[mask]])[None]
        real = torch.ones_like(whole, dtype=torch.bool)
        places = slice(len(prompt) - 1, whole.shape[1] - 1)
        logits = made.logits(made(whole, real, part=POLICY)[0, places], part=POLICY) / 0.7
        logprobs = logits.log_softmax(-1)
        entropy_total += -(logprobs.exp() * logprobs).sum().item()
        chosen = logprobs[torch.arange(int(mask.sum())), tokens[mask]]
        ratio, gain = (chosen - rollout.logprobs_BT[b][mask]).exp(), advantages[b][mask]
        policy_total = policy_total - torch.minimum(ratio * gain, ratio.clamp(0.8, 1.2) * gain).sum()
        value = learner.value_head(made(whole, real, part=VALUE)[0, places])
        value_total = value_total + 0.5 * (value - returns[b][mask]).square().sum()  # V is V_old: no clip
        count += int(mask.sum())
    (policy_total / count + value_total / count).backward()
    for one, other in zip(found, gradients_of(learner), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)
    assert figures["policy_loss"] == pytest.approx(policy_total.item() / count, abs=1e-5)
    assert figures["value_loss"] == pytest.approx(value_total.item() / count, abs=1e-5)
    assert figures["entropy"] == pytest.approx(entropy_total / count, abs=1e-5)


def test_a_sampler_that_disagrees_is_weighed_and_measured() -> None:
    """It gave the tokens half, a third and all of what the trunk gives them, in turns: they weigh 2, 2 (the cap), 1."""
    settings = config(old_logprobs="recomputed", sampler_weight_cap=2.0)
    learner, made = ready(settings)
    rollout = rolled_out(learner, made, settings)
    shares_BT = torch.tensor([1 / 2, 1 / 3, 1.0])[torch.arange(rollout.response_mask_BT.numel()) % 3]
    shares_BT = shares_BT.reshape(rollout.response_mask_BT.shape)
    odd = dataclasses.replace(rollout, sampler_logprobs_BT=rollout.logprobs_BT + shares_BT.log())
    advantages, returns = advantages_like(rollout)
    every = list(range(len(rollout.bundles)))
    figures = minibatch_gradients(learner, odd, advantages, returns, every, 4096)
    found = gradients_of(learner)
    # At ratio 1 the loss is linear in the advantage, so that weighted tokens are tokens of other advantages.
    same = dataclasses.replace(rollout, sampler_logprobs_BT=rollout.logprobs_BT)
    weighed_BT = advantages * (1 / shares_BT).clamp(max=2.0)
    expected = minibatch_gradients(learner, same, weighed_BT, returns, every, 4096)
    for one, other in zip(found, gradients_of(learner), strict=True):
        torch.testing.assert_close(one, other, atol=1e-7, rtol=1e-4)
    assert figures["policy_loss"] == pytest.approx(expected["policy_loss"], abs=1e-6)

    ratios = (1 / shares_BT)[rollout.response_mask_BT].double()
    mismatch = sampler_mismatch(odd)
    assert mismatch["sampler_mismatch/kl"] == pytest.approx(float((ratios - 1 - ratios.log()).mean()), abs=1e-6)
    assert mismatch["sampler_mismatch/largest"] == pytest.approx(1.0986123, abs=1e-5)
    assert sampler_mismatch(same) == {"sampler_mismatch/kl": 0.0, "sampler_mismatch/largest": 0.0}
    assert sampler_mismatch(littered(odd)) == mismatch


def test_the_epochs_end_when_the_policy_has_moved_too_far() -> None:
    rate = Optimizer(learning_rate=0.03, warmup=0.0, schedule="constant")
    free = config(epochs=4, minibatches=2, optimizer=rate)
    short = config(epochs=4, minibatches=2, optimizer=rate, stop_epochs_at_kl=1e-3)
    done: list[dict[str, float]] = []
    for settings in (free, short):
        learner, made = ready(settings)
        rollout = rolled_out(learner, made, settings)
        done.append(update(learner, rollout, *advantages_like(rollout), step=0))
    assert done[0]["minibatches_done"] == 8.0
    assert 1.0 <= done[1]["minibatches_done"] < 8.0
    assert done[1]["first_ratio_error"] <= 1e-5


def test_a_loss_that_is_not_finite_ends_the_act() -> None:
    settings = config()
    learner, made = ready(settings)
    rollout = rolled_out(learner, made, settings)
    advantages, returns = advantages_like(rollout)
    before = [p.clone() for p in made.part(POLICY).parameters()]
    with pytest.raises(TrainingError, match="Act III, step 3, epoch 0: the value_loss is nan"):
        update(learner, rollout, advantages, returns * float("nan"), step=3)
    assert all(torch.equal(a, b) for a, b in zip(before, made.part(POLICY).parameters(), strict=True))
