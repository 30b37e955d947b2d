"""One PPO step by its figures: ratio one, zero KL, bookkeeping, and gradients that no batching changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import tiny
from plaudit.material import Material
from plaudit.models.checkpoints import load_tensors
from plaudit.models.loading import load_causal_lm
from plaudit.models.optimization import MicroBatches
from plaudit.models.sequences import bundle, run_lower
from plaudit.models.trunk import Trunk
from plaudit.progress import Journal, Phases
from plaudit.recipe import KL, PPO, Adapter, Optimizer
from plaudit.reward.model import RewardModel
from plaudit.rl import ppo as room
from plaudit.rl.loss import value_loss
from plaudit.rl.ppo import Learner, describe, minibatch_gradients, ppo, sampler_mismatch, update
from plaudit.rl.rollout import POLICY, VALUE, checked_scores, collect, read_off, rows_of
from plaudit.rounds import run
from plaudit.tensors import masked_mean
from plaudit.types import InputError, Prompt, RewardFunction, Rollout, TrainingError

GRIDS = ("logprobs_BT", "sampler_logprobs_BT", "ref_logprobs_BT", "values_BT")
LORA = Adapter(rank=4, alpha=8.0)
FULL = Adapter(kind="full")


def config(**changes: Any) -> PPO:
    values: dict[str, Any] = {
        "adapter": LORA,
        "value_adapter": LORA,
        "optimizer": Optimizer(learning_rate=3e-3, warmup=0.0, schedule="constant"),
        "steps": 1,
        "prompts_per_step": 6,
        "responses_per_prompt": 2,
        "max_new_tokens": 8,
        "temperature": 0.7,
        "stop_epochs_at_kl": None,
    }
    return PPO(**{**values, **changes})


def ready(settings: PPO, kind: str = "llama", *, moved: bool = True, split_depth: int = 0) -> tuple[Learner, Trunk]:
    made = tiny.trunk(kind, split_depth)
    learner = Learner(made, settings, seed=0, value_start=None)
    if moved:
        for part in learner.parts:
            tiny.move(made, part, by=0.05)
        with torch.no_grad():
            learner.value_head.weight.copy_(torch.linspace(-0.3, 0.3, made.width))
    return learner, made


def rolled_out(
    learner: Learner, made: Trunk, settings: PPO, *, step: int = 0, reward: RewardFunction | None = None
) -> Rollout:
    made.memory.renew()
    return collect(
        made,
        learner.value_head,
        made.decoder(POLICY),
        tiny.chat(),
        reward or tiny.CountWord(),
        tiny.questions(settings.prompts_per_step),
        settings,
        seed=0,
        step=step,
        phases=Phases(),
    )


def advantages_like(rollout: Rollout, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = rollout.response_mask_BT.shape
    return tuple(torch.randn(shape, generator=generator) * rollout.response_mask_BT for _ in range(2))  # pyright: ignore


# -- ratio one ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "split_depth", "adapter"),
    [
        ("llama", 0, LORA),
        ("llama", 1, LORA),
        ("llama", 0, FULL),
        ("gpt2", 0, LORA),
        ("gpt_neox", 1, LORA),
        ("qwen2", 0, FULL),
    ],
)
@pytest.mark.parametrize(("source", "tolerance"), [("recomputed", 1e-6), ("sampler", 1e-5)])
@pytest.mark.parametrize("top_p", [1.0, 0.8])
def test_the_first_ratio_is_1(
    kind: str, split_depth: int, adapter: Adapter, source: str, tolerance: float, top_p: float
) -> None:
    """Sampling and training see the same distribution: the merged, cached, left-padded model and the adapted trunk."""
    settings = config(
        adapter=adapter, value_adapter=adapter, old_logprobs=source, top_p=top_p, tokens_per_microbatch=64
    )
    learner, made = ready(settings, kind, split_depth=split_depth)
    rollout = rolled_out(learner, made, settings)
    assert len(set(rollout.response_mask_BT.sum(dim=1).tolist())) > 1  # ragged, or this would prove little
    seen = minibatch_gradients(learner, rollout, *advantages_like(rollout), list(range(len(rollout.bundles))), 64)
    assert seen["ratio_error"] <= tolerance
    assert seen["approx_kl"] == pytest.approx(0.0, abs=1e-10)
    assert seen["clip_fraction"] == 0.0


@pytest.mark.parametrize("adapter", [LORA, FULL])
@pytest.mark.parametrize(("source", "tolerance"), [("recomputed", 0.0), ("sampler", 1e-5)])
def test_the_kl_is_0_before_the_first_update(adapter: Adapter, source: str, tolerance: float) -> None:
    settings = config(adapter=adapter, value_adapter=adapter, old_logprobs=source)
    learner, made = ready(settings, moved=False)
    rollout = rolled_out(learner, made, settings)
    torch.testing.assert_close(rollout.logprobs_BT, rollout.ref_logprobs_BT, atol=tolerance, rtol=0)
    tiny.move(made, POLICY, by=0.05)
    again = rolled_out(learner, made, settings)
    assert not torch.allclose(again.logprobs_BT, again.ref_logprobs_BT, atol=1e-2)


def test_the_reference_does_not_move_with_the_policy() -> None:
    settings = config(old_logprobs="recomputed")
    learner, made = ready(settings)
    rollout = rolled_out(learner, made, settings)
    update(learner, rollout, *advantages_like(rollout), step=0)
    after = read_off(
        made,
        learner.value_head,
        rollout.bundles,
        rollout.response_tokens_BT,
        rollout.response_mask_BT,
        settings,
        policy=True,
    )
    assert torch.equal(after[1], rollout.ref_logprobs_BT)
    assert not torch.allclose(after[0], rollout.logprobs_BT, atol=1e-4)
    assert not torch.allclose(after[2], rollout.values_BT, atol=1e-4)


def _sequences(rollout: Rollout) -> list[tuple[Tensor, Tensor, Tensor]]:
    prompts = [torch.tensor(tiny.chat().prompt_ids(p)) for p in rollout.prompts]
    return list(zip(prompts, rollout.response_tokens_BT, rollout.response_mask_BT, strict=True))


# -- values and scores ----------------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_value_is_read_where_its_token_is_predicted() -> None:
    """V_t stands at the state before token t: it does not know that token yet."""
    settings = config()
    learner, made = ready(settings, "gpt2")
    rollout = rolled_out(learner, made, settings)
    merged = made.decoding_copy(VALUE)
    for b, (prompt, tokens, mask) in enumerate(_sequences(rollout)):
        whole = torch.cat([prompt, tokens[mask]])
        states = merged.base_model(input_ids=whole[None]).last_hidden_state[0]  # pyright: ignore
        expected = states @ learner.value_head.weight + learner.value_head.bias
        found = rollout.values_BT[b][mask]
        torch.testing.assert_close(found, expected[len(prompt) - 1 : len(whole) - 1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("old_logprobs", ["sampler", "recomputed"])
def test_a_value_without_a_part_reads_the_policys_states_and_leaves_them_alone(old_logprobs: str) -> None:
    settings = config(value_adapter=None, old_logprobs=old_logprobs)
    learner, made = ready(settings, split_depth=1)
    assert list(made.parts) == [POLICY]
    rollout = rolled_out(learner, made, settings)
    merged = made.decoding_copy(POLICY)
    for b, (prompt, tokens, mask) in enumerate(_sequences(rollout)):
        whole = torch.cat([prompt, tokens[mask]])
        with torch.no_grad():
            states = merged.base_model(input_ids=whole[None]).last_hidden_state[0]  # pyright: ignore
            expected = learner.value_head(states)[len(prompt) - 1 : len(whole) - 1]
        torch.testing.assert_close(rollout.values_BT[b][mask], expected, atol=1e-5, rtol=1e-5)
    every, (advantages_BT, returns_BT) = list(range(len(rollout.bundles))), advantages_like(rollout)
    gradients: list[list[Tensor]] = []
    for off in (0.0, 3.0):
        minibatch_gradients(learner, rollout, advantages_BT, returns_BT + off, every, 4096)
        gradients.append(gradients_of(learner))
    *policy, weight, bias = zip(*gradients, strict=True)
    assert all(torch.equal(one, other) and float(one.abs().max()) > 0 for one, other in policy)
    assert not torch.allclose(*weight)
    assert not torch.allclose(*bias)


def test_a_rollout_is_0_outside_its_mask() -> None:
    settings = config()
    rollout = rolled_out(*ready(settings), settings)
    outside = ~rollout.response_mask_BT
    assert bool(outside.any())
    for name in (*GRIDS, "response_tokens_BT"):
        assert getattr(rollout, name)[outside].abs().max() == 0
    for b, finished in enumerate(rollout.finished_B.tolist()):
        last = rollout.response_tokens_BT[b][rollout.response_mask_BT[b]][-1].item()
        assert finished == (last in (tiny.END, tiny.STOP))


def test_a_stop_string_ends_a_response_and_its_last_token_is_trained_on() -> None:
    settings = config()
    learner, made = ready(settings)
    free = rolled_out(learner, made, settings)
    whole = [t[m].tolist() for t, m in zip(free.response_tokens_BT, free.response_mask_BT, strict=True)]
    # Two words that somebody says one after the other, and one that others say.
    pair = next(t[1:3] for t in whole if len(t) > 4 and min(t[1:3]) >= len(tiny.SPECIAL))
    stop = (" ".join(tiny.VOCABULARY[i] for i in pair), "dog")
    settings = config(stop=stop)
    heard: list[str] = []

    class Listening(tiny.CountWord):
        def __call__(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
            heard.extend(responses)
            return super().__call__(prompts, responses)

    rollout = rolled_out(*ready(settings), settings, reward=Listening())
    ended = 0
    for b, tokens in enumerate(whole):
        spoken = [i for i in tokens if i >= len(tiny.SPECIAL)]
        texts = [tiny.chat().decode(tokens[:n]) for n in range(1, len(tokens) + 1)]
        count = next((n for n, text in enumerate(texts, 1) if any(s in text for s in stop)), None)
        mask, found = rollout.response_mask_BT[b], rollout.response_tokens_BT[b]
        assert found[mask].tolist() == tokens[:count]
        assert int(mask.sum()) == (count or len(tokens))
        if count is None:
            assert rollout.texts[b] == " ".join(tiny.VOCABULARY[i] for i in spoken)
            assert rollout.finished_B[b] == free.finished_B[b]
            continue
        ended += 1
        assert bool(rollout.finished_B[b])
        cut = min(at for s in stop if (at := texts[count - 1].find(s)) >= 0)
        assert rollout.texts[b] == texts[count - 1][:cut]
        assert not any(s in rollout.texts[b] for s in stop)
        for name in GRIDS:
            torch.testing.assert_close(
                getattr(rollout, name)[b][:count], getattr(free, name)[b][:count], atol=1e-5, rtol=1e-5
            )
    assert len({*rollout.response_mask_BT.sum(dim=1).tolist()}) > 2
    assert 2 <= ended < len(whole)
    assert tuple(heard) == rollout.texts  # the judge reads what people would


class Wrong(tiny.CountWord):
    def __init__(self, scores: object) -> None:
        self.scores = scores

    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Any:
        return self.scores


def test_scores_must_be_one_finite_number_each() -> None:
    prompts, texts = tiny.questions(2), ["yes", "no red"]
    assert checked_scores(Wrong([[1], [2]]), prompts, texts).tolist() == [[1.0], [2.0]]
    with pytest.raises(InputError, match=r"shape \(2,\), expected \(2, 1\)"):
        checked_scores(Wrong([1.0, 2.0]), prompts, texts)
    with pytest.raises(InputError, match=r"shape \(2, 2\), expected \(2, 1\)"):
        checked_scores(Wrong([[1.0, 2.0], [1.0, 2.0]]), prompts, texts)
    for bad in (float("nan"), float("inf")):
        with pytest.raises(InputError, match=r"'no red'.*must be finite"):
            checked_scores(Wrong([[1.0], [bad]]), prompts, texts)


# -- padding --------------------------------------------------------------------------------------------------------


def littered(rollout: Rollout) -> Rollout:
    """The same rollout with other things outside its mask: sentinels, NaN, and real-looking tokens."""
    outside = ~rollout.response_mask_BT
    junk = {"logprobs_BT": 1.0, "sampler_logprobs_BT": -40.0, "ref_logprobs_BT": -7.0, "values_BT": float("nan")}
    changed = {name: getattr(rollout, name).masked_fill(outside, value) for name, value in junk.items()}
    changed["response_tokens_BT"] = rollout.response_tokens_BT.masked_fill(outside, tiny.ID["yes"])
    return dataclasses.replace(rollout, **changed)


def run_one(
    settings: PPO, folder: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Rollout], Rollout]
) -> tuple[dict[str, float], Trunk]:
    made = tiny.trunk()
    monkeypatch.setattr(room, "collect", lambda *args, **more: change(collect(*args, **more)))
    folder.mkdir()
    with Journal(folder, quiet=True) as journal:
        metrics = ppo(
            made, tiny.chat(), tiny.CountWord(), tiny.questions(9), settings, seed=0, journal=journal, folder=folder
        )
    metrics = {k: v for k, v in metrics.items() if not k.startswith(("seconds", "utilisation", "tokens_per"))}
    return metrics, made


def test_what_stands_in_the_padding_changes_nothing_metrics_included(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(steps=3, minibatches=2, kl=KL(coefficient=0.3))
    clean, one = run_one(settings, tmp_path / "clean", monkeypatch, lambda rollout: rollout)
    dirty, other = run_one(settings, tmp_path / "dirty", monkeypatch, littered)
    assert clean == dirty
    for part in (POLICY, VALUE):
        for a, b in zip(one.part(part).parameters(), other.part(part).parameters(), strict=True):
            assert torch.equal(a, b)


def test_the_mask_is_used_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting padding as real changes the figures: the test above would otherwise pass with no mask anywhere."""

    def unmasked(rollout: Rollout) -> Rollout:
        return dataclasses.replace(rollout, response_mask_BT=torch.ones_like(rollout.response_mask_BT))

    settings = config()
    learner, made = ready(settings)
    rollout = rolled_out(learner, made, settings)
    honest = describe(
        rollout, rollout.values_BT, torch.zeros(12), torch.zeros(12), rollout.values_BT, objectives=["yes"]
    )
    other = unmasked(rollout)
    fooled = describe(other, other.values_BT, torch.zeros(12), torch.zeros(12), other.values_BT, objectives=["yes"])
    assert honest["response_length"] < fooled["response_length"]
    assert honest["value"] == pytest.approx(masked_mean(rollout.values_BT, rollout.response_mask_BT).item())


