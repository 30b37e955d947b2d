"""A whole PPO step by what it writes down: padding, bookkeeping, leave-one-out, where the value begins."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import tiny
from plaudit.data.formats import prompt_of
from plaudit.material import Material
from plaudit.models.checkpoints import load_tensors
from plaudit.models.loading import load_causal_lm
from plaudit.models.sequences import bundle, run_lower
from plaudit.models.trunk import Trunk
from plaudit.progress import Journal
from plaudit.recipe import KL, PPO, Adapter
from plaudit.rl import ppo as room
from plaudit.rl.ppo import Learner, describe, minibatch_gradients, ppo, sampler_mismatch
from plaudit.rl.rollout import POLICY, VALUE, collect
from plaudit.rounds import run
from plaudit.tensors import masked_mean
from plaudit.types import InputError, Judged, Message, Prompt, RewardFunction, Rollout
from steps import FULL, LORA, config, littered, ready, rolled_out

# -- padding --------------------------------------------------------------------------------------------------------


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


def test_a_prompt_that_is_drawn_twice_gets_other_answers() -> None:
    """Those that it would have had as so many samples of one."""
    settings = config(responses_per_prompt=2)
    learner, made = ready(settings)
    one, other = tiny.questions(2)
    once = rolled_out(learner, made, config(responses_per_prompt=4), prompts=[one])
    twice = rolled_out(learner, made, settings, prompts=[one, other, one])
    assert (*twice.texts[:2], *twice.texts[4:]) == once.texts
    assert len(set(once.texts)) > 1


def test_states_are_held_once() -> None:
    """What the bundles have is forgotten; where there was no room for all, what there is helps on."""
    settings = config()
    for gigabytes, kept in ((1.0, False), (4e-6, True)):
        made = Trunk(tiny.model(), 1, boundary_gigabytes=gigabytes)
        learner = Learner(made, settings, seed=0, value_start=None)
        rollout = rolled_out(learner, made, settings)
        assert all(one.inputs.dim() == (1 if kept else 2) for one in rollout.bundles)
        held = made.memory._states.values()  # pyright: ignore[reportPrivateUsage]
        assert (sum(states.numel() for states in held) > 0) == kept


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


@pytest.mark.parametrize("adapter", [LORA, FULL])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_responses_drawn_by_rounded_products(kind: str, adapter: Adapter) -> None:
    """The ratio is taken to the trunk's own log-probs, which stay exact; what was drawn is another distribution."""
    settings = config(adapter=adapter, value_adapter=adapter)
    rounded = Trunk(tiny.model(kind), decoding_dtype=torch.bfloat16)
    learner = Learner(rounded, settings, seed=0, value_start=None)
    tiny.move(rounded, POLICY, by=0.05)
    rollout = rolled_out(learner, rounded, settings)
    found = sampler_mismatch(rollout)
    assert 0 < found["sampler_mismatch/kl"] < found["sampler_mismatch/largest"] < 0.5
    exact = Trunk(tiny.model(kind))
    teacher = Learner(exact, config(adapter=adapter, value_adapter=adapter), seed=0, value_start=None)
    tiny.move(exact, POLICY, by=0.05)
    figures = minibatch_gradients(teacher, rollout, rollout.logprobs_BT, rollout.logprobs_BT, [0, 1, 2], 4096)
    assert figures["ratio_error"] < 1e-4


def test_no_states_are_kept_of_rounded_products() -> None:
    settings = config()
    rounded = Trunk(tiny.model(), 1, decoding_dtype=torch.bfloat16)
    rounded.shares_prompts = False
    learner = Learner(rounded, settings, seed=0, value_start=None)
    rollout = rolled_out(learner, rounded, settings)
    ids = [
        bundle(torch.tensor(tiny.chat().prompt_ids(p)), [t[m][:-1]])
        for p, t, m in zip(rollout.prompts, rollout.response_tokens_BT, rollout.response_mask_BT, strict=True)
    ]
    for found, expected in zip(rollout.bundles, run_lower(rounded, ids), strict=True):
        torch.testing.assert_close(found.inputs, expected.inputs, atol=1e-6, rtol=1e-6)


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


class Estranged(Nothing):
    """Nothing scores, and every second response is unlike all that was learned from."""

    def judged(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Judged:
        strange_B = torch.tensor([0.99 if i % 2 else 0.95 for i in range(len(responses))])
        return Judged(scores_BEO=torch.zeros(len(responses), 1, 1), strange_B=strange_B)


def test_what_is_unlike_all_that_was_learned_from_pays_for_it(tmp_path: Path) -> None:
    settings = config(unfamiliar_penalty=3.0, missing_eos_penalty=0.0, kl=KL(coefficient=0.0), dump_rollouts=True)
    metrics, responses = dumped(settings, tmp_path, Estranged())
    assert metrics["unfamiliar_share"] == 0.5
    assert metrics["score"] == pytest.approx(-1.5)
    assert [float(one["reward"].sum()) for one in responses] == [-3.0 if i % 2 else 0.0 for i in range(len(responses))]


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


def with_prompts(tmp_path: Path, tiny_folder: Path, demonstrated: list[Prompt], asked: list[Prompt]) -> Material:
    """Twelve prompts to learn on; demonstrations of some, and prompts to evaluate on, in files of their own."""
    shown = [{"prompt": prompt.messages[-1].content, "completion": "yes"} for prompt in demonstrated]
    data = {
        "prompts": tiny.prompt_file(tmp_path / "prompts.jsonl", tiny.questions(12, seed=3)),
        "evaluation_prompts": tiny.prompt_file(tmp_path / "asked.jsonl", asked),
        "demonstrations": tiny.write_rows(tmp_path / "shown.jsonl", shown),
    }
    return Material(tiny.recipe(tmp_path, tiny_folder, data=data, evaluation={"prompts": 50}))


def test_what_is_learned_from_is_not_evaluated_on(tmp_path: Path, tiny_folder: Path) -> None:
    """Of twenty prompts to evaluate on five are among PPO's, as the first turn of a longer one too, and four others
    were demonstrated."""
    learned, others = tiny.questions(12, seed=3), tiny.questions(15, seed=9)
    assert not {p.id for p in learned} & {p.id for p in others}
    longer = prompt_of([*learned[4].messages, Message(role="assistant", content="no"), *others[0].messages])
    material = with_prompts(tmp_path, tiny_folder, others[:4], [*learned[:4], longer, *others])
    assert len(material.ppo_prompts(tiny.chat(), 0)) == 12
    assert sorted(p.id for p in material.evaluation_prompts(tiny.chat())) == sorted(p.id for p in others[4:])
    assert material.noted["left_out"]["prompts of evaluation"] == {
        "it is among the prompts or demonstrations that are learned from": 9
    }


def test_where_every_prompt_to_evaluate_on_is_learned_from_none_is_asked(tmp_path: Path, tiny_folder: Path) -> None:
    shown = tiny.questions(4, seed=9)
    material = with_prompts(tmp_path, tiny_folder, shown, [*tiny.questions(12, seed=3), *shown])
    with pytest.raises(InputError, match=r"every prompt to evaluate on is among .*data\.evaluation_prompts"):
        material.ppo_prompts(tiny.chat(), 0)
