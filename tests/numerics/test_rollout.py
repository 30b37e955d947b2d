"""What a rollout holds: ratio one, zero KL, values in their places, scores checked, nothing outside the mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny
from plaudit.answers import ask
from plaudit.recipe import Adapter
from plaudit.rl.ppo import minibatch_gradients, update
from plaudit.rl.rollout import POLICY, VALUE, read_off
from plaudit.types import InputError, Prompt
from steps import FULL, GRIDS, LORA, advantages_like, config, gradients_of, ready, rolled_out, sequences_of

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
        4096,
        policy=True,
    )
    assert torch.equal(after[1], rollout.ref_logprobs_BT)
    assert not torch.allclose(after[0], rollout.logprobs_BT, atol=1e-4)
    assert not torch.allclose(after[2], rollout.values_BT, atol=1e-4)


# -- values and scores ----------------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_value_is_read_where_its_token_is_predicted() -> None:
    """V_t stands at the state before token t: it does not know that token yet."""
    settings = config()
    learner, made = ready(settings, "gpt2")
    rollout = rolled_out(learner, made, settings)
    merged = made.decoding_copy(VALUE)
    for b, (prompt, tokens, mask) in enumerate(sequences_of(rollout)):
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
    for b, (prompt, tokens, mask) in enumerate(sequences_of(rollout)):
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
    assert ask(Wrong([[1], [2]]), prompts, texts).scores_BEO.tolist() == [[[1.0]], [[2.0]]]
    with pytest.raises(InputError, match=r"shape \(2,\), expected \(2, 1\)"):
        ask(Wrong([1.0, 2.0]), prompts, texts)
    with pytest.raises(InputError, match=r"shape \(2, 2\), expected \(2, 1\)"):
        ask(Wrong([[1.0, 2.0], [1.0, 2.0]]), prompts, texts)
    for bad in (float("nan"), float("inf")):
        with pytest.raises(InputError, match=r"'no red'.*must be finite"):
            ask(Wrong([[1.0], [bad]]), prompts, texts)