# -- gradients ------------------------------------------------------------------------------------------------------


def gradients_of(learner: Learner) -> list[Tensor]:
    found = [
        p.grad.clone()
        for s in (learner.policy_stepper, learner.value_stepper)
        for p in s.parameters
        if p.grad is not None
    ]
    learner.policy_stepper.drop()
    learner.value_stepper.drop()
    return found


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
        assert (learner.micro.tokens < 4096) == (most == 40)
    for one, other in zip(*parts, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


def test_memory_that_holds_not_even_one_row_is_an_error() -> None:
    def never(tokens: int) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")

    dropped: list[int] = []
    with pytest.raises(TrainingError, match="Act III, step 2: memory does not suffice even for micro-batches of 12"):
        MicroBatches(100).run(never, drop=lambda: dropped.append(1), where="Act III, step 2")
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
        assert (one - other).norm() <= 1e-4 * other.norm() + 1e-7


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
    special token leaves no text) is computed from its own ids. A memory without room gives the same rollout."""
    settings = config(responses_per_prompt=3, prompts_per_step=4, stop=stop)
    seen: list[tuple[Rollout, int]] = []
    for gigabytes in (1.0, 0.0):
        learner, made = ready(settings, kind, split_depth=1)
        made.memory.gigabytes = gigabytes
        judge = RewardModel(made, tiny.chat(), ["overall"], part="reward", adapter=LORA, seed=0)
        computed: list[int] = []

        def count(
            _module: Any, inputs: tuple[Tensor, Tensor], named: dict[str, Any], _out: Tensor, to: list[int] = computed
        ) -> None:
            if named["mode"] == "lower":
                to.append(int(inputs[1].sum()))

        made.register_forward_hook(count, with_kwargs=True)
        seen.append((rolled_out(learner, made, settings, reward=judge), sum(computed)))
    (kept, some), (bare, every) = seen
    assert kept.texts == bare.texts
    assert len(set(kept.finished_B.tolist())) == 2  # some are closed in place of their end, some behind the limit
    if stop:
        last = [t[m][-1].item() for t, m in zip(kept.response_tokens_BT, kept.response_mask_BT, strict=True)]
        assert tiny.ID["dog"] in last
    for name in ("scores_BO", "logprobs_BT", "ref_logprobs_BT", "values_BT"):
        torch.testing.assert_close(getattr(kept, name), getattr(bare, name), atol=2e-5, rtol=0)
    assert some < every
    if kind == "llama":
        chat, expected = tiny.chat(), 0
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
        assert some == expected < every / 2


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
        prompt, tokens, mask = _sequences(rollout)[b]
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


def test_a_sampler_that_agrees_weighs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32 the cap changes no bit; in bfloat16 the mismatch is there, and logged."""
    seen: list[tuple[dict[str, float], Trunk]] = []
    for cap in (None, 1.0, 2.0):
        seen.append(run_one(config(steps=2, sampler_weight_cap=cap), tmp_path / str(cap), monkeypatch, lambda r: r))
    for metrics, made in seen[1:]:
        assert metrics == seen[0][0]
        assert not any(name.startswith("sampler_mismatch") for name in metrics)
        for one, other in zip(made.part(POLICY).parameters(), seen[0][1].part(POLICY).parameters(), strict=True):
            assert torch.equal(one, other)
    settings = config()
    coarse = Trunk(tiny.model().bfloat16())
    learner = Learner(coarse, settings, seed=0, value_start=None)
    tiny.move(coarse, POLICY, by=0.05)
    found = sampler_mismatch(rolled_out(learner, coarse, settings))
    assert 0 < found["sampler_mismatch/kl"] < found["sampler_mismatch/largest"] < 0.5


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


# -- bookkeeping, from what a whole step writes down ----------------------------------------------------------------


class Nothing(tiny.CountWord):
    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        return torch.zeros(len(responses), 1)


def dumped(settings: PPO, folder: Path, reward: RewardFunction) -> tuple[dict[str, float], list[dict[str, np.ndarray]]]:
    """The metrics of the last step, and the tokens of its responses, one table each."""
    parquet = pytest.importorskip("pyarrow.parquet")
    with Journal(folder, quiet=True) as journal:
        metrics = ppo(
            tiny.trunk(), tiny.chat(), reward, tiny.questions(9), settings, seed=0, journal=journal, folder=folder
        )
    table = parquet.read_table(sorted((folder / "rollouts").glob("*.parquet"))[-1]).to_pydict()
    columns = {name: np.array(values) for name, values in table.items()}
    return metrics, [
        {name: values[columns["row"] == row] for name, values in columns.items()} for row in sorted(set(columns["row"]))
    ]


def test_a_step_from_rollout_to_advantages(tmp_path: Path) -> None:
    """Score, leash, penalty, GAE and whitening of the third step, again by a slow loop in float64."""
    settings = config(steps=3, kl=KL(coefficient=0.3), gamma=0.98, lam=0.9, missing_eos_penalty=1.5, dump_rollouts=True)
    metrics, responses = dumped(settings, tmp_path, tiny.CountWord())
    assert len(responses) == 12
    scores, kls, sums, raw = [], [], [], []
    for one in responses:
        assert one["position"].tolist() == list(range(len(one["token"])))
        finished = one["token"][-1] in (tiny.END, tiny.STOP)
        assert not set(one["token"][:-1]) & {tiny.END, tiny.STOP}
        score = float((one["token"] == tiny.ID["yes"]).sum()) - (0.0 if finished else 1.5)
        k1 = one["logprob"] - one["ref_logprob"]
        expected = -0.3 * k1
        expected[-1] += score
        np.testing.assert_allclose(one["reward"], expected, atol=1e-5)
        assert one["reward"].sum() == pytest.approx(score - 0.3 * k1.sum(), abs=1e-5)
        scores.append(score)
        kls.append(k1.sum())
        sums.append(one["reward"].sum())
        values = np.append(one["value"], 0.0)
        errors = expected + 0.98 * values[1:] - values[:-1]
        raw.append([sum((0.98 * 0.9) ** k * e for k, e in enumerate(errors[t:])) for t in range(len(errors))])
    flat = np.concatenate(raw)
    whitened = (flat - flat.mean()) / flat.std()  # numpy's is the population's
    np.testing.assert_allclose(np.concatenate([one["advantage"] for one in responses]), whitened, atol=1e-4)
    assert abs(np.mean(kls)) > 1e-3  # by now there is something to leash
    assert 0 < metrics["finished_share"] < 1  # and something to penalise
    for name, value in (("score", scores), ("kl", kls), ("reward", sums)):
        assert metrics[name] == pytest.approx(np.mean(value), abs=1e-4), name
    assert metrics["response_length"] == pytest.approx(len(flat) / 12)
    assert metrics["kl_coefficient"] == 0.3


def test_a_response_that_does_not_end_pays_for_it(tmp_path: Path) -> None:
    settings = config(missing_eos_penalty=2.0, kl=KL(coefficient=0.0), dump_rollouts=True)
    metrics, responses = dumped(settings, tmp_path, Nothing())
    assert 0 < metrics["finished_share"] < 1
    assert metrics["score"] == pytest.approx(-2.0 * (1 - metrics["finished_share"]))
    for one in responses:
        ended = one["token"][-1] in (tiny.END, tiny.STOP)
        assert one["reward"].tolist() == [0.0] * (len(one["token"]) - 1) + [0.0 if ended else -2.0]


class PromptLength(tiny.CountWord):
    """The same score for every response to a prompt."""

    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        return torch.tensor([[float(len(prompt.messages[-1].content.split()))] for prompt in prompts])


def test_leave_one_out_pays_the_difference_to_the_others(tmp_path: Path) -> None:
    """Group by group from the written tokens; the penalty is part of the score, and `score` stays the score itself."""
    settings = config(
        steps=3,
        prompts_per_step=4,
        responses_per_prompt=3,
        baseline="leave_one_out",
        kl=KL(coefficient=0.3),
        missing_eos_penalty=1.5,
        dump_rollouts=True,
    )
    metrics, responses = dumped(settings, tmp_path, tiny.CountWord())
    assert len(responses) == 12
    ended = [one["token"][-1] in (tiny.END, tiny.STOP) for one in responses]
    scores = [
        float((one["token"] == tiny.ID["yes"]).sum()) - 1.5 * (not end)
        for one, end in zip(responses, ended, strict=True)
    ]
    for b, one in enumerate(responses):
        group = range(b - b % 3, b - b % 3 + 3)
        assert len({responses[g]["prompt"][0] for g in group}) == 1
        expected = -0.3 * (one["logprob"] - one["ref_logprob"])
        expected[-1] += scores[b] - sum(scores[g] for g in group if g != b) / 2
        np.testing.assert_allclose(one["reward"], expected, atol=1e-5)
    assert len(set(scores)) > 1
    assert metrics["score"] == pytest.approx(np.mean(scores), abs=1e-5)


@pytest.mark.parametrize("baseline", ["leave_one_out", "none"])
def test_prompts_that_differ_teach_nothing_where_responses_do_not(baseline: str, tmp_path: Path) -> None:
    """Every response to a prompt scores the same: against the others that is 0, and the policy stays where it is."""
    settings = config(steps=2, baseline=baseline, missing_eos_penalty=0.0, old_logprobs="recomputed")
    made = tiny.trunk()
    with Journal(tmp_path, quiet=True) as journal:
        metrics = ppo(
            made, tiny.chat(), PromptLength(), tiny.questions(9), settings, seed=0, journal=journal, folder=tmp_path
        )
    moved = any(bool(p.abs().max() > 0) for p in (u.B for u in made.part(POLICY).updates))  # pyright: ignore
    assert moved == (baseline == "none")
    assert (metrics["reward"] == 0.0) == (baseline == "leave_one_out")
    assert metrics["score"] > 0


def test_leave_one_out_needs_others(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ppo.baseline: leave_one_out needs ppo.responses_per_prompt of 2 or more"):
        tiny.recipe(tmp_path, "no/model", ppo={"baseline": "leave_one_out", "responses_per_prompt": 1})
    assert tiny.recipe(tmp_path, "no/model", ppo={"baseline": "leave_one_out", "responses_per_prompt": 2})


@pytest.mark.parametrize("start", ["judge", "zero"])
def test_where_the_value_begins(start: str, tmp_path: Path, tiny_folder: Path) -> None:
    """From zero every value of the first step is 0; from the judge they differ. Zero frees the value's adapter."""
    parquet = pytest.importorskip("pyarrow.parquet")
    change = {"value_adapter": {"rank": 2, "alpha": 4.0}} if start == "zero" else {}
    settings = {"value_start": start, "steps": 1, "dump_rollouts": True}
    result = run(tiny.recipe(tmp_path, tiny_folder, ppo={**settings, **change}), quiet=True)
    values = parquet.read_table(result.folder / "round_0/ppo/rollouts/step_00000.parquet")["value"].to_pylist()
    assert len(values) > 4
    if start == "zero":
        assert set(values) == {0.0}
    else:
        assert len(set(values)) > 4


def test_the_value_may_learn_at_a_rate_of_its_own() -> None:
    for own, expected in ((1e-4, 1e-4), (None, 3e-3)):
        learner, _ = ready(config(value_learning_rate=own), moved=False)
        assert learner.policy_stepper.learning_rate == pytest.approx(3e-3)
        assert learner.value_stepper.learning_rate == pytest.approx(expected)


def test_judge_and_policy_stand_on_the_sft_model(tmp_path: Path, tiny_folder: Path) -> None:
    folder = run(tiny.recipe(tmp_path, tiny_folder, ppo={"steps": 1}), quiet=True).folder / "round_0"
    base, tuned = (Trunk(load_causal_lm(str(f), device="cpu")).hash() for f in (tiny_folder, folder / "sft" / "model"))
    for file in ("reward/judge.safetensors", "ppo/state.safetensors"):
        assert load_tensors(folder / file, trunk_hash=tuned)
        with pytest.raises(InputError, match="belongs to another trunk"):
            load_tensors(folder / file, trunk_hash=base)


def test_the_adaptive_coefficient_is_used_from_the_next_step_on(tmp_path: Path) -> None:
    settings = config(steps=2, kl=KL(controller="adaptive", coefficient=0.1, target=0.5, horizon=100))
    metrics, _ = dumped(settings.model_copy(update={"dump_rollouts": True}), tmp_path, tiny.CountWord())
    # The first step has KL 0: as far below the target as counts, over 12 episodes.
    assert metrics["kl_coefficient"] == pytest.approx(0.1 * (1 - 0.2 * 12 / 100))


def test_prompts_come_pass_after_pass() -> None:
    prompts = tiny.questions(5)
    drawn = [p for step in range(4) for p in room.draw_prompts(prompts, 5, seed=1, step=step)]
    for turn in range(4):
        assert {p.id for p in drawn[5 * turn : 5 * turn + 5]} == {p.id for p in prompts}
    assert [p.id for p in drawn[:5]] != [p.id for p in drawn[5:10]]
    assert [p.id for p in room.draw_prompts(prompts, 7, seed=1, step=1)][:3] == [p.id for p in drawn[7:10]]


def test_prompts_that_a_judge_was_trained_on_are_not_asked(tmp_path: Path, tiny_folder: Path) -> None:
    """Of forty prompts the file of rankings has eight, which neither PPO nor the evaluation gets."""
    ranked, others = tiny.questions(8, seed=3), tiny.questions(32, seed=9)
    assert not {p.id for p in ranked} & {p.id for p in others}
    data = {
        "preferences": ({"path": tiny.pair_file(tmp_path / "pairs.jsonl", 8, seed=3)},),
        "prompts": tiny.prompt_file(tmp_path / "prompts.jsonl", [*ranked, *others]),
    }
    recipe = tiny.recipe(
        tmp_path, tiny_folder, world=None, sft=None, data=data, ppo={"steps": 50}, evaluation={"prompts": 50}
    )
    material = Material(recipe)
    asked = [*material.ppo_prompts(tiny.chat(), 0), *material.evaluation_prompts(tiny.chat())]
    assert sorted(p.id for p in asked) == sorted(p.id for p in others)
